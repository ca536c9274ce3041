//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"irohub"
	"irohub/internal/words"
)

// A conn is the application's reference to a connection. When the application drops it, the
// garbage collector closes the link behind it.
type conn struct {
	*link
	e *Endpoint // keeps the endpoint alive
}

// A link is a connection. Its object ends when this side closes it.
type link struct {
	object
	id       irohub.NodeID
	endpoint *endpoint

	dialled bool

	closing sync.Once
	why     atomic.Pointer[error] // why the connection ended; nil until that is known

	arrivals arrivals

	streamsMu sync.Mutex
	streams   map[*twoWay]struct{} // open streams; nil once this side has closed
	accepted  int                  // number of open streams that the peer opened
	waiting   []*twoWay            // the peer's streams that AcceptStream has not returned yet; oldest first
	wanted    bool                 // AcceptStream was called
}

func newConn(e *Endpoint, h handle, dialled bool) (irohub.Conn, error) {
	var id, limit result
	C.irohub_remote_id(h, &id)
	peersStreams := e.maxStreams
	if dialled {
		peersStreams = 0
	}
	C.irohub_limit_streams(h, C.uint64_t(peersStreams), &limit)
	err := errors.Join(failed(&id), failed(&limit))
	if err != nil {
		free(C.IROHUB_CONNECTION, &h)
		return nil, err
	}
	l := &link{object: newObject(h), endpoint: e.endpoint, dialled: dialled, streams: map[*twoWay]struct{}{}}
	l.id, err = readID(taken(&id))
	if err == nil && !e.adopt(l) {
		err = errEndpointClosed
	}
	if err != nil {
		l.close(0, "")
		return nil, err
	}
	c := &conn{l, e}
	runtime.AddCleanup(c, func(l *link) { l.close(0, "") }, l)
	return c, nil
}

// RemoteID implements [irohub.Conn].
func (c *conn) RemoteID() irohub.NodeID { return c.id }

// OpenStream implements [irohub.Conn]. It waits while the number of our open streams is at
// the peer's limit.
func (c *conn) OpenStream(ctx context.Context) (irohub.Stream, error) {
	defer runtime.KeepAlive(c)
	r, err := c.do(ctx, C.IROHUB_OPEN_STREAM)
	if err != nil {
		return nil, c.explain(err)
	}
	s, err := c.newStream(&r, false)
	if err != nil {
		return nil, err
	}
	return c.hold(s), nil
}

