//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"errors"
	"sync"
)

// errGone is returned by finish when the object was closed meanwhile.
var errGone = errors.New("irohub/iroh: closed")

// An object is an endpoint or a connection in the library. It may be closed while calls
// wait on it.
type object struct {
	gone chan struct{} // closed by end

	mu  sync.Mutex // held during calls that do not wait
	h   handle     // 0 once ended
	err error      // why it ended; set before gone is closed
}

func newObject(h handle) object { return object{h: h, gone: make(chan struct{})} }

// with calls f with the handle. f must not keep the handle.
func (o *object) with(f func(handle)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.h == 0 {
		return o.err
	}
	f(o.h)
	return nil
}

// run starts an operation and waits until it ends.
func (o *object) run(ctx context.Context, start func(h handle, id C.uint64_t, r *result)) (result, error) {
	r, err := await(ctx, o.gone, func(id C.uint64_t, r *result) error {
		return o.with(func(h handle) { start(h, id, r) })
	})
	if err == errGone {
		err = o.err
	}
	return r, err
}

// do runs an operation without arguments.
func (o *object) do(ctx context.Context, what C.int) (result, error) {
	return o.run(ctx, func(h handle, id C.uint64_t, r *result) { C.irohub_start(what, h, id, r) })
}

// end ends the object, and the calls that wait on it return err. It returns the handle,
// which the caller frees; 0 if the object has ended before.
func (o *object) end(err error) handle {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.h
	if h != 0 {
		o.h, o.err = 0, err
		close(o.gone)
	}
	return h
}

// await runs one operation with its own waiter; see [waiter.finish].
func await(ctx context.Context, gone <-chan struct{}, start func(id C.uint64_t, r *result) error) (r result, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	w := getWaiter()
	defer putWaiter(w)
	if err := start(w.next(), &r); err != nil {
		return r, err
	}
	return r, w.finish(ctx, gone, &r, nil)
}
