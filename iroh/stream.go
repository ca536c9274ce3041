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

// How many bytes one call of the library moves. A read sets as many to zero as
// it asks for, and keeps that memory while it waits: so a stream that is quiet
// asks for few, and for more as more comes. Over 16 KiB nothing is won.
const (
	minRead  = 1 << 10
	maxRead  = 32 << 10
	maxWrite = 64 << 10
)

// A stream is what the application holds of a stream; when it holds that no
// longer, the twoWay behind it is ended.
type stream struct {
	*twoWay
	c *conn // so that the stream keeps its connection alive
}

// A twoWay is a stream: two halves that end apart from each other.
type twoWay struct {
	link       *link
	accepted   bool // the peer opened it
	send, recv half
	halves     atomic.Int32 // not freed yet
	limit      int          // of the next read; owned by it
}

// A half is one direction of a stream.
//
// The library lets go of a half's lock only when an operation on it has ended,
// so whoever runs one holds mu, and ends the half itself if that was asked for
// meanwhile. Nobody waits for mu who must not wait.
type half struct {
	object C.int
	owner  *twoWay
	over   atomic.Pointer[ending] // nil: it goes on
	gone   chan struct{}          // closed once over is set

	mu     sync.Mutex
	h      handle // 0: freed
	w      *waiter
	broken error // of an operation that ended midway; the half is good for end only
}

// An ending says why a half is over: the error of its further operations, and
// with which code the peer is told, if it is.
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

// end makes the half over. The first reason counts.
func (h *half) end(why *ending) {
	if h.over.CompareAndSwap(nil, why) {
		close(h.gone)
	}
	h.sweep()
}

// sweep frees a half that is over, unless an operation has it: that will sweep.
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
		if r.status == C.IROHUB_PENDING { // it is not: nobody else has the lock
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

// finish waits for an operation; see [waiter.finish]. An error other than ctx's
// ends the half. It is called with mu held.
func (h *half) finish(ctx context.Context, r *result, p []byte) error {
	if r.status == C.IROHUB_OK { // what always happens at full load, at least cost
		return nil
	}
	err := h.w.finish(ctx, h.gone, r, p)
	switch {
	case err == nil:
		return nil
	case err == errGone:
		return h.over.Load().err
	case ctx.Err() != nil && err == ctx.Err():
		h.broken = fmt.Errorf("irohub/iroh: stream broken off: %w", err)
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
	// An optional code: the peer wants no more. Else it has got it all.
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
