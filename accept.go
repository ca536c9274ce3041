package irohub

import (
	"context"
	"errors"
	"irohub/internal/logging"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// This file is a connection from its first packet to its streams.

// A peer is one connection. From its begin to its settle it is pending or has a spoke:
// the router sees to that, and the time that a connection may be pending is bounded.
type peer struct {
	// Immutable.
	hub    *Hub
	addr   string          // where its first packet came from
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	silent *time.Timer // ends the connection unless it has a spoke by then; the router stops it

	// Owned by the connection's goroutine; others may read them once it has let go.
	conn Conn  // nil before the handshake
	why  error // how the connection ended

	over    chan struct{} // closed by the connection's goroutine at its end
	spokes  atomic.Int32  // of its streams, those that became spokes and are not closed; written by the router
	streams atomic.Int32  // open ones; the last to end closes the connection
	users   atomic.Int32  // the connection's goroutine and the open streams; the last to let go settles

	// Owned by the router.
	number  uint64 // of two connections, the newer one has the higher
	pending bool
	served  bool // it has had a spoke
}

var (
	errGone     = &CloseError{Reason: "connection ended"}
	errShutdown = &CloseError{Code: CodeShutdown, Reason: "hub is shutting down"}
)

// accept hands each incoming connection of an endpoint to a goroutine of its own at once, so
// that a handshake delays nobody else. It returns the error that ends accepting.
func (h *Hub) accept(ctx, base context.Context, endpoint Endpoint) error {
	var failing logging.Notice
	for {
		in, err := endpoint.Accept(ctx)
		if err != nil && temporary(err) && ctx.Err() == nil {
			if n := failing.Due(); n > 0 {
				h.logs.Add(slog.LevelWarn, "accepting fails for now", "endpoint", endpoint.Addr().String(), "err", err, "times", n)
			}
			continue // the endpoint has paused
		}
		if err != nil {
			return err
		}
		p := &peer{hub: h, addr: in.RemoteAddr(), over: make(chan struct{})}
		p.users.Store(1)
		p.ctx, p.cancel = context.WithCancelCause(base)
		p.silent = time.AfterFunc(h.opts.HandshakeTimeout, func() {
			p.cancel(&CloseError{Code: CodeTimeout, Reason: "no whole frame in time"})
		})
		select {
		case h.inbox.begin <- p:
		case <-h.inbox.done:
			p.cancel(errShutdown)
		}
		// A connection's goroutine: a task of the hub, ended by p.ctx.
		h.tasks.Go(func() {
			p.why = p.serve(in)
			close(p.over)
			p.letGo()
		})
	}
}

// temporary says whether an endpoint may accept more after an error.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// letGo is called by each user of the connection as it ends. The last one tells the router
// that nothing is left.
func (p *peer) letGo() {
	if p.users.Add(-1) > 0 {
		return
	}
	p.silent.Stop()
	p.cancel(errGone)
	select {
	case p.hub.inbox.settle <- p:
	case <-p.hub.inbox.done:
	}
}

// serve takes a connection through its handshake and accepts its streams.
func (p *peer) serve(in Incoming) error {
	if p.ctx.Err() != nil {
		in.Refuse()
		return context.Cause(p.ctx)
	}
	conn, err := in.Handshake(p.ctx)
	if err != nil {
		return err
	}
	p.conn = conn
	err = p.admit()
	for err == nil {
		var stream Stream
		if stream, err = conn.AcceptStream(p.ctx); err == nil {
			p.stream(stream)
		}
	}
	if p.ctx.Err() != nil {
		err = context.Cause(p.ctx)
	}
	// What had arrived before the peer closed can still be read.
	end := endOf(err)
	conn.Close(end.Code, end.Reason)
	return err
}

// admit asks the application about a node. It does not wait for an Admit that
// outlasts its context.
func (p *peer) admit() error {
	id, opts := p.conn.RemoteID(), &p.hub.opts
	if id == (NodeID{}) { // an event from it would be the hub's
		return &CloseError{Code: CodeForbidden, Reason: "the zero NodeID is nobody's"}
	}
	if opts.Admit == nil {
		return nil
	}
	answer := make(chan error, 1)
	// Admit's goroutine: the application's, which ends it by returning.
	go func() {
		answer <- p.hub.logs.Guard("Admit", func() error { return opts.Admit(p.ctx, id) })
	}()
	select {
	case err := <-answer:
		if err != nil {
			return &CloseError{Code: CodeForbidden, Reason: err.Error()}
		}
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// stream starts the reader and the writer of a new stream. A connection may have one stream
// more than it has spokes: what it can make the hub hold besides is a single first frame.
func (p *peer) stream(stream Stream) {
	if p.streams.Add(1) > min(p.spokes.Load()+1, int32(min(p.hub.opts.MaxStreamsPerConn, 1<<30))) {
		stream.Abort(CodeTooMany)
		if p.streams.Add(-1) == 0 { // the others have ended meanwhile
			p.cancel(errGone)
		}
		return
	}
	p.users.Add(1)
	m := newMember(p, stream)
	// The writer: a task of the hub, ended by the link's context.
	p.hub.tasks.Go(func() {
		m.link.write()
		select {
		case p.hub.inbox.leave <- m:
		case <-p.hub.inbox.done:
		}
		close(m.link.closed)
		p.letGo()
	})
	// The reader: ended likewise, but not before the application's callbacks
	// return, for which nobody waits.
	go m.read()
}

// closed is the end of a stream: the last one of a connection ends that too.
func (p *peer) closed(stream Stream, end *CloseError) {
	if p.streams.Add(-1) == 0 {
		p.conn.Close(end.Code, end.Reason)
		p.cancel(end)
	} else {
		stream.Abort(end.Code)
	}
}

// host is the address without its port.
func (p *peer) host() string {
	if host, _, err := net.SplitHostPort(p.addr); err == nil {
		return host
	}
	return p.addr
}
