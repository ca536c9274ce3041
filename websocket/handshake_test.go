package websocket

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/weakkey/forge"
	"irohub/key"
)

// A meddler stands between: who dials it is connected to the hub, and what either side
// says goes through change.
type meddler struct {
	server *httptest.Server
	url    string
	host   string
	// change is given each message and says what to pass on; nil: nothing.
	change func(fromHub bool, p []byte) []byte
}

func newMeddler(t *testing.T, hub *Endpoint, change func(fromHub bool, p []byte) []byte) *meddler {
	t.Helper()
	m := &meddler{change: change}
	m.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		spoke, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{hub.protocol}})
		if err != nil {
			return
		}
		there, _, err := websocket.Dial(r.Context(), hub.urls[0], &websocket.DialOptions{Subprotocols: []string{hub.protocol}})
		if err != nil {
			spoke.CloseNow()
			return
		}
		ctx, cancel := context.WithCancel(testContext(t))
		defer cancel()
		relay := func(from, to *websocket.Conn, fromHub bool) {
			defer to.Close(websocket.StatusNormalClosure, "")
			for {
				typ, p, err := from.Read(ctx)
				if err != nil {
					return
				}
				if p = m.change(fromHub, p); p != nil && to.Write(ctx, typ, p) != nil {
					return
				}
			}
		}
		done := make(chan struct{})
		go func() { relay(there, spoke, true); close(done) }()
		relay(spoke, there, false)
		<-done
	}))
	t.Cleanup(m.server.Close)
	m.url = "ws" + strings.TrimPrefix(m.server.URL, "http") + "/hub"
	m.host = strings.TrimPrefix(m.server.URL, "http://")
	return m
}

// Who passes on what both say, from under another host, is refused by both, whatever is
// changed on the way.
func TestHandshake_ManInTheMiddleIsRefusedByBothSides(t *testing.T) {
	same := func(_ bool, p []byte) []byte { return p }
	own := key.New()
	for _, test := range []struct {
		name         string
		change       func(hub *Endpoint) func(fromHub bool, p []byte) []byte
		spoke, atHub error
	}{
		{"relays", func(*Endpoint) func(bool, []byte) []byte { return same }, ErrRefused, ErrHost},
		{"names the hub's host", func(hub *Endpoint) func(bool, []byte) []byte {
			return func(_ bool, p []byte) []byte {
				if p[0] == msgHello {
					return append(p[:1+64:1+64], hostOf(t, hub)...)
				}
				return p
			}
		}, ErrIdentity, ErrRefused},
		{"is a hub of its own", func(hub *Endpoint) func(bool, []byte) []byte {
			var s statement
			return func(fromHub bool, p []byte) []byte {
				switch p[0] {
				case msgHello:
					s = statement{spoke: irohub.NodeID(p[1:33]), spokeNonce: [32]byte(p[33:65]), host: string(p[65:]), protocol: hub.protocol}
					return append(p[:65:65], hostOf(t, hub)...)
				case msgAnswer:
					s.hub, s.hubNonce = own.ID(), [32]byte(p[33:65])
					return append(append(append([]byte{msgAnswer}, s.hub[:]...), s.hubNonce[:]...), s.sign(roleHub, own)...)
				}
				return p
			}
		}, ErrWrongPeer, ErrRefused},
		{"signs for the hub", func(hub *Endpoint) func(bool, []byte) []byte {
			var s statement
			return func(fromHub bool, p []byte) []byte {
				switch p[0] {
				case msgHello:
					s = statement{spoke: irohub.NodeID(p[1:33]), spokeNonce: [32]byte(p[33:65]), host: string(p[65:]), protocol: hub.protocol}
					return append(p[:65:65], hostOf(t, hub)...)
				case msgAnswer:
					s.hub, s.hubNonce = hub.ID(), [32]byte(p[33:65])
					return append(p[:65:65], s.sign(roleHub, own)...)
				}
				return p
			}
		}, ErrIdentity, ErrRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub := serveTest(t, Options{})
			m := newMeddler(t, hub, test.change(hub))
			answers := shaking(t, hub)
			_, err := newTest(t, Options{}).Dial(testContext(t), irohub.Addr{ID: hub.ID(), Hosts: []string{m.url}})
			if !errors.Is(err, test.spoke) {
				t.Errorf("the spoke: %v, want %v", err, test.spoke)
			}
			if a := <-answers; !errors.Is(a.err, test.atHub) {
				t.Errorf("the hub: %v, want %v", a.err, test.atHub)
			}
		})
	}
}

