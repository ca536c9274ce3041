package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/attempts"
)

// Dial connects to the node at addr. Hosts are URLs, wss://HOST[:PORT]/PATH, or ws:// on the
// loopback. They are tried in order: the next one starts when the one before has failed, or
// after 250 ms. The first URL where the node answers is used. The relay is ignored; a proxy of
// the environment is used, see [http.ProxyFromEnvironment]. It may take long to detect that
// nobody answers, so ctx should have a deadline.
func (e *Endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	doing := "dial " + addr.ID.String()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release, ok := e.hold(cancel)
	if !ok {
		return nil, errEndpointClosed
	}
	defer release()
	if len(addr.Hosts) == 0 {
		return nil, fail(doing, ErrUnreachable, errors.New("no URL is known"))
	}
	for _, s := range addr.Hosts {
		if _, _, err := parseURL(s); err != nil {
			return nil, fail(doing, ErrAddr, err)
		}
	}
	c, ok, err := attempts.First(ctx, len(addr.Hosts),
		func(ctx context.Context, i int) (*conn, error) { return e.dialURL(ctx, doing, addr.Hosts[i], addr.ID) },
		func(c *conn) { c.Close(0, "") },
		func(err error) bool { return errors.Is(err, ErrUnreachable) })
	if !ok && err == nil {
		err = fail(doing, nil, ctx.Err())
	}
	if err != nil {
		return nil, e.orClosed(err)
	}
	return c, nil
}

// dialURL tries one URL.
func (e *Endpoint) dialURL(ctx context.Context, doing, target string, id irohub.NodeID) (*conn, error) {
	u, host, err := parseURL(target)
	if err != nil {
		return nil, err
	}
	var below atomic.Pointer[socket]
	var ping ping
	dial := e.dialer(u.Scheme)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			s := &socket{Conn: raw}
			below.Store(s)
			return s, nil
		},
		TLSClientConfig:        e.tls.Clone(),
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	ws, response, err := websocket.Dial(ctx, target, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport: transport,
			// After a redirect, another host would be signed than the one dialled.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Subprotocols:   []string{e.protocol},
		OnPingReceived: ping.pinged,
	})
	if err != nil {
		return nil, upgradeError(ctx, doing, u, response, err)
	}
	h := newHandshake(ws, e.secret)
	if h.statement.protocol != e.protocol {
		err = fmt.Errorf("%w: the subprotocol is %q, not %q", ErrALPN, h.statement.protocol, e.protocol)
	} else {
		err = h.dial(ctx, id, host)
	}
	c, err := e.establish(ctx, doing, h, below.Load(), true, err)
	if err == nil {
		ping.set(c)
	}
	return c, err
}

// upgradeError classifies the error of a dial before there is a WebSocket.
func upgradeError(ctx context.Context, doing string, u *url.URL, response *http.Response, err error) error {
	f := fail(doing, nil, nil)
	var certificate *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		return handshakeError(ctx, doing, true, err)
	case isOneOf(err, ErrAddr):
		f.Kind = ErrAddr
	case errors.As(err, &certificate):
		// The certificate is for another host, or is not trusted here.
	case response == nil:
		f.Kind = ErrUnreachable
	case response.StatusCode == http.StatusServiceUnavailable, response.StatusCode == http.StatusForbidden,
		response.StatusCode == http.StatusTooManyRequests:
		f.Kind, err = ErrRefused, fmt.Errorf("HTTP status %s", response.Status)
	case response.StatusCode != http.StatusSwitchingProtocols:
		f.Kind, err = ErrALPN, fmt.Errorf("HTTP status %s", response.Status)
	default:
		f.Kind = ErrALPN
	}
	f.Cause = fmt.Errorf("%s: %s", u.Redacted(), brief(err)) // only the text: see handshakeError
	return f
}

type dialContext = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns how to dial URLs with a scheme. Connections are kept alive by us, which
// notices more than the kernel does.
func dialer(scheme string) dialContext {
	d := &net.Dialer{KeepAlive: -1}
	if scheme == "ws" {
		d.ControlContext = loopbackAlone
	}
	return d.DialContext
}

// loopbackAlone refuses addresses elsewhere, to which a name may lead.
func loopbackAlone(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%w: ws:// to %s, which is not the loopback", ErrAddr, address)
	}
	return nil
}
