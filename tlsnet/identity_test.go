package tlsnet

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"irohub"
	"irohub/internal/weakkey/forge"
	"irohub/key"
)

func TestBind_IdentityAndAddress(t *testing.T) {
	secret := key.New()
	e := bindTest(t, Options{SecretKey: secret, Addr: "127.0.0.1:0"})
	addr := e.Addr()
	if e.ID() != secret.ID() || addr.ID != secret.ID() {
		t.Errorf("%v and %v, want %v", e.ID(), addr.ID, secret.ID())
	}
	if len(addr.Hosts) != 1 || !strings.HasPrefix(addr.Hosts[0], "127.0.0.1:") || strings.HasSuffix(addr.Hosts[0], ":0") {
		t.Errorf("hosts %q", addr.Hosts)
	}
	dialled, accepted := connect(t, bindTest(t, Options{}), e)
	if dialled.RemoteID() != secret.ID() || accepted.RemoteID() == secret.ID() {
		t.Errorf("remote IDs %v and %v", dialled.RemoteID(), accepted.RemoteID())
	}
	for _, bad := range []string{"127.0.0.1", "nowhere.invalid:0", "127.0.0.1:x"} {
		if _, err := Bind(t.Context(), Options{Addr: bad}); !errors.Is(err, ErrAddr) {
			t.Errorf("%s: %v, want ErrAddr", bad, err)
		}
	}
	if _, err := bindTest(t, Options{}).Accept(t.Context()); !errors.Is(err, ErrAddr) {
		t.Errorf("Accept where nothing listens: %v", err)
	}
}

func TestDial_WrongNodeIDIsClearOnBothSides(t *testing.T) {
	from, to := bindTest(t, Options{}), bindTest(t, Options{Addr: "127.0.0.1:0"})
	answered := make(chan error, 1)
	go func() { _, err := handshake(testContext(t), to); answered <- err }()
	addr := to.Addr()
	addr.ID = key.New().ID()
	_, err := from.Dial(testContext(t), addr)
	if !errors.Is(err, ErrWrongPeer) || !strings.Contains(err.Error(), to.ID().String()) || !strings.Contains(err.Error(), addr.ID.String()) {
		t.Errorf("the dialler: %v", err)
	}
	if err := <-answered; !errors.Is(err, ErrWrongPeer) || !strings.Contains(err.Error(), "another NodeID") {
		t.Errorf("the other side: %v", err)
	}
}

func TestDial_TriesAllHosts(t *testing.T) {
	from, to, other := bindTest(t, Options{}), bindTest(t, Options{Addr: "127.0.0.1:0"}), bindTest(t, Options{Addr: "127.0.0.1:0"})
	for _, e := range []*Endpoint{to, other} {
		go func() {
			for {
				if _, err := handshake(testContext(t), e); errors.Is(err, net.ErrClosed) {
					return
				}
			}
		}()
	}
	closed := bindTest(t, Options{Addr: "127.0.0.1:0"})
	closed.Close()
	addr := to.Addr()
	addr.Hosts = []string{closed.Addr().Hosts[0], other.Addr().Hosts[0], to.Addr().Hosts[0]}
	c, err := from.Dial(testContext(t), addr)
	if err != nil || c.RemoteID() != to.ID() {
		t.Fatalf("%v", err)
	}
	addr.Hosts = addr.Hosts[:2]
	if _, err := from.Dial(testContext(t), addr); !errors.Is(err, ErrWrongPeer) {
		t.Errorf("%v, want what tells most: ErrWrongPeer", err)
	}
	addr.Hosts = addr.Hosts[:1]
	if _, err := from.Dial(testContext(t), addr); !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v, want ErrUnreachable", err)
	}
	if _, err := from.Dial(testContext(t), irohub.Addr{ID: to.ID()}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no host: %v, want ErrUnreachable", err)
	}
}

// A stranger is a peer whose handshake differs from ours.
type stranger struct {
	name   string
	change func(t *testing.T, c *tls.Config)
	dials  error // our side's error when the stranger dials
	server error // our side's error when the stranger is the server
}

