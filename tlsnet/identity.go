package tlsnet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"time"

	"irohub"
	"irohub/internal/weakkey"
	"irohub/key"
)

// newConfig returns the TLS configuration that both sides of a handshake share.
func newConfig(secret key.Secret, alpn string) (*tls.Config, error) {
	certificate, err := newCertificate(secret)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		MaxVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAnyClientCert,
		// VerifyConnection authenticates the peer, by its key alone.
		InsecureSkipVerify: true,
		// A resumed session would take the peer's identity from the ticket.
		SessionTicketsDisabled: true,
		// Small records at the start of a connection help browsers. Here they only cost
		// time.
		DynamicRecordSizingDisabled: true,
	}, nil
}

// newCertificate makes a certificate for the key. Only the key matters: the certificate has
// no name and does not expire.
func newCertificate(secret key.Secret) (tls.Certificate, error) {
	seed := secret.Seed()
	private := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf(prefix+"certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

// verify returns the NodeID that the peer claims. crypto/tls has not yet checked at this
// point that the peer has the secret key, but does so before the handshake ends.
func verify(state *tls.ConnectionState, alpn string) (id irohub.NodeID, err error) {
	if state.Version != tls.VersionTLS13 {
		return id, fmt.Errorf("%w: %s", ErrALPN, tls.VersionName(state.Version))
	}
	if state.NegotiatedProtocol != alpn {
		return id, fmt.Errorf("%w: the ALPN is %q, not %q", ErrALPN, state.NegotiatedProtocol, alpn)
	}
	if n := len(state.PeerCertificates); n != 1 {
		return id, fmt.Errorf("%w: it presents %d certificates, not one", ErrIdentity, n)
	}
	certificate := state.PeerCertificates[0]
	public, ok := certificate.PublicKey.(ed25519.PublicKey)
	if !ok || len(public) != len(id) {
		return id, fmt.Errorf("%w: its certificate has a key of type %s", ErrIdentity, certificate.PublicKeyAlgorithm)
	}
	id = irohub.NodeID(public)
	if weakkey.Is(id) {
		return id, fmt.Errorf("%w: anybody can forge signatures for the key %s", ErrIdentity, id)
	}
	return id, nil
}

// handshake makes a connection from a socket. On failure it closes the socket. want is the
// NodeID that was dialled; nil: the peer dialled, and may be any node.
func (e *Endpoint) handshake(ctx context.Context, raw net.Conn, want *irohub.NodeID) (*conn, error) {
	var remote irohub.NodeID
	config := e.config.Clone()
	config.VerifyConnection = func(state tls.ConnectionState) (err error) {
		remote, err = verify(&state, e.alpn)
		if err == nil && want != nil && remote != *want {
			return wrongPeer(remote)
		}
		return err
	}
	s := newSocket(raw)
	var t *tls.Conn
	doing := "handshake"
	if want != nil {
		doing = "dial " + want.String()
		t = tls.Client(s, config)
	} else {
		t = tls.Server(s, config)
	}
	if err := t.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, handshakeError(ctx, doing, want != nil, err)
	}
	s.established = true
	c := newConn(e, s, t, remote, want != nil)
	if !e.adopt(c) {
		raw.Close()
		return nil, errEndpointClosed
	}
	return c, nil
}