// The same man in the middle, with a host that is the hub's, is no other than its proxy. This
// shows that it is the host alone that keeps him out.
func TestHandshake_ProxyOfTheHubPasses(t *testing.T) {
	var m *meddler
	hub := serveTest(t, Options{})
	m = newMeddler(t, hub, func(_ bool, p []byte) []byte { return p })
	hub.hosts[m.host] = true
	answers := shaking(t, hub)
	c, err := newTest(t, Options{}).Dial(testContext(t), irohub.Addr{ID: hub.ID(), Hosts: []string{m.url}})
	if a := <-answers; err != nil || a.err != nil || c.RemoteID() != hub.ID() {
		t.Errorf("%v, %v", err, a.err)
	}
}

// A spoke that takes the hub's signature unseen gives a man in the middle nothing either: its
// own names the host that it has dialled.
func TestHandshake_SignatureForAnotherHostIsRefused(t *testing.T) {
	wantRefused(t, ErrIdentity, func(s *statement) { s.host = "evil.example" })
}

// Nothing of what is signed can be exchanged.
func TestHandshake_EachPartIsSigned(t *testing.T) {
	for name, change := range map[string]func(*statement){
		"hub":         func(s *statement) { s.hub[0]++ },
		"spoke":       func(s *statement) { s.spoke[0]++ },
		"hub nonce":   func(s *statement) { s.hubNonce[31]++ },
		"spoke nonce": func(s *statement) { s.spokeNonce[31]++ },
		"protocol":    func(s *statement) { s.protocol += "1" },
		"boundary":    func(s *statement) { s.protocol, s.host = s.protocol+s.host[:1], s.host[1:] },
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, ErrIdentity, change) })
	}
	wantRefused(t, nil, func(*statement) {})
}