var strangers = []stranger{
	{"ok", func(*testing.T, *tls.Config) {}, nil, nil},
	{"no certificate", func(_ *testing.T, c *tls.Config) { c.Certificates = nil }, ErrIdentity, nil},
	{"RSA", func(t *testing.T, c *tls.Config) { c.Certificates = certificates(t, rsaKey(t)) }, ErrIdentity, ErrIdentity},
	{"ECDSA", func(t *testing.T, c *tls.Config) { c.Certificates = certificates(t, ecdsaKey(t)) }, ErrIdentity, ErrIdentity},
	{"forger", func(t *testing.T, c *tls.Config) { c.Certificates = certificates(t, forger{}) }, ErrIdentity, ErrIdentity},
	{"two certificates", func(_ *testing.T, c *tls.Config) {
		der := &c.Certificates[0].Certificate
		*der = append(*der, (*der)[0])
	}, ErrIdentity, ErrIdentity},
	{"TLS 1.2", func(_ *testing.T, c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, ErrALPN, ErrALPN},
	{"other ALPN", func(_ *testing.T, c *tls.Config) { c.NextProtos = []string{"other/1"} }, ErrALPN, ErrALPN},
	{"no ALPN", func(_ *testing.T, c *tls.Config) { c.NextProtos = nil }, ErrALPN, ErrALPN},
	{"large certificate", func(t *testing.T, c *tls.Config) {
		c.Certificates = certificates(t, ed25519.NewKeyFromSeed(make([]byte, 32)), strings.Repeat("x", 60_000))
	}, errLongHandshake, errLongHandshake},
}

func TestHandshake_Strangers(t *testing.T) {
	for _, s := range strangers {
		t.Run(s.name+" dials", func(t *testing.T) {
			e := bindTest(t, Options{Addr: "127.0.0.1:0"})
			raw := dialTCP(t, e)
			config := testConfig(t)
			s.change(t, config)
			go tls.Client(raw, config).Handshake()
			_, err := handshake(testContext(t), e)
			wantStranger(t, err, s.dials)
		})
		if s.name == "no certificate" {
			continue // a TLS server must have a certificate
		}
		t.Run(s.name+" answers", func(t *testing.T) {
			config := testConfig(t)
			s.change(t, config)
			_, err := dialStranger(t, func(raw net.Conn) { tls.Server(raw, config).Handshake() }, config)
			wantStranger(t, err, s.server)
		})
	}
}

func TestHandshake_Garbage(t *testing.T) {
	garbage := strings.Repeat("GET / HTTP/1.1\r\n\r\n", 10)
	e := bindTest(t, Options{Addr: "127.0.0.1:0"})
	io.WriteString(dialTCP(t, e), garbage)
	if _, err := handshake(testContext(t), e); !errors.Is(err, ErrALPN) {
		t.Errorf("it dials: %v", err)
	}
	_, err := dialStranger(t, func(raw net.Conn) { io.WriteString(raw, garbage) }, testConfig(t))
	if !errors.Is(err, ErrALPN) {
		t.Errorf("it answers: %v", err)
	}
}

func wantStranger(t *testing.T, err, want error) {
	t.Helper()
	t.Log(err)
	if want == nil && err != nil || !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}

func dialTCP(t *testing.T, e *Endpoint) net.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", e.Addr().Hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// dialStranger dials a stranger, using the NodeID of config if it has one.
func dialStranger(t *testing.T, answer func(net.Conn), config *tls.Config) (irohub.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		if raw, err := l.Accept(); err == nil {
			t.Cleanup(func() { raw.Close() })
			answer(raw)
		}
	}()
	addr := irohub.Addr{Hosts: []string{l.Addr().String()}}
	if c, err := x509.ParseCertificate(config.Certificates[0].Certificate[0]); err != nil {
		t.Fatal(err)
	} else if public, ok := c.PublicKey.(ed25519.PublicKey); ok {
		addr.ID = irohub.NodeID(public)
	}
	return bindTest(t, Options{}).Dial(testContext(t), addr)
}

func certificates(t *testing.T, private crypto.Signer, names ...string) []tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<33, 0), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
}

func rsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func ecdsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// A forger signs for a public key without knowing its secret key.
type forger struct{ public irohub.NodeID }

func (f forger) Public() crypto.PublicKey { return ed25519.PublicKey(f.public[:]) }

func (f forger) Sign(_ io.Reader, message []byte, _ crypto.SignerOpts) ([]byte, error) {
	return forge.Sign(f.public, message)
}

// An error shows only part of a stranger's text, without control characters.
func TestHandshake_ErrorsShowLittleOfThePeersWords(t *testing.T) {
	e := bindTest(t, Options{Addr: "127.0.0.1:0"})
	var names []string
	for range 55 {
		names = append(names, strings.Repeat("\x9b\u202e\x1b[2J\n", 255/9))
	}
	answered := make(chan error, 1)
	go func() { _, err := handshake(testContext(t), e); answered <- err }()
	raw := dialTCP(t, e)
	tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: names, MinVersion: tls.VersionTLS13}).Handshake()
	err := <-answered
	if !errors.Is(err, ErrALPN) {
		t.Errorf("%v, want ErrALPN", err)
	}
	if text := err.Error(); len(text) > 1500 || strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) >= 0 {
		t.Errorf("a text of %d bytes: %.2000q", len(text), text)
	}
}
