// Package irohubtest is a network in memory, for tests of irohub and of applications
// that use it. It is to irohub as httptest is to net/http.
//
// It behaves like iroh wherever irohub can tell the difference. The acceptor sees a stream
// once a byte has been sent. Before the first AcceptStream, only one stream may wait. A stream
// buffers a bounded number of unread bytes. When one side closes a connection, the other side
// sees the code and the reason. It can still read the bytes that arrived before.
//
// The package uses neither sockets nor timers, so that tests can run it in a
// testing/synctest bubble.
package irohubtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"irohub"
)

// Window is how many unread bytes one half of a stream holds before Write blocks.
const Window = 64 << 10

// A Network is a set of endpoints that can reach each other.
type Network struct {
	mu        sync.Mutex
	endpoints map[string]*Endpoint // by host
	count     uint64
}

// NewNetwork makes an empty network.
func NewNetwork() *Network {
	return &Network{endpoints: make(map[string]*Endpoint)}
}

// Endpoint makes an endpoint with a NodeID of its own. The NodeIDs are the same in every run.
func (n *Network) Endpoint() *Endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], n.count)
	return n.endpoint(sha256.Sum256(seed[:]))
}

// EndpointOf makes an endpoint with the given NodeID. Several endpoints may have the same
// NodeID, like nodes that share a key.
func (n *Network) EndpointOf(id irohub.NodeID) *Endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.endpoint(id)
}

// endpoint is called with mu held.
func (n *Network) endpoint(id irohub.NodeID) *Endpoint {
	n.count++
	e := &Endpoint{
		network: n,
		addr:    irohub.Addr{ID: id, Hosts: []string{fmt.Sprintf("memory:%d", n.count)}},
		calls:   make(chan *call),
		closed:  make(chan struct{}),
		conns:   make(map[*conn]struct{}),
	}
	n.endpoints[e.addr.Hosts[0]] = e
	return e
}

// An Endpoint is an irohub.Endpoint in memory.
type Endpoint struct {
	network *Network
	addr    irohub.Addr
	calls   chan *call    // from Dial to Accept
	closed  chan struct{} // closed by Close

	mu    sync.Mutex
	conns map[*conn]struct{} // open ones; nil after Close
}

var _ irohub.Endpoint = (*Endpoint)(nil)

// ID returns the endpoint's NodeID.
func (e *Endpoint) ID() irohub.NodeID { return e.addr.ID }

// Addr returns the address that Dial takes.
func (e *Endpoint) Addr() irohub.Addr { return e.addr }

// Close closes the endpoint and all its connections, with code 0.
func (e *Endpoint) Close() error {
	e.network.mu.Lock()
	delete(e.network.endpoints, e.addr.Hosts[0])
	e.network.mu.Unlock()
	e.mu.Lock()
	conns := e.conns
	e.conns = nil
	e.mu.Unlock()
	if conns == nil {
		return nil
	}
	close(e.closed)
	for c := range conns {
		c.Close(0, "endpoint closed")
	}
	return nil
}

var errClosed = fmt.Errorf("irohubtest: endpoint closed: %w", net.ErrClosed)

// A call is a Dial that waits for the other side's Handshake.
type call struct {
	from    *Endpoint
	ctx     context.Context // the dialer's
	answer  chan answer     // capacity 1
	claimed sync.Once
}

type answer struct {
	conn *conn
	err  error
}

// Dial connects to the endpoint at addr. It waits until that endpoint accepts.
func (e *Endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	select {
	case <-e.closed:
		return nil, errClosed
	default:
	}
	var to *Endpoint
	e.network.mu.Lock()
	for _, host := range addr.Hosts {
		if to = e.network.endpoints[host]; to != nil {
			break
		}
	}
	e.network.mu.Unlock()
	switch {
	case to == nil:
		return nil, fmt.Errorf("irohubtest: nobody at %s", addr)
	case to.ID() != addr.ID:
		return nil, fmt.Errorf("irohubtest: the node at %s is %s", addr, to.ID())
	}
	c := &call{from: e, ctx: ctx, answer: make(chan answer, 1)}
	select {
	case to.calls <- c:
	case <-to.closed:
		return nil, fmt.Errorf("irohubtest: nobody at %s", addr)
	case <-e.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-c.answer:
		if a.err != nil {
			return nil, a.err
		}
		return a.conn, nil
	case <-e.closed:
		c.give(answer{err: errClosed})
	case <-to.closed:
		c.give(answer{err: errors.New("irohubtest: the endpoint closed")})
	case <-ctx.Done():
		c.give(answer{err: ctx.Err()})
	}
	a := <-c.answer // the error from above, or a connection that came first
	if a.err != nil {
		return nil, a.err
	}
	return a.conn, nil
}