// wantRefused dials with a signature of what change has made of the statement.
func wantRefused(t *testing.T, want error, change func(*statement)) {
	t.Helper()
	hub := serveTest(t, Options{})
	answers := shaking(t, hub)
	theirs := besiege(t, hub)
	secret := key.New()
	s := statement{spoke: secret.ID(), host: hostOf(t, hub), protocol: hub.protocol, spokeNonce: [32]byte{7}}
	theirs.send(mHello + string(s.spoke[:]) + string(s.spokeNonce[:]) + s.host)
	_, p, err := theirs.Read(theirs.ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.hub, s.hubNonce = irohub.NodeID(p[1:33]), [32]byte(p[33:65])
	if err := s.verify(roleHub, p[65:]); err != nil || s.hub != hub.ID() {
		t.Errorf("the hub: %v", err)
	}
	change(&s)
	theirs.send(mProof + string(s.sign(roleSpoke, secret)))
	if a := <-answers; !errors.Is(a.err, want) {
		t.Errorf("%v, want %v", a.err, want)
	}
	if want != nil {
		theirs.wantTold(irohub.CodeForbidden)
	}
}

// Strangers are what does not shake hands as it should: what they send, and what our side
// makes of it. As nothing depends on the order, they send all at once.
func TestHandshake_Strangers(t *testing.T) {
	id := key.New().ID()
	hub := serveTest(t, Options{})
	host := hostOf(t, hub)
	nonce := strings.Repeat("n", nonceSize)
	hello := mHello + string(id[:]) + nonce + host
	var zero irohub.NodeID
	for _, test := range []struct {
		name  string
		sends []string
		want  error
		told  uint64
	}{
		{"another host", []string{mHello + string(id[:]) + nonce + "x" + host}, ErrHost, irohub.CodeForbidden},
		{"a host in capitals", []string{mHello + string(id[:]) + nonce + "LOCALHOST"}, ErrHost, irohub.CodeForbidden},
		{"no proof", []string{hello, mProof + strings.Repeat("x", 64)}, ErrIdentity, irohub.CodeForbidden},
		{"zero", []string{mHello + string(zero[:]) + nonce + host}, ErrIdentity, irohub.CodeForbidden},
		{"small order", []string{mHello + "\x01" + strings.Repeat("\x00", 31) + nonce + host}, ErrIdentity, irohub.CodeForbidden},
		{"no host", []string{hello[:65]}, ErrALPN, irohub.CodeProtocol},
		{"a long host", []string{hello[:65] + strings.Repeat("x", maxHost+1)}, ErrALPN, irohub.CodeProtocol},
		{"an empty message", []string{""}, ErrALPN, irohub.CodeProtocol},
		{"a record at once", []string{"\x00data"}, ErrALPN, irohub.CodeProtocol},
		{"an answer", []string{mAnswer + strings.Repeat("x", 128)}, ErrALPN, irohub.CodeProtocol},
		{"hello twice", []string{hello, hello}, ErrALPN, irohub.CodeProtocol},
		{"a short proof", []string{hello, mProof + strings.Repeat("x", 63)}, ErrALPN, irohub.CodeProtocol},
		{"a long proof", []string{hello, mProof + strings.Repeat("x", 65)}, ErrALPN, irohub.CodeProtocol},
		{"a novel", []string{hello[:1] + strings.Repeat("x", maxMessage)}, ErrALPN, uint64(websocket.StatusMessageTooBig)},
		{"giving up", []string{hello, mClose + number(3) + "not\x1b[2J you"}, ErrRefused, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			answers := shaking(t, hub)
			theirs := besiege(t, hub)
			go theirs.send(test.sends...)
			a := <-answers
			if !errors.Is(a.err, test.want) || errors.Is(a.err, context.DeadlineExceeded) {
				t.Errorf("%v, want %v", a.err, test.want)
			}
			if _, ok := errors.AsType[*irohub.CloseError](a.err); ok {
				t.Errorf("%v has the code of one that is not known", a.err)
			}
			if strings.Contains(a.err.Error(), "\x1b") {
				t.Errorf("%q", a.err)
			}
			if test.told >= 1000 { // it was not read to its end
				if _, _, err := theirs.Read(theirs.ctx); websocket.CloseStatus(err) != websocket.StatusCode(test.told) {
					t.Errorf("closed with %v, want the status %d", err, test.told)
				}
			} else if test.told != 0 {
				theirs.wantTold(test.told)
			}
		})
	}
	t.Run("a text", func(t *testing.T) {
		answers := shaking(t, hub)
		theirs := besiege(t, hub)
		theirs.Conn.Write(theirs.ctx, websocket.MessageText, []byte(hello))
		if a := <-answers; !errors.Is(a.err, ErrALPN) {
			t.Error(a.err)
		}
		theirs.wantTold(irohub.CodeProtocol)
	})
}

