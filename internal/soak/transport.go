package main

import (
	"context"
	"errors"
	"sync/atomic"

	"irohub"
)

// A frail endpoint's newest connection can be broken under whoever uses it.
type frail struct {
	irohub.Endpoint
	conn atomic.Pointer[irohub.Conn]
}

func (f *frail) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	conn, err := f.Endpoint.Dial(ctx, addr)
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
