package tlsnet

import (
	"context"
	"errors"
	"fmt"
	"net"

	"irohub"
	"irohub/internal/attempts"
)

// Dial connects to the node at addr. Hosts are IP:PORT or NAME:PORT. They are tried in
// order: the next one starts when the one before has failed, or after 250 ms. The first
// host where the node answers is used. The relay is ignored. It may take long to detect
// that nobody answers, so ctx should have a deadline.
func (e *Endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	fail := func(kind, cause error) (irohub.Conn, error) {
		return nil, fail("dial "+addr.ID.String(), kind, cause)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release, ok := e.hold(cancel)
	if !ok {
		return nil, errEndpointClosed
	}
	defer release()
	if len(addr.Hosts) == 0 {
		return fail(ErrUnreachable, errors.New("no address is known"))
	}
	for _, host := range addr.Hosts {
		if _, _, err := net.SplitHostPort(host); err != nil {
			return fail(ErrAddr, err)
		}
	}
	c, err := e.race(ctx, addr)
	if err != nil {
		return nil, e.orClosed(err)
	}
	return c, nil
}

// race tries the hosts. It returns once all attempts have ended.
func (e *Endpoint) race(ctx context.Context, addr irohub.Addr) (*conn, error) {
	c, ok, err := attempts.First(ctx, len(addr.Hosts),
		func(ctx context.Context, i int) (*conn, error) { return e.dialHost(ctx, addr.Hosts[i], addr.ID) },
		func(c *conn) { c.Close(0, "") },
		func(err error) bool { return errors.Is(err, ErrUnreachable) })
	if !ok && err == nil {
		err = fail("dial "+addr.ID.String(), nil, ctx.Err())
	}
	return c, err
}

// dialHost tries one host.
func (e *Endpoint) dialHost(ctx context.Context, host string, id irohub.NodeID) (*conn, error) {
	raw, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", host)
	if err == nil {
		return e.handshake(ctx, raw, &id)
	}
	f := fail("dial "+id.String(), ErrUnreachable, fmt.Errorf("%s: %w", host, briefly{err}))
	if ctx.Err() != nil {
		f.Cause = ctx.Err()
	}
	if hungUp(f.Cause) { // refused before the handshake
		f.Kind = ErrRefused
	}
	if errors.Is(f.Cause, context.Canceled) {
		f.Kind = nil
	}
	return nil, f
}
