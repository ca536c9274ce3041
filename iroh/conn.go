//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"errors"
	"runtime"
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

	closing sync.Once
	why     atomic.Pointer[error] // it has ended; set once that is noticed

	streamsMu sync.Mutex
	streams   map[*twoWay]struct{} // not over yet; nil once this side has closed
	accepted  int                  // of them, those that the peer opened
}

func newConn(e *Endpoint, h handle) (irohub.Conn, error) {
	var id, limit result
	C.irohub_remote_id(h, &id)
	C.irohub_limit_streams(h, C.uint64_t(e.maxStreams), &limit)
	err := errors.Join(failed(&id), failed(&limit))
	if err != nil {
		free(C.IROHUB_CONNECTION, &h)
		return nil, err
	}
	l := &link{object: newObject(h), endpoint: e.endpoint, streams: map[*twoWay]struct{}{}}
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
	return c.newStream(&r, false)
}

// AcceptStream implements [irohub.Conn].
func (c *conn) AcceptStream(ctx context.Context) (irohub.Stream, error) {
	defer runtime.KeepAlive(c)
	for {
		r, err := c.do(ctx, C.IROHUB_ACCEPT_STREAM)
		if err != nil {
			return nil, c.explain(err)
		}
		// The limit that the library was told of binds a peer only once it has
		// used up the higher one that the handshake gave it.
		s, err := c.newStream(&r, true)
		if err != errTooMany {
			return s, err
		}
	}
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
		streams := l.streams
		l.streams = nil
		l.streamsMu.Unlock()
		for s := range streams {
			s.send.end(&ending{err: why})
			if why == error(own) { // else what has arrived may still be read
				s.recv.end(&ending{err: why})
			}
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

var (
	errTooMany   = errors.New("irohub/iroh: too many streams")
	errForgotten = errors.New("irohub/iroh: forgotten") // nobody is there to see it
)

// newStream makes a stream of the handles in r.
func (c *conn) newStream(r *result, accepted bool) (irohub.Stream, error) {
	s := newTwoWay(c.link, own(r.value), own(r.value2), accepted)
	if err := c.adopt(s); err != nil {
		s.end(&ending{err: err, reset: true, code: irohub.CodeTooMany})
		return nil, err
	}
	out := &stream{s, c}
	// What was written to a forgotten stream still goes out: the library
	// finishes what is freed without a reset.
	runtime.AddCleanup(out, func(s *twoWay) { s.end(&ending{err: errForgotten}) }, s)
	return out, nil
}

// adopt notes a new stream, if there may be one.
func (l *link) adopt(s *twoWay) error {
	l.streamsMu.Lock()
	defer l.streamsMu.Unlock()
	if l.streams == nil {
		return l.err
	}
	if s.accepted {
		if l.accepted >= l.endpoint.maxStreams {
			return errTooMany
		}
		l.accepted++
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