// give answers a call unless the call already has an answer. It reports whether it did.
func (c *call) give(a answer) (given bool) {
	c.claimed.Do(func() {
		c.answer <- a
		given = true
	})
	return given
}

// Accept waits for the next Dial.
func (e *Endpoint) Accept(ctx context.Context) (irohub.Incoming, error) {
	select {
	case <-e.closed: // check first: the select below picks at random
		return nil, errClosed
	default:
	}
	select {
	case c := <-e.calls:
		return &incoming{e, c}, nil
	case <-e.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type incoming struct {
	to   *Endpoint
	call *call
}

func (in *incoming) RemoteAddr() string { return in.call.from.addr.Hosts[0] }

func (in *incoming) Refuse() {
	in.call.give(answer{err: errors.New("irohubtest: the endpoint refused the connection")})
}

func (in *incoming) Handshake(ctx context.Context) (irohub.Conn, error) {
	if err := ctx.Err(); err != nil {
		in.Refuse()
		return nil, err
	}
	ours, theirs := connect(in.to, in.call.from)
	if !in.to.add(ours) || !in.call.from.add(theirs) {
		ours.Close(0, "endpoint closed")
		in.call.give(answer{err: errClosed})
		return nil, errClosed
	}
	if !in.call.give(answer{conn: theirs}) {
		ours.Close(0, "the dialer gave up")
		return nil, errors.New("irohubtest: the dialer gave up")
	}
	return ours, nil
}

// add notes a connection for Close to end. It returns false if Close was called before.
func (e *Endpoint) add(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil {
		return false
	}
	e.conns[c] = struct{}{}
	return true
}

func (e *Endpoint) remove(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

// A conn is one side of a connection.
type conn struct {
	endpoint *Endpoint
	remote   irohub.NodeID
	peer     *conn
	both     *life

	dialled bool

	mu      sync.Mutex
	streams []*stream     // opened by the peer, not accepted yet
	wanted  bool          // AcceptStream was called
	opened  chan struct{} // capacity 1; a value says that streams may not be empty
}

// A life is the state that the two sides of a connection share.
type life struct {
	once sync.Once
	end  chan struct{} // closed by the first Close
	err  *irohub.CloseError
}

func connect(a, b *Endpoint) (*conn, *conn) {
	both := &life{end: make(chan struct{})}
	x := &conn{endpoint: a, remote: b.ID(), both: both, opened: make(chan struct{}, 1)}
	y := &conn{endpoint: b, remote: a.ID(), both: both, opened: make(chan struct{}, 1), peer: x, dialled: true}
	x.peer = y
	return x, y
}

func (c *conn) RemoteID() irohub.NodeID { return c.remote }

func (c *conn) Close(code uint64, reason string) {
	c.both.once.Do(func() {
		c.both.err = &irohub.CloseError{Code: code, Reason: reason}
		close(c.both.end)
		c.endpoint.remove(c)
		c.peer.endpoint.remove(c.peer)
	})
}

func (c *conn) Wait(ctx context.Context) error {
	select {
	case <-c.both.end: // check first: the select below picks at random
		return c.both.err
	default:
	}
	select {
	case <-c.both.end:
		return c.both.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) OpenStream(ctx context.Context) (irohub.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-c.both.end:
		return nil, c.both.err
	default:
	}
	there, back := newHalf(), newHalf()
	theirs := &stream{conn: c.peer, in: there, out: back}
	return &stream{conn: c, in: back, out: there, announce: func() { c.peer.arrive(theirs) }}, nil
}

// arrive queues a stream for AcceptStream, or aborts it if it may not wait.
func (c *conn) arrive(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dialled:
		s.Abort(irohub.CodeProtocol)
		return
	case !c.wanted && len(c.streams) > 0:
		s.Abort(irohub.CodeTooMany)
		return
	}
	c.streams = append(c.streams, s)
	select {
	case c.opened <- struct{}{}:
	default:
	}
}

func (c *conn) AcceptStream(ctx context.Context) (irohub.Stream, error) {
	for {
		c.mu.Lock()
		c.wanted = true
		if len(c.streams) > 0 {
			s := c.streams[0]
			c.streams = c.streams[1:]
			c.mu.Unlock()
			return s, nil
		}
		c.mu.Unlock()
		select {
		case <-c.opened:
		case <-c.both.end:
			return nil, c.both.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// A stream is one side of a stream.
type stream struct {
	conn     *conn
	in, out  *half
	announce func() // shows the stream to the peer at its first byte; nil at the acceptor
	shown    sync.Once
}

func (s *stream) show() {
	if s.announce != nil {
		s.shown.Do(s.announce)
	}
}

func (s *stream) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, wait, err := s.in.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-wait:
		case <-s.conn.both.end:
			return 0, s.conn.both.err
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *stream) Write(ctx context.Context, p []byte) (int, error) {
	total := 0
	for {
		select {
		case <-s.conn.both.end:
			return total, s.conn.both.err
		default:
		}
		n, wait, err := s.out.put(p[total:])
		if n > 0 {
			s.show()
		}
		total += n
		if err != nil || total == len(p) {
			return total, err
		}
		select {
		case <-wait:
		case <-s.conn.both.end:
		case <-ctx.Done():
			return total, ctx.Err()
		}
	}
}

func (s *stream) CloseWrite(ctx context.Context) error {
	s.out.finish()
	s.show()
	for {
		empty, wait, err := s.out.drained()
		if empty || err != nil {
			return err
		}
		select {
		case <-wait:
		case <-s.conn.both.end:
			return s.conn.both.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stream) Abort(code uint64) {
	select {
	case <-s.conn.both.end: // the peer has already got the connection's code
		return
	default:
	}
	err := &irohub.CloseError{Code: code}
	s.in.fail(err)
	s.out.fail(err)
}

// A half is one direction of a stream.
type half struct {
	mu       sync.Mutex
	data     []byte
	finished bool
	err      error
	changed  chan struct{} // closed at the next change; nil: nobody waits for it
}

func newHalf() *half { return &half{} }

func (h *half) change() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// wait returns a channel that is closed at the next change.
func (h *half) wait() <-chan struct{} {
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.changed
}

func (h *half) take(p []byte) (n int, wait <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return 0, nil, h.err
	case len(h.data) > 0:
		n = copy(p, h.data)
		if h.data = h.data[n:]; len(h.data) == 0 {
			h.data = nil
		}
		h.change()
		return n, nil, nil
	case h.finished:
		return 0, nil, io.EOF
	}
	return 0, h.wait(), nil
}

func (h *half) put(p []byte) (n int, wait <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return 0, nil, h.err
	case h.finished:
		return 0, nil, errors.New("irohubtest: Write after CloseWrite")
	}
	if n = min(len(p), Window-len(h.data)); n > 0 {
		h.data = append(h.data, p[:n]...)
		h.change()
	}
	if n == len(p) {
		return n, nil, nil
	}
	return n, h.wait(), nil
}

func (h *half) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finished = true
	h.change()
}

// fail ends the half with an error and drops unread bytes. If the half has finished and all
// bytes were read, fail does nothing.
func (h *half) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil && (!h.finished || len(h.data) > 0) {
		h.err, h.data = err, nil
		h.change()
	}
}

// drained reports whether all bytes have been read. In this network, bytes are acknowledged
// when they are read.
func (h *half) drained() (empty bool, wait <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.data) == 0, h.wait(), h.err
}
