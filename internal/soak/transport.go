package main

import (
	"context"
	"errors"
	"sync/atomic"

	"irohub"
)

// A frail endpoint can break its newest connection while it is in use.
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

// closedWith returns the close code in err.
func closedWith(err error) (code uint64, ok bool) {
	end, ok := errors.AsType[*irohub.CloseError](err)
	if !ok {
		return 0, false
	}
	return end.Code, true
}
