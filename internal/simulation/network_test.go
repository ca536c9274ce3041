package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"irohub"
)

// A weather is what a network does to what passes through it. The zero value is a calm one.
type weather struct {
	latency   time.Duration // of each piece, at most
	split     int           // bytes of a piece at most; 0: as they come
	window    int           // bytes that a half of a stream holds, at most
	cut       float64       // of the connections, so many end after some byte
	cutBytes  int           // that byte is one of so many
	silent    float64       // of the cuts, so many are not told to one side for a while
	unreached float64       // of the dials, so many get no answer
}

// A network connects endpoints by host. All it does by chance is drawn from one seed, and all
// its delays are timers, so that it is calm where its callers are.
type network struct {
	mu        sync.Mutex
	rand      *rand.Rand
	weather   weather
	endpoints map[string]*endpoint
	conns     map[*pair]struct{} // those that one side has not seen the end of
	digest    uint64             // of all that happened
	pieces    int                // that were carried
	count     int
}

func newNetwork(r *rand.Rand) *network {
	return &network{rand: r, endpoints: make(map[string]*endpoint), conns: make(map[*pair]struct{})}
}

// note makes what happens part of the digest. mu is held.
func (n *network) note(what byte, size int) {
	h := fnv.New64a()
	fmt.Fprintln(h, n.digest, what, size, time.Now().UnixNano())
	n.digest = h.Sum64()
}

// chance says yes with a probability. mu is held.
func (n *network) chance(p float64) bool { return n.rand.Float64() < p }

// delay draws a latency. mu is held.
func (n *network) delay() time.Duration {
	if n.weather.latency <= 0 || n.chance(0.3) {
		return 0
	}
	return time.Duration(n.rand.Int64N(int64(n.weather.latency)))
}

// An endpoint is an irohub.Endpoint of the network.
type endpoint struct {
	net    *network
	addr   irohub.Addr
	calls  chan *incoming
	closed chan struct{}

	// Under net.mu.
	over   bool
	single bool // its connections have one stream, as those of TLS
	dials  int
	losses int // connections that it dialled and that have ended, for one side at least
	known  int // of these, those that had ended when it dialled last
	last   *pair
}

var errUnreached = errors.New("simulation: nobody answers")

// endpoint makes an endpoint at a host, and takes it from whoever had it.
func (n *network) endpoint(id irohub.NodeID, host string) *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &endpoint{
		net:    n,
		addr:   irohub.Addr{ID: id, Hosts: []string{host}},
		calls:  make(chan *incoming),
		closed: make(chan struct{}),
		single: n.chance(0.4),
	}
	n.endpoints[host] = e
	return e
}

func (e *endpoint) ID() irohub.NodeID { return e.addr.ID }

// lost counts connections that have ended. Whoever dials knows of those that ended before.
// Between known and all are those of which a spoke may not have heard: what it sends there is
// lost, and what it has from there is old.
func (e *endpoint) lost() (known, all int) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.known, e.losses
}

// link is the newest connection that the endpoint dialled; nil: it has ended, or never was.
func (e *endpoint) link() *pair {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.last == nil || e.last.ended {
		return nil
	}
	return e.last
}

// Close ends the endpoint and its connections.
func (e *endpoint) Close() {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.over {
		return
	}
	e.over = true
	close(e.closed)
	if host := e.addr.Hosts[0]; e.net.endpoints[host] == e {
		delete(e.net.endpoints, host)
	}
	for p := range e.net.conns {
		for _, c := range p.sides {
			if c.endpoint == e {
				c.close(&irohub.CloseError{Reason: "endpoint closed"})
			}
		}
	}
}

