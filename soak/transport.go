package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"irohub"
	"irohub/iroh"
	"irohub/key"
	"irohub/tlsnet"
)

// An endpoint is what a soak needs of a transport.
type endpoint interface {
	irohub.Endpoint
	Addr() irohub.Addr
	Close() error
}

const (
	overIroh = "iroh"
	overTLS  = "tls"
)

// bind opens an endpoint; where addr is empty, one that only dials.
func bind(ctx context.Context, transport string, secret key.Secret, addr string) (endpoint, error) {
	switch transport {
	case overTLS:
		return tlsnet.Bind(ctx, tlsnet.Options{SecretKey: secret, Addr: addr})
	case overIroh:
		if addr == "" {
			addr = loopback
		}
		return iroh.Bind(ctx, iroh.Options{SecretKey: secret, Addr: addr})
	}
	return nil, fmt.Errorf("-transport %q: %s or %s is wanted", transport, overIroh, overTLS)
}

const loopback = "127.0.0.1:0"

// warmUp has a transport start what it starts once, for good: that is no leak.
func warmUp(ctx context.Context, transport string) error {
	ep, err := bind(ctx, transport, key.Secret{}, loopback)
	if err != nil {
		return err
	}
	return ep.Close()
}

// A frail endpoint's newest connection can be broken under whoever uses it.
type frail struct {
	endpoint
	conn atomic.Pointer[irohub.Conn]
}

func (f *frail) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	conn, err := f.endpoint.Dial(ctx, addr)
	if err == nil {
		f.conn.Store(&conn)
	}
	return conn, err
}

func (f *frail) breakOff() {
	if conn := f.conn.Load(); conn != nil {
		(*conn).Close(0, "broken on purpose")
	}
}

// closedWith says with which code err closed something.
func closedWith(err error) (code uint64, ok bool) {
	end, ok := errors.AsType[*irohub.CloseError](err)
	if !ok {
		return 0, false
	}
	return end.Code, true
}
