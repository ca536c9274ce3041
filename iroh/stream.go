//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"irohub"
)

// The most bytes in one call of the library. A read allocates and zeroes the number of
// bytes that it asks for, and keeps that memory while it waits. So an idle stream asks for
// little, and a busy one for more. More than 16 KiB per call gains nothing.
const (
	minRead  = 1 << 10
	maxRead  = 32 << 10
	maxWrite = 64 << 10
)

// A stream is the application's reference to a stream. When the application drops it, the
// garbage collector ends the twoWay behind it.
type stream struct {
	*twoWay
	c *conn // keeps the connection alive
}

// A twoWay is a stream: two halves that end independently.
type twoWay struct {
	link       *link
	accepted   bool // the peer opened it
	send, recv half
	halves     atomic.Int32 // halves that are not freed yet
	limit      int          // bytes that the next Read asks for; owned by Read
}

// A half is one direction of a stream.
//
// The library releases its lock on a half only when the operation on it has ended. So a
// goroutine that runs an operation holds mu. If another goroutine ends the half meanwhile,
// the operation's goroutine frees it. Calls that must not wait never wait for mu.
type half struct {
	object C.int
	owner  *twoWay
	over   atomic.Pointer[ending] // nil: still open
	gone   chan struct{}          // closed once over is set

	mu     sync.Mutex
	h      handle // 0: freed
	w      *waiter
	broken error // the error of an interrupted operation; after it only end is allowed
}

// An ending is the end of a half: the error for further operations, and, if reset is set,
// the code that is sent to the peer.
type ending struct {
	err   error
	reset bool
	code  uint64
}

func newTwoWay(l *link, send, recv handle, accepted bool) *twoWay {
	s := &twoWay{link: l, accepted: accepted, limit: minRead}
	s.halves.Store(2)
	s.send = half{object: C.IROHUB_SEND, owner: s, h: send, w: getWaiter(), gone: make(chan struct{})}
	s.recv = half{object: C.IROHUB_RECV, owner: s, h: recv, w: getWaiter(), gone: make(chan struct{})}
	return s
}

func (s *twoWay) end(why *ending) {
	s.send.end(why)
	s.recv.end(why)
}

func (s *twoWay) abort(code uint64) {
	code = min(code, maxCode)
	s.end(&ending{err: &irohub.CloseError{Code: code}, reset: true, code: code})
}

var errWritten = errors.New("irohub/iroh: write after CloseWrite")

// begin starts an operation; done ends it.
func (h *half) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	err := h.broken
	if over := h.over.Load(); over != nil {
		err = over.err
	}
	if err != nil {
		h.done()
	}
	return err
}

func (h *half) done() {
	h.mu.Unlock()
	h.sweep()
}

// end ends the half. Only the first reason counts.
func (h *half) end(why *ending) {
	if h.over.CompareAndSwap(nil, why) {
		close(h.gone)
	}
	h.sweep()
}

// sweep frees a half that has ended. If an operation is running, that operation does it.
func (h *half) sweep() {
	why := h.over.Load()
	if why == nil || !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	if h.h == 0 {
		return
	}
	if why.reset {
		var r result
		if h.object == C.IROHUB_SEND {
			C.irohub_reset(h.h, C.uint64_t(why.code), h.w.next(), &r)
		} else {
			C.irohub_stop(h.h, C.uint64_t(why.code), h.w.next(), &r)
		}
		if r.status == C.IROHUB_PENDING { // does not happen: nobody else has the lock
			C.irohub_drop(r.op, r.future, h.w.id())
		} else {
			failed(&r)
		}
	}
	free(h.object, &h.h)
	putWaiter(h.w)
	if h.owner.halves.Add(-1) == 0 {
		h.owner.link.forget(h.owner)
	}
}

// finish waits for an operation; see [waiter.finish]. Any error but ctx's ends the half. mu
// must be held.
func (h *half) finish(ctx context.Context, r *result, p []byte) error {
	if r.status == C.IROHUB_OK { // fast path, the usual case under full load
		return nil
	}
	err := h.w.finish(ctx, h.gone, r, p)
	switch {
	case err == nil:
		return nil
	case err == errGone:
		return h.over.Load().err
	case ctx.Err() != nil && err == ctx.Err():
		h.broken = fmt.Errorf("irohub/iroh: stream operation interrupted: %w", err)
		return err
	}
	if native, ok := errors.AsType[*nativeError](err); ok {
		if reset, lost := parseStream(native.text); reset != nil {
			err = reset
		} else if lost {
			err = h.owner.link.explain(err)
		} else {
			err = &failure{doing: "stream", cause: native}
		}
	}
	h.end(&ending{err: err, reset: true})
	return err
}

// Read implements [irohub.Stream].
func (s *stream) Read(ctx context.Context, p []byte) (int, error) {
	defer runtime.KeepAlive(s)
	if len(p) == 0 {
		return 0, nil
	}
	h := &s.recv
	if err := h.begin(ctx); err != nil {
		return 0, err
	}
	defer h.done()
	p = p[:min(len(p), s.limit)]
	var r result
	C.irohub_read(h.h, bytesPtr(p), C.uint32_t(len(p)), h.w.next(), &r)
	if err := h.finish(ctx, &r, p); err != nil {
		return 0, err
	}
	n := int(r.value)
	switch {
	case n == 0:
		h.end(&ending{err: io.EOF})
		return 0, io.EOF
	case n == s.limit:
		s.limit = min(2*s.limit, maxRead)
	case n < s.limit/4:
		s.limit = max(s.limit/2, minRead)
	}
	return n, nil
}

// Write implements [irohub.Stream].
func (s *stream) Write(ctx context.Context, p []byte) (n int, err error) {
	defer runtime.KeepAlive(s)
	h := &s.send
	if err := h.begin(ctx); err != nil {
		return 0, err
	}
	defer h.done()
	for n < len(p) {
		part := p[n:min(len(p), n+maxWrite)]
		var r result
		C.irohub_write(h.h, bytesPtr(part), C.size_t(len(part)), h.w.next(), &r)
		if err := h.finish(ctx, &r, nil); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// CloseWrite implements [irohub.Stream].
func (s *stream) CloseWrite(ctx context.Context) error {
	defer runtime.KeepAlive(s)
	h := &s.send
	if err := h.begin(ctx); err != nil {
		return err
	}
	defer h.done()
	var r result
	C.irohub_start(C.IROHUB_FINISH, h.h, h.w.next(), &r)
	if err := h.finish(ctx, &r, nil); err != nil {
		return err
	}
	r = result{}
	C.irohub_start(C.IROHUB_STOPPED, h.h, h.w.next(), &r)
	if err := h.finish(ctx, &r, nil); err != nil {
		return err
	}
	// The result is an optional code. With a code, the peer stopped reading. Without, the
	// peer has received everything.
	if code := taken(&r); len(code) == 9 && code[0] == 1 {
		err := &irohub.CloseError{Code: binary.BigEndian.Uint64(code[1:])}
		h.end(&ending{err: err, reset: true})
		return err
	}
	h.end(&ending{err: errWritten})
	return nil
}

// Abort implements [irohub.Stream].
func (s *stream) Abort(code uint64) {
	defer runtime.KeepAlive(s)
	s.abort(code)
}
