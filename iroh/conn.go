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

// A conn is what the application holds of a connection; when it holds that no
// longer, the link behind it is closed.
type conn struct {
	*link
	e *Endpoint // so that the connection keeps its endpoint alive
}

// A link is a connection. Its object ends when this side has closed it.
type link struct {
	object
	id       irohub.NodeID
	endpoint *endpoint

	dialled bool

	closing sync.Once
	why     atomic.Pointer[error] // it has ended; set once that is noticed

	arrivals arrivals

	streamsMu sync.Mutex
	streams   map[*twoWay]struct{} // not over yet; nil once this side has closed
	accepted  int                  // of them, those that the peer opened
	waiting   []*twoWay            // of those, those that AcceptStream has not returned yet; the oldest first
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

// OpenStream implements [irohub.Conn]. It waits while the peer has as many
// streams of ours open as it allows.
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

// AcceptStream implements [irohub.Conn]. The streams have come to arrivals already.
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

// next returns the stream that has waited longest; nil: none waits.
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

// Close implements [irohub.Conn]. If the peer has closed before, what has arrived
// on the streams can still be read.
func (c *conn) Close(code uint64, reason string) {
	defer runtime.KeepAlive(c)
	c.close(code, reason)
}

// maxCode is the limit of what QUIC can carry; the library would refuse more.
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
			if why == error(own) { // else what has arrived may still be read
				s.recv.end(&ending{err: why})
			}
		}
		for _, s := range waiting { // nobody will read them
			s.end(&ending{err: why})
		}
	})
}

// lost notes why the connection has ended, unless that is known already, and
// returns why it has. Only close frees it: there may be streams to accept yet.
func (l *link) lost(err error) error {
	l.why.CompareAndSwap(nil, &err)
	return *l.why.Load()
}

// ask asks the library whether the connection has ended, and notes it.
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

// explain turns an error of an operation into why the connection has ended, if
// that is the reason for it. The error says so too, but with the peer's words in
// the middle, which may hold anything.
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

// newStream makes a stream of the handles in r, or ends it if there may be none.
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

// hold makes of a stream what the application holds.
func (c *conn) hold(s *twoWay) irohub.Stream {
	out := &stream{s, c}
	// What was written to a forgotten stream still goes out: the library
	// finishes what is freed without a reset.
	runtime.AddCleanup(out, func(s *twoWay) { s.end(&ending{err: errForgotten}) }, s)
	return out
}

// Why a stream of the peer's is ended as it comes.
var (
	errTooMany = &irohub.CloseError{Code: irohub.CodeTooMany, Reason: "too many streams"}
	errUnused  = &irohub.CloseError{Code: irohub.CodeProtocol, Reason: "a stream that the protocol does not use"}
)

// adopt notes a new stream, if there may be one: a peer's waits to be accepted.
func (l *link) adopt(s *twoWay) error {
	l.streamsMu.Lock()
	defer l.streamsMu.Unlock()
	switch {
	case l.streams == nil:
		return l.err
	case !s.accepted:
	case l.dialled:
		return errUnused
	// The limit that the library was told of binds a peer only once it has used up the
	// higher one that the handshake gave it.
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