func (e *endpoint) Accept(ctx context.Context) (irohub.Incoming, error) {
	select {
	case in := <-e.calls:
		return in, nil
	case <-e.closed:
		return nil, fmt.Errorf("simulation: endpoint closed: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	n := e.net
	n.mu.Lock()
	to := n.endpoints[addr.Hosts[0]]
	lost, pause := n.chance(n.weather.unreached), n.delay()
	n.note('d', 0)
	e.known = e.losses
	n.mu.Unlock()
	if lost {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.closed:
		}
	}
	if err := sleep(ctx, pause); err != nil {
		return nil, err
	}
	if isClosed(e.closed) {
		return nil, fmt.Errorf("simulation: endpoint closed: %w", net.ErrClosed)
	}
	if to == nil || to.addr.ID != addr.ID {
		return nil, errUnreached
	}
	in := &incoming{from: e, to: to, answer: make(chan error, 1)}
	select {
	case to.calls <- in:
	case <-to.closed:
		return nil, errUnreached
	case <-e.closed:
		return nil, fmt.Errorf("simulation: endpoint closed: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var err error
	select {
	case err = <-in.answer:
	case <-to.closed:
		err = errUnreached
	case <-e.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return in.settle(err)
}

// sleep waits for made-up time, and less where ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// An incoming is a Dial that waits for its Handshake.
type incoming struct {
	from, to *endpoint
	answer   chan error

	// Under net.mu.
	gone bool // the dialler has an answer that is not this
	pair *pair
}

// settle is the dialler's end of a handshake: err, or the connection that was faster.
func (in *incoming) settle(err error) (irohub.Conn, error) {
	n := in.from.net
	n.mu.Lock()
	defer n.mu.Unlock()
	in.gone = true
	if err == nil && in.pair != nil {
		if in.from.over {
			in.pair.sides[0].close(&irohub.CloseError{Reason: "endpoint closed"})
			return nil, net.ErrClosed
		}
		return in.pair.sides[0], nil
	}
	if in.pair != nil {
		in.pair.sides[0].close(&irohub.CloseError{Reason: "the dialler gave up"})
	}
	if err == nil {
		err = errUnreached
	}
	return nil, err
}

func (in *incoming) RemoteAddr() string { return in.from.addr.Hosts[0] }

func (in *incoming) Refuse() { in.answer <- errUnreached }

func (in *incoming) Handshake(ctx context.Context) (irohub.Conn, error) {
	n := in.from.net
	n.mu.Lock()
	pause := n.delay() + n.delay()
	n.mu.Unlock()
	if err := sleep(ctx, pause); err != nil {
		in.Refuse()
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.gone || in.from.over || in.to.over {
		in.answer <- errUnreached
		return nil, errUnreached
	}
	in.pair = n.pair(in.from, in.to)
	in.answer <- nil
	return in.pair.sides[1], nil
}

// A pair is a connection: side 0 dialled. All of it is under net.mu.
type pair struct {
	net      *network
	sides    [2]*conn
	number   int
	born     time.Time
	cutAfter int  // bytes, of both directions; 0: never
	ended    bool // for one side at least
	faulty   bool // the network did something to it that a side could not know of
	by       int  // the side that closed it; -1: the network did
	code     uint64
	drained  bool // the acceptor's CloseWrite has been acknowledged, on its newest stream
}

func (n *network) pair(from, to *endpoint) *pair {
	n.count++
	p := &pair{net: n, number: n.count, born: time.Now(), by: -1}
	for i, e := range []*endpoint{from, to} {
		p.sides[i] = &conn{pair: p, side: i, endpoint: e, end: make(chan struct{}), single: to.single, changed: make(chan struct{})}
	}
	if n.chance(n.weather.cut) {
		p.cutAfter = 1 + n.rand.IntN(max(n.weather.cutBytes, 1))
	}
	n.conns[p] = struct{}{}
	from.dials++
	from.last = p
	if to.single {
		p.sides[0].pairStream(time.Now())
	}
	n.note('c', p.cutAfter)
	return p
}

// finish notes the connection's end, once.
func (p *pair) finish(by int, code uint64) {
	if !p.ended {
		p.ended, p.by, p.code = true, by, code
		p.sides[0].endpoint.losses++
	}
}

// cut ends a connection as a lost network does: each side sees it sooner or later.
func (p *pair) cut() {
	if p.sides[0].over && p.sides[1].over {
		return
	}
	n := p.net
	p.faulty = true
	p.finish(-1, 0)
	deaf := -1
	if n.chance(n.weather.silent) {
		deaf = n.rand.IntN(2)
	}
	for i, c := range p.sides {
		if i != deaf {
			c.endNow(errors.New("simulation: the connection was lost"))
			continue
		}
		for _, s := range c.streams {
			s.in.dead, s.out.dead = true, true
		}
		c.dead = true
		c.endLater(time.Duration(n.rand.Int64N(int64(30*time.Second))), errors.New("simulation: the connection has timed out"))
	}
}

// A conn is one side of a pair.
type conn struct {
	pair     *pair
	side     int
	endpoint *endpoint
	single   bool
	end      chan struct{}

	// Under net.mu.
	over    bool
	dead    bool // nothing comes or goes, and nobody has said so
	err     error
	goodbye bool // the peer's close is on its way
	streams []*stream
	opened  []arrival     // streams of the peer that nobody has accepted
	changed chan struct{} // closed at the next change of opened
	oneUsed bool
}

type arrival struct {
	stream *stream
	at     time.Time
}

func (c *conn) other() *conn            { return c.pair.sides[1-c.side] }
func (c *conn) RemoteID() irohub.NodeID { return c.other().endpoint.addr.ID }
func (c *conn) lock() (unlock func())   { c.pair.net.mu.Lock(); return c.pair.net.mu.Unlock }
func (c *conn) Close(code uint64, reason string) {
	defer c.lock()()
	c.close(&irohub.CloseError{Code: code, Reason: reason})
}

// close ends this side now, and the peer's when the news has got there.
func (c *conn) close(err *irohub.CloseError) {
	if c.over {
		return
	}
	c.pair.net.note('x', int(err.Code))
	c.pair.finish(c.side, err.Code)
	c.endNow(err)
	if !c.dead {
		// What is on the way may get there before, and all of it does where it is a single
		// stream of bytes.
		pause := c.pair.net.delay()
		if c.single {
			for _, s := range c.streams {
				pause = max(pause, time.Until(s.out.lastAt))
			}
		}
		c.other().goodbye = true
		c.other().endLater(pause, err)
	}
}

func (c *conn) endNow(err error) {
	if c.over {
		return
	}
	c.over, c.err = true, err
	close(c.end)
	for _, s := range c.streams {
		s.in.change()
		s.out.change()
	}
	if c.other().over {
		delete(c.pair.net.conns, c.pair)
	}
}

func (c *conn) endLater(d time.Duration, err error) {
	if d <= 0 {
		c.endNow(err)
		return
	}
	time.AfterFunc(d, func() {
		defer c.lock()()
		c.endNow(err)
	})
}

func (c *conn) Wait(ctx context.Context) error {
	select {
	case <-c.end:
		return c.err
	default:
	}
	select {
	case <-c.end:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) OpenStream(ctx context.Context) (irohub.Stream, error) {
	defer c.lock()()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case c.over:
		return nil, c.err
	case c.single && (c.side == 1 || c.oneUsed):
		return nil, errors.ErrUnsupported
	case c.single:
		c.oneUsed = true
		return c.streams[0], nil
	}
	return c.pairStream(time.Time{}), nil
}

// pairStream makes a stream. The peer may accept it from the given time on; zero: from when
// its first byte has come.
func (c *conn) pairStream(at time.Time) *stream {
	n := c.pair.net
	there, back := n.half(), n.half()
	there.dead, back.dead = c.dead || c.other().dead, c.dead || c.other().dead
	ours := &stream{conn: c, in: back, out: there}
	theirs := &stream{conn: c.other(), in: there, out: back}
	c.streams = append(c.streams, ours)
	if at.IsZero() {
		ours.announce = theirs
	} else {
		c.other().arrive(theirs, at)
	}
	return ours
}

func (c *conn) arrive(s *stream, at time.Time) {
	c.streams = append(c.streams, s)
	c.opened = append(c.opened, arrival{s, at})
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *conn) AcceptStream(ctx context.Context) (irohub.Stream, error) {
	for {
		unlock := c.lock()
		var due <-chan time.Time
		changed := c.changed
		if len(c.opened) > 0 {
			next := c.opened[0]
			pause := time.Until(next.at)
			if pause <= 0 {
				c.opened = c.opened[1:]
				unlock()
				return next.stream, nil
			}
			due = time.After(pause)
		}
		unlock()
		select {
		case <-due:
		case <-changed:
		case <-c.end:
			return nil, c.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// vanish is a crash of this side's process: it says nothing, and hears nothing.
func (c *conn) vanish() {
	defer c.lock()()
	c.pair.faulty = true
	c.pair.finish(-1, 0)
	c.dead, c.other().dead = true, true
	for _, side := range c.pair.sides {
		for _, s := range side.streams {
			s.in.dead, s.out.dead = true, true
		}
	}
	c.endNow(errors.New("simulation: vanished"))
	c.other().endLater(30*time.Second, errors.New("simulation: the connection has timed out"))
}

// incoming counts an endpoint's open connections of an age, by who dialled.
func (e *endpoint) incoming(age time.Duration) map[irohub.NodeID]int {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	found := make(map[irohub.NodeID]int)
	for p := range e.net.conns {
		if c := p.sides[1]; c.endpoint == e && !c.over && !c.goodbye && time.Since(p.born) > age {
			found[p.sides[0].endpoint.addr.ID]++
		}
	}
	return found
}

// code is how the side was closed; 0 where it is open too. net.mu is held.
func (c *conn) code() uint64 {
	var end *irohub.CloseError
	if errors.As(c.err, &end) {
		return end.Code
	}
	return 0
}

// open are the connections that no side has ended, in an order that is always the same.
// mu is held.
func (n *network) open() (open []*pair) {
	for p := range n.conns {
		if !p.ended {
			open = append(open, p)
		}
	}
	slices.SortFunc(open, func(a, b *pair) int { return a.number - b.number })
	return open
}

func (n *network) cutOne(dice *rand.Rand) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open := n.open(); len(open) > 0 {
		open[dice.IntN(len(open))].cut()
	}
}

// cutSoon cuts the connection that the endpoint has in the next bytes.
func (e *endpoint) cutSoon() {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.last != nil && !e.last.ended {
		e.last.cutAfter = 1 + e.net.rand.IntN(60)
	}
}

// stallOne keeps what one side writes from the other for a while.
func (n *network) stallOne(dice *rand.Rand) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open := n.open(); len(open) > 0 {
		c := open[dice.IntN(len(open))].sides[dice.IntN(2)]
		until := time.Now().Add(time.Duration(dice.Int64N(int64(20 * time.Second))))
		for _, s := range c.streams {
			s.in.stalled = until
			s.in.change()
		}
	}
}

// heal makes the weather calm for connections that there are, too.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = weather{}
	for p := range n.conns {
		p.cutAfter = 0
		for _, c := range p.sides {
			for _, s := range c.streams {
				s.in.stalled, s.in.window = time.Time{}, 64<<10
				s.in.change()
			}
		}
	}
}

// closeAll ends all endpoints.
func (n *network) closeAll() {
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.endpoints))
	n.mu.Unlock()
	for _, e := range all {
		e.Close()
	}
}
