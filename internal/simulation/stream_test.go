package simulation

import (
	"context"
	"errors"
	"io"
	"time"

	"irohub"
)

// A stream is one side of a stream.
type stream struct {
	conn     *conn
	in, out  *half
	announce *stream // the peer's side, if it was not announced yet; guarded by net.mu
}

// A half is one direction of a stream. net.mu guards it. Written bytes are cut into pieces;
// each piece has an arrival time.
type half struct {
	pieces  []piece
	size    int // bytes in pieces
	window  int
	splits  int
	onRead  bool // data is acknowledged when read, not on arrival
	lastAt  time.Time
	stalled time.Time // nothing arrives before this time
	fin     bool
	dead    bool
	err     error     // a reset
	errAt   time.Time // when the reader learns of it
	stop    error     // the reader has stopped reading
	stopAt  time.Time // when the writer learns of it
	changed chan struct{}
}

// maxSplits limits how often the bytes of one half are split; otherwise a flood would take
// long.
const maxSplits = 200

type piece struct {
	data []byte
	at   time.Time
}

// half makes a half. mu must be held.
func (n *network) half() *half {
	h := &half{window: 64 << 10, onRead: n.chance(0.5), changed: make(chan struct{})}
	if w := n.weather.window; w > 0 && n.chance(0.5) {
		h.window = 1 + n.rand.IntN(w)
	}
	return h
}

func (h *half) change() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait waits until something changes, c ends, or the given time.
func (s *stream) wait(ctx context.Context, changed <-chan struct{}, until time.Time) error {
	var due <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		due = t.C
	}
	end := s.conn.end
	select {
	case <-changed:
	case <-due:
	case <-end:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (s *stream) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, until, changed, err := s.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		if err := s.wait(ctx, changed, until); err != nil {
			return 0, err
		}
	}
}

// take reads available bytes. If there are none, until is the time to look again.
func (s *stream) take(p []byte) (n int, until time.Time, changed <-chan struct{}, err error) {
	defer s.conn.lock()()
	net, h, now := s.conn.pair.net, s.in, time.Now()
	over := s.conn.over
	own := over && s.conn.pair.by == s.conn.side
	switch {
	case h.stop != nil:
		return 0, until, nil, h.stop
	case own: // after closing a connection, a side reads nothing from it
		return 0, until, nil, s.conn.err
	case h.err != nil && !h.errAt.After(now):
		return 0, until, nil, h.err
	case h.dead && !over:
		return 0, until, h.changed, nil
	case h.stalled.After(now) && !over:
		return 0, h.stalled, h.changed, nil
	}
	for len(h.pieces) > 0 && n < len(p) && !h.pieces[0].at.After(now) && !h.dead {
		first := &h.pieces[0]
		k := copy(p[n:], first.data)
		n += k
		h.size -= k
		if first.data = first.data[k:]; len(first.data) == 0 {
			h.pieces = h.pieces[1:]
		}
		if net.weather.split > 0 && h.splits < maxSplits && net.chance(0.3) {
			h.splits++
			break
		}
	}
	switch {
	case n > 0:
		net.note('r', n)
		h.change()
	case h.fin && len(h.pieces) == 0 && !h.dead && !h.lastAt.After(now): // arrived before any end of the connection
		return 0, until, nil, io.EOF
	case over:
		return 0, until, nil, s.conn.err
	case len(h.pieces) > 0:
		until = h.pieces[0].at
	case h.fin:
		until = h.lastAt
	}
	if h.err != nil && (until.IsZero() || h.errAt.Before(until)) {
		until = h.errAt
	}
	return n, until, h.changed, nil
}

func (s *stream) Write(ctx context.Context, p []byte) (int, error) {
	total := 0
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, until, changed, err := s.put(p[total:])
		total += n
		if err != nil || total == len(p) {
			return total, err
		}
		if n > 0 {
			continue
		}
		if err := s.wait(ctx, changed, until); err != nil {
			return total, err
		}
	}
}

// ended returns why no more can be written.
func (s *stream) ended() error {
	switch h := s.out; {
	case s.conn.over:
		return s.conn.err
	case h.err != nil:
		return h.err
	case h.stop != nil && !h.stopAt.After(time.Now()):
		return h.stop
	}
	return nil
}

func (s *stream) put(p []byte) (n int, until time.Time, changed <-chan struct{}, err error) {
	defer s.conn.lock()()
	net, h := s.conn.pair.net, s.out
	if err := s.ended(); err != nil {
		return 0, until, nil, err
	}
	if h.fin {
		return 0, until, nil, errors.New("simulation: Write after CloseWrite")
	}
	if h.stop != nil {
		until = h.stopAt
	}
	n = min(len(p), h.window-h.size)
	if most := net.weather.split; most > 0 && n > 0 && h.splits < maxSplits && net.chance(0.5) {
		n = min(n, 1+net.rand.IntN(most))
		h.splits++
	}
	if n <= 0 {
		return 0, until, h.changed, nil
	}
	pair := s.conn.pair
	cut := false
	if pair.cutAfter > 0 {
		if n >= pair.cutAfter {
			n, cut = pair.cutAfter, true
		}
		pair.cutAfter -= n
	}
	net.pieces++
	net.note('w', n)
	at := time.Now().Add(net.delay())
	if at.Before(h.lastAt) {
		at = h.lastAt
	}
	h.lastAt = at
	h.pieces = append(h.pieces, piece{append([]byte(nil), p[:n]...), at})
	h.size += n
	s.show()
	h.change()
	if cut {
		pair.cut()
		return n, until, h.changed, s.ended()
	}
	return n, until, h.changed, nil
}

// show announces the stream to the peer.
func (s *stream) show() {
	if s.announce != nil {
		s.conn.other().arrive(s.announce, s.out.lastAt)
		s.announce = nil
	}
}

func (s *stream) CloseWrite(ctx context.Context) error {
	unlock := s.conn.lock()
	h := s.out
	h.fin = true
	if now := time.Now(); h.lastAt.Before(now) {
		h.lastAt = now
	}
	s.show()
	h.change()
	unlock()
	for {
		done, until, changed, err := s.acknowledged()
		if done || err != nil {
			return err
		}
		if err := s.wait(ctx, changed, until); err != nil {
			return err
		}
	}
}

func (s *stream) acknowledged() (done bool, until time.Time, changed <-chan struct{}, err error) {
	defer s.conn.lock()()
	h, now := s.out, time.Now()
	if err := s.ended(); err != nil {
		return false, until, nil, err
	}
	if h.stop != nil {
		until = h.stopAt
	}
	there := h.lastAt
	if h.stalled.After(there) {
		there = h.stalled
	}
	switch {
	case h.dead:
	case h.onRead && h.size > 0:
	case there.After(now):
		until = there
	default:
		s.conn.pair.drained = s.conn.side == 1
		return true, until, nil, nil
	}
	return false, until, h.changed, nil
}

func (s *stream) Abort(code uint64) {
	defer s.conn.lock()()
	if s.conn.over {
		return
	}
	net := s.conn.pair.net
	net.note('a', int(code))
	err, at := &irohub.CloseError{Code: code}, time.Now().Add(net.delay())
	if h := s.out; h.err == nil {
		h.err, h.errAt = err, at
		h.change()
	}
	if h := s.in; h.stop == nil {
		h.stop, h.stopAt = err, at
		h.pieces, h.size = nil, 0
		h.change()
	}
	s.show()
}
