package irohub

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"irohub/internal/logging"
)

// This file handles a connection from its first packet to its streams.

// A peer is one connection. From its begin message to the router on, it is pending; a timer
// bounds for how long. It may then have spokes. It is closing once its last spoke has ended, or
// once it is turned away. Its settle message to the router is its end.
type peer struct {
	// Immutable.
	hub    *Hub
	addr   string          // the source address of its first packet
	ctx    context.Context // the hub ends it, or letGo; a close by the peer alone does not
	cancel context.CancelCauseFunc
	silent *time.Timer   // closes a connection that has no spoke in time; the router or letGo stops it
	over   chan struct{} // closed by the connection's goroutine at its end

	// Owned by the connection's goroutine. It sets conn before it starts a stream's goroutines,
	// which may read it. Others may read both after its letGo.
	conn Conn  // nil before the handshake
	why  error // why the connection ended

	// Atomic counters.
	spokes  atomic.Int32 // open streams that are spokes; written by the router
	streams atomic.Int32 // open streams; the last one to end closes the connection
	users   atomic.Int32 // the connection's goroutine and the open streams; the last one sends settle

	// Owned by the router.
	number  uint64 // increases with each connection
	pending bool   // has no spoke yet, and is in the router's list
	served  bool   // has had a spoke
}

var (
	errGone     = &CloseError{Reason: "connection ended"}
	errSilent   = &CloseError{Code: CodeTimeout, Reason: "no whole frame in time"}
	errShutdown = &CloseError{Code: CodeShutdown, Reason: "hub is shutting down"}
)

// accept starts a goroutine for each incoming connection of an endpoint, so that a handshake
// delays nobody else. It returns the error that ends accepting.
func (h *Hub) accept(ctx, base context.Context, endpoint Endpoint) error {
	var failing logging.Notice
	for {
		in, err := endpoint.Accept(ctx)
		if err != nil && temporary(err) && ctx.Err() == nil {
			if n := failing.Due(); n > 0 {
				h.logs.Add(slog.LevelWarn, "accepting fails for now", "endpoint", endpoint.Addr().String(), "err", err, "times", n)
			}
			continue // the endpoint has paused before it returned
		}
		if err != nil {
			return err
		}
		p := &peer{hub: h, addr: in.RemoteAddr(), over: make(chan struct{})}
		p.users.Store(1)
		p.ctx, p.cancel = context.WithCancelCause(base)
		p.silent = cancelAfter(h.opts.HandshakeTimeout, p.cancel, errSilent)
		select {
		case h.inbox.begin <- p:
		case <-h.inbox.done:
			p.cancel(errShutdown)
		}
		// The connection's goroutine is a task of the hub. It ends with p.ctx, a failed
		// handshake, Admit's refusal or the peer's close.
		h.tasks.Go(func() {
			p.why = p.serve(in)
			close(p.over)
			p.letGo()
		})
	}
}

// temporary reports whether an endpoint may accept again after err.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// letGo is called by each user of the connection at its end. The last one tells the router
// that the connection and its streams have ended.
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

// serve performs the handshake of a connection and accepts its streams.
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
	// Readers can still read the bytes that arrived before the peer closed.
	end := endOf(err)
	conn.Close(end.Code, end.Reason)
	return err
}

// admit asks the application whether it admits the node. It does not wait for an Admit that
// runs longer than its context.
func (p *peer) admit() error {
	id, opts := p.conn.RemoteID(), &p.hub.opts
	if id == (NodeID{}) { // its events would look like the hub's own
		return &CloseError{Code: CodeForbidden, Reason: "the zero NodeID is not allowed"}
	}
	if opts.Admit == nil {
		return nil
	}
	answer := make(chan error, 1)
	// Admit's goroutine ends when the application's Admit returns. The select below waits for it
	// until p.ctx ends. Then nobody does.
	go func() {
		answer <- p.hub.permission("Admit", func() error { return opts.Admit(p.ctx, id) })
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

// permission asks the application, and returns nil or an error with the text of its refusal. The
// error's Error is the application's too, so it is called under Guard and by the same goroutine.
func (h *Hub) permission(name string, policy func() error) error {
	return h.logs.Guard(name, func() error {
		if err := policy(); err != nil {
			return errors.New(err.Error())
		}
		return nil
	})
}

// stream starts the reader and the writer of a new stream. A connection may have one stream
// more than it has spokes. So it can make the hub hold only one first frame besides them.
func (p *peer) stream(stream Stream) {
	if p.streams.Add(1) > min(p.spokes.Load()+1, int32(min(p.hub.opts.MaxStreamsPerConn, 1<<30))) {
		stream.Abort(CodeTooMany)
		if p.streams.Add(-1) == 0 { // the other streams have ended meanwhile
			p.cancel(errGone)
		}
		return
	}
	p.users.Add(1)
	m := newMember(p, stream)
	// The writer is a task of the hub. It ends with its queue or with the link's context.
	p.hub.tasks.Go(func() {
		m.link.write()
		select {
		case p.hub.inbox.leave <- m:
		case <-p.hub.inbox.done:
		}
		close(m.link.closed)
		p.letGo()
	})
	// The reader ends with the stream or with the link's context, but only after the writer
	// and the application's callbacks. Nobody waits for it.
	go m.read()
}

// closed ends a stream. If it is the last one, closed ends the connection.
func (p *peer) closed(stream Stream, end *CloseError) {
	if p.streams.Add(-1) == 0 {
		p.conn.Close(end.Code, end.Reason)
		p.cancel(end)
	} else {
		stream.Abort(end.Code)
	}
}

// host returns the peer's address without the port.
func (p *peer) host() string {
	if host, _, err := net.SplitHostPort(p.addr); err == nil {
		return host
	}
	return p.addr
}
