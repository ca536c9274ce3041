package tlsnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"irohub"
)

// headStart is how long one host is tried alone before the next is tried in parallel.
const headStart = 250 * time.Millisecond

// Dial connects to the node at addr. Hosts are IP:PORT or NAME:PORT. They are tried in
// order: the next one starts when the one before has failed, or after 250 ms. The first
// host where the node answers is used. The relay is ignored. It may take long to detect
// that nobody answers, so ctx should have a deadline.
func (e *Endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	fail := func(kind, cause error) (irohub.Conn, error) {
		return nil, &failure{"dial " + addr.ID.String(), kind, cause}
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
func (e *Endpoint) race(ctx context.Context, addr irohub.Addr) (won *conn, failed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type attempt struct {
		conn *conn
		err  error
	}
	attempts := make(chan attempt) // unbuffered: the loop below receives one for each goroutine
	next := time.NewTimer(headStart)
	defer next.Stop()
	started, ended := 0, 0
	start := func() {
		if won != nil || ctx.Err() != nil || started == len(addr.Hosts) {
			return
		}
		host := addr.Hosts[started]
		started++
		next.Reset(headStart)
		go func() {
			c, err := e.dialHost(ctx, host, addr.ID)
			attempts <- attempt{c, err}
		}()
	}
	if start(); started == 0 {
		return nil, &failure{doing: "dial " + addr.ID.String(), cause: ctx.Err()}
	}
	for ended < started {
		select {
		case a := <-attempts:
			ended++
			switch {
			case a.err == nil && won == nil:
				won = a.conn
				cancel()
			case a.err == nil:
				a.conn.Close(0, "")
			case failed == nil || errors.Is(failed, ErrUnreachable):
				failed = a.err // prefer any error to ErrUnreachable
			}
			start()
		case <-next.C:
			start()
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, failed
}

// dialHost tries one host.
func (e *Endpoint) dialHost(ctx context.Context, host string, id irohub.NodeID) (*conn, error) {
	raw, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", host)
	if err == nil {
		return e.handshake(ctx, raw, &id)
	}
	f := &failure{"dial " + id.String(), ErrUnreachable, fmt.Errorf("%s: %w", host, briefly{err})}
	if ctx.Err() != nil {
		f.cause = ctx.Err()
	}
	if hungUp(f.cause) { // refused before the handshake
		f.kind = ErrRefused
	}
	if errors.Is(f.cause, context.Canceled) {
		f.kind = nil
	}
	return nil, f
}
