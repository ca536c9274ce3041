package simulation

import (
	"context"
	"errors"
	"time"

	"irohub"
)

// A pair is a connection. Side 0 dialled. net.mu guards all fields.
type pair struct {
	net      *network
	sides    [2]*conn
	number   int
	born     time.Time
	cutAfter int  // bytes, of both directions; 0: never
	ended    bool // for one side at least
	faulty   bool // the network disturbed it without a side knowing
	by       int  // the side that closed it; -1: the network did
	code     uint64
	drained  bool // the acceptor's CloseWrite was acknowledged on its newest stream
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

// finish records the connection's end, once.
func (p *pair) finish(by int, code uint64) {
	if !p.ended {
		p.ended, p.by, p.code = true, by, code
		p.sides[0].endpoint.losses++
	}
}

// cut ends a connection as a network failure does: each side notices at its own time.
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

	// Guarded by net.mu.
	over    bool
	dead    bool // the network carries nothing, and this side has not noticed
	err     error
	goodbye bool // the peer's close is in flight
	streams []*stream
	opened  []arrival     // the peer's streams that were not accepted yet
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

// close ends this side now, and the peer's side when the close arrives there.
func (c *conn) close(err *irohub.CloseError) {
	if c.over {
		return
	}
	c.pair.net.note('x', int(err.Code))
	c.pair.finish(c.side, err.Code)
	c.endNow(err)
	if !c.dead {
		// Data in flight may arrive before the close. On a single byte stream, all of it does.
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

// pairStream makes a stream. The peer may accept it from the given time on; zero: once its
// first byte has arrived.
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

// vanish simulates a crash of this side's process: it sends and receives nothing more.
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

// code returns the side's close code; 0 also while it is open. net.mu must be held.
func (c *conn) code() uint64 {
	var end *irohub.CloseError
	if errors.As(c.err, &end) {
		return end.Code
	}
	return 0
}