// For a weak key anybody can sign: that is seen before the signature, on either side.
func TestHandshake_WeakKeysThatSignAreRefused(t *testing.T) {
	one := irohub.NodeID{0: 1}
	hub := serveTest(t, Options{})
	answers := shaking(t, hub)
	theirs := besiege(t, hub)
	theirs.send(mHello + string(one[:]) + strings.Repeat("n", 32) + hostOf(t, hub))
	if a := <-answers; !errors.Is(a.err, ErrIdentity) {
		t.Errorf("a spoke with a weak key: %v", a.err)
	}
	at := play(t, func(ws *websocket.Conn, host string) {
		_, p, _ := ws.Read(testContext(t))
		s := statement{hub: one, spoke: irohub.NodeID(p[1:33]), spokeNonce: [32]byte(p[33:65]), host: host, protocol: ws.Subprotocol()}
		signature, err := forge.Sign(one, s.bytes(roleHub))
		if err != nil {
			t.Error(err)
		}
		ws.Write(testContext(t), websocket.MessageBinary, slices.Concat([]byte{msgAnswer}, one[:], s.hubNonce[:], signature))
		ws.Read(testContext(t))
	})
	if _, err := newTest(t, Options{}).Dial(testContext(t), irohub.Addr{ID: one, Hosts: []string{at}}); !errors.Is(err, ErrIdentity) {
		t.Errorf("a hub with a weak key: %v", err)
	}
}

// play is a hub as the test plays it; it returns its URL.
func play(t *testing.T, hub func(ws *websocket.Conn, host string)) (at string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"alkpubsub.1"}}); err == nil {
			hub(ws, r.Host)
			ws.CloseNow()
		}
	}))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// A hub that is none, or a hostile one, as who dials it sees it. No error says that the
// endpoint was closed, and none has a code.
func TestDial_Strangers(t *testing.T) {
	answer := func(p string) func(*websocket.Conn, string) {
		return func(ws *websocket.Conn, _ string) {
			ws.Read(testContext(t))
			ws.Write(testContext(t), websocket.MessageBinary, []byte(p))
			ws.Read(testContext(t))
		}
	}
	id := key.New().ID()
	for name, test := range map[string]struct {
		at   string
		want error
	}{
		"another node":    {play(t, answer(mAnswer+strings.Repeat("x", 128))), ErrWrongPeer},
		"no signature":    {play(t, answer(mAnswer+string(id[:])+strings.Repeat("x", 32+ed25519.SignatureSize))), ErrIdentity},
		"a short answer":  {play(t, answer(mAnswer+string(id[:]))), ErrALPN},
		"a novel":         {play(t, answer(strings.Repeat("x", 1<<20))), ErrALPN},
		"data":            {play(t, answer("\x00data")), ErrALPN},
		"its own hello":   {play(t, answer(mHello+strings.Repeat("x", 96))), ErrALPN},
		"a refusal":       {play(t, answer(mClose+number(3)+"no")), ErrRefused},
		"hanging up":      {play(t, func(*websocket.Conn, string) {}), ErrRefused},
		"not found":       {"ws" + strings.TrimPrefix(status(t, 404), "http"), ErrALPN},
		"a redirect":      {"ws" + strings.TrimPrefix(status(t, 302), "http"), ErrALPN},
		"a page":          {"ws" + strings.TrimPrefix(status(t, 200), "http"), ErrALPN},
		"busy":            {"ws" + strings.TrimPrefix(status(t, 503), "http"), ErrRefused},
		"no certificate":  {"wss" + strings.TrimPrefix(httptestTLS(t), "https"), nil},
		"no TLS":          {"wss" + strings.TrimPrefix(status(t, 404), "http"), ErrUnreachable},
		"nobody":          {"ws://127.0.0.1:1/", ErrUnreachable},
		"far without TLS": {"ws://192.0.2.1/", ErrAddr},
		"a host and port": {"127.0.0.1:1", ErrAddr},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTest(t, Options{}).Dial(testContext(t), irohub.Addr{ID: id, Hosts: []string{test.at}})
			t.Log(err)
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if _, ok := errors.AsType[*irohub.CloseError](err); ok || errors.Is(err, io.EOF) {
				t.Errorf("%v has a code, or the cause that only looks like one", err)
			}
		})
	}
}

func status(t *testing.T, code int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://example.com/")
		w.WriteHeader(code)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func httptestTLS(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = discard
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}