// AcceptStream implements [irohub.Conn]. It returns the streams that arrivals has taken.
func (c *conn) AcceptStream(ctx context.Context) (irohub.Stream, error) {
	defer runtime.KeepAlive(c)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		if s := c.next(); s != nil {
			return c.hold(s), nil
		}
		select {
		case <-c.arrivals.token:
		case <-c.gone:
			return nil, c.err
		case <-c.arrivals.done: // the last may have come with the end
			if s := c.next(); s != nil {
				return c.hold(s), nil
			}
			return nil, *c.why.Load()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// next returns the stream that has waited longest; nil if none waits.
func (l *link) next() *twoWay {
	l.streamsMu.Lock()
	defer l.streamsMu.Unlock()
	l.wanted = true
	if len(l.waiting) == 0 {
		return nil
	}
	s := l.waiting[0]
	if l.waiting = slices.Delete(l.waiting, 0, 1); len(l.waiting) > 0 {
		signal(l.arrivals.token) // for another caller
	}
	return s
}

// Wait implements [irohub.Conn].
func (c *conn) Wait(ctx context.Context) error {
	defer runtime.KeepAlive(c)
	r, err := c.do(ctx, C.IROHUB_CLOSED)
	if err != nil {
		return err
	}
	return c.lost(parseClosed(string(taken(&r))))
}

// Close implements [irohub.Conn]. If the peer closed first, data that arrived on the
// streams can still be read.
func (c *conn) Close(code uint64, reason string) {
	defer runtime.KeepAlive(c)
	c.close(code, reason)
}

// maxCode is the highest code in QUIC; the library refuses higher ones.
const maxCode = 1<<62 - 1

func (l *link) close(code uint64, reason string) {
	l.closing.Do(func() {
		l.ask() // the peer may have been first
		own := &irohub.CloseError{Code: min(code, maxCode), Reason: words.Cut(reason, maxReason)}
		why := l.lost(own)
		l.with(func(h handle) {
			var r result
			C.irohub_close(h, C.uint64_t(own.Code), wire(nil).bytes(own.Reason).c(), &r)
			failed(&r)
		})
		h := l.end(why)
		free(C.IROHUB_CONNECTION, &h)
		l.endpoint.forget(l)

		l.streamsMu.Lock()
		streams, waiting := l.streams, l.waiting
		l.streams, l.waiting = nil, nil
		l.streamsMu.Unlock()
		for s := range streams {
			s.send.end(&ending{err: why})
			if why == error(own) { // if the peer closed first, arrived data can still be read
				s.recv.end(&ending{err: why})
			}
		}
		for _, s := range waiting { // nobody will read them
			s.end(&ending{err: why})
		}
	})
}

// lost records why the connection ended, unless a reason is known already. It returns the
// recorded reason. Only close frees the connection: there may still be streams to accept.
func (l *link) lost(err error) error {
	l.why.CompareAndSwap(nil, &err)
	return *l.why.Load()
}

// ask asks the library whether the connection has ended, and records the reason.
func (l *link) ask() {
	l.with(func(h handle) {
		var r result
		C.irohub_close_reason(h, &r)
		if failed(&r) != nil {
			return
		}
		if words, _ := readOption(taken(&r)); words != "" {
			l.lost(parseClosed(words))
		}
	})
}

// explain replaces an operation's error by the reason why the connection ended, if it has
// ended. The error text contains that reason too, but mixed with the peer's text, so it
// cannot be parsed.
func (l *link) explain(err error) error {
	if _, ok := errors.AsType[*nativeError](err); !ok {
		return err
	}
	l.ask()
	if why := l.why.Load(); why != nil {
		return *why
	}
	return &failure{doing: "connection", cause: err}
}

var errForgotten = errors.New("irohub/iroh: forgotten") // nobody is there to see it

// newStream makes a stream from the handles in r, or aborts it if it is not allowed.
func (l *link) newStream(r *result, accepted bool) (*twoWay, error) {
	s := newTwoWay(l, own(r.value), own(r.value2), accepted)
	if err := l.adopt(s); err != nil {
		end := &ending{err: err, reset: true}
		if refused, ok := err.(*irohub.CloseError); ok {
			end.code = refused.Code
		}
		s.end(end)
		return nil, err
	}
	return s, nil
}

// hold wraps a stream for the application.
func (c *conn) hold(s *twoWay) irohub.Stream {
	out := &stream{s, c}
	// Data written to a forgotten stream is still sent: the library finishes a stream that
	// is freed without a reset.
	runtime.AddCleanup(out, func(s *twoWay) { s.end(&ending{err: errForgotten}) }, s)
	return out
}

// Why a stream of the peer is aborted on arrival.
var (
	errTooMany = &irohub.CloseError{Code: irohub.CodeTooMany, Reason: "too many streams"}
	errUnused  = &irohub.CloseError{Code: irohub.CodeProtocol, Reason: "a stream that the protocol does not use"}
)

// adopt registers a new stream if it is allowed. A peer's stream waits for AcceptStream.
func (l *link) adopt(s *twoWay) error {
	l.streamsMu.Lock()
	defer l.streamsMu.Unlock()
	switch {
	case l.streams == nil:
		return l.err
	case !s.accepted:
	case l.dialled:
		return errUnused
	// The library's limit binds a peer only after it has used up the higher one that the
	// handshake granted.
	case l.accepted >= l.endpoint.maxStreams, !l.wanted && len(l.waiting) > 0:
		return errTooMany
	default:
		l.accepted++
		l.waiting = append(l.waiting, s)
		signal(l.arrivals.token)
	}
	l.streams[s] = struct{}{}
	return nil
}

func (l *link) forget(s *twoWay) {
	l.streamsMu.Lock()
	defer l.streamsMu.Unlock()
	if _, ok := l.streams[s]; ok && s.accepted {
		l.accepted--
	}
	delete(l.streams, s)
}
