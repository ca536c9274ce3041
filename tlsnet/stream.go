package tlsnet

import (
	"context"
	"errors"
	"fmt"
	"io"

	"irohub"
)

// A stream is the one stream of a connection.
type stream struct {
	c *conn // its lock guards all that is not said to be otherwise

	taken    bool          // by OpenStream or AcceptStream
	begun    bool          // something of it has come
	appeared chan struct{} // a token when begun; capacity 1
	err      error         // given up, by either side
	aborted  chan struct{} // closed with err

	// The half that comes in.
	queue  queue
	window int           // what the peer may still send
	owed   int           // what was read and the peer has no credit for yet
	ended  bool          // the peer's fin has come
	more   chan struct{} // a token when there is something new for Read; capacity 1

	// The half that goes out.
	sending  chan struct{} // capacity 1: full during a Write or CloseWrite
	allowed  int           // what the peer takes
	refilled chan struct{} // a token when there is more of that; capacity 1
	noMore   bool          // CloseWrite was called
	finSent  bool
	acked    bool
	settled  chan struct{} // closed with acked
}

func (s *stream) init(c *conn) {
	s.c = c
	s.appeared = make(chan struct{}, 1)
	s.aborted = make(chan struct{})
	s.window, s.allowed = window, window
	s.more = make(chan struct{}, 1)
	s.sending = make(chan struct{}, 1)
	s.refilled = make(chan struct{}, 1)
	s.settled = make(chan struct{})
}

// signal puts a token into a channel that has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Read implements [irohub.Stream].
func (s *stream) Read(ctx context.Context, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := s.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-s.more:
		case <-s.c.ended:
		case <-s.aborted:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// take returns what is there. What had arrived before the peer closed, or was lost, is
// there still.
func (s *stream) take(p []byte) (n int, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case c.local:
		return 0, c.why
	}
	if n = s.queue.take(p); n > 0 {
		s.owed += n
		if s.owed >= window/2 && !s.ended && c.why == nil {
			s.window += s.owed
			c.posted.credit += s.owed
			s.owed = 0
			c.post()
		}
		return n, nil
	}
	if s.ended {
		return 0, io.EOF
	}
	return 0, c.why
}

// Write implements [irohub.Stream]. When ctx ends, the bytes that it has counted still go
// out.
func (s *stream) Write(ctx context.Context, p []byte) (total int, err error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	defer func() { <-s.sending }()
	for len(p) > 0 {
		n, err := s.claim(ctx, min(len(p), maxData))
		if err != nil {
			return total, err
		}
		sealed, err := s.c.send(ctx, kindData, p[:n])
		if sealed {
			total += n
			p = p[n:]
		} else {
			s.giveBack(n)
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// begin waits for an earlier call to end.
func (s *stream) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.sending <- struct{}{}:
	default:
		select {
		case s.sending <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

var errFinished = errors.New(prefix + "Write after CloseWrite")

// claim waits until the peer takes at least one byte, and returns how many of want.
func (s *stream) claim(ctx context.Context, want int) (int, error) {
	c := s.c
	for {
		c.mu.Lock()
		n, err := min(want, s.allowed), error(nil)
		switch {
		case s.err != nil:
			err = s.err
		case c.why != nil:
			err = c.why
		case s.noMore:
			err = errFinished
		default:
			s.allowed -= n
		}
		c.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-s.refilled:
		case <-s.aborted:
		case <-c.ended:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *stream) giveBack(n int) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.allowed += n
}

// CloseWrite implements [irohub.Stream].
func (s *stream) CloseWrite(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	s.noMore = true
	sent := s.finSent
	c.mu.Unlock()
	var err error
	if !sent {
		_, err = c.send(ctx, kindFin, nil)
	}
	<-s.sending
	if err != nil {
		return s.unlessAcked(err)
	}
	select {
	case <-s.settled:
		return nil
	case <-s.aborted:
		return s.unlessAcked(s.err)
	case <-c.ended:
		return s.unlessAcked(c.why)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finGoes is called before the fin is sent, so that its acknowledgement is expected.
func (s *stream) finGoes() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.finSent = true
}

// unlessAcked leaves out an error that came after what was waited for.
func (s *stream) unlessAcked(err error) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.acked {
		return nil
	}
	return err
}

// Abort implements [irohub.Stream].
func (s *stream) Abort(code uint64) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil || c.why != nil {
		return
	}
	end := &irohub.CloseError{Code: code}
	s.giveUp(end)
	c.posted.abort = end
	c.post()
}

// giveUp ends both halves; the connection's lock is held.
func (s *stream) giveUp(err error) {
	s.err = err
	close(s.aborted)
	s.queue.drop()
	s.c.cutWrite()
}

// receive reads a record of data. It is called, as are all of those below, for what the
// peer sends.
func (s *stream) receive(r io.Reader, n int) error {
	c := s.c
	c.mu.Lock()
	ended := s.ended
	s.window -= n
	over := s.window < 0
	c.mu.Unlock()
	switch {
	case ended:
		return fmt.Errorf("%w: data behind the end of the stream", errRecord)
	case over:
		return fmt.Errorf("%w: more data than there was credit for", errRecord)
	}
	for n > 0 {
		c.mu.Lock()
		if s.err != nil || c.why != nil {
			c.mu.Unlock()
			return discard(r, n)
		}
		p := s.queue.space(n)
		c.mu.Unlock()

		k, err := r.Read(p)

		c.mu.Lock()
		s.queue.filled(k)
		if k > 0 {
			s.appear()
		}
		c.mu.Unlock()
		signal(s.more)
		n -= k
		if n > 0 && err != nil {
			return unexpected(err)
		}
	}
	return nil
}

func discard(r io.Reader, n int) error {
	p := chunks.Get().(*chunk)
	defer chunks.Put(p)
	for n > 0 {
		k, err := r.Read(p[:min(n, len(p))])
		if n -= k; n > 0 && err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// appear lets AcceptStream see the stream.
func (s *stream) appear() {
	if !s.begun {
		s.begun = true
		signal(s.appeared)
	}
}

func (s *stream) credited(n uint32) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if n == 0 || n > uint32(window-s.allowed) { // more than was used
		return fmt.Errorf("%w: a credit of %d", errRecord, n)
	}
	s.allowed += int(n)
	signal(s.refilled)
	return nil
}

func (s *stream) finished() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.ended {
		return fmt.Errorf("%w: a second end of the stream", errRecord)
	}
	s.ended = true
	s.appear()
	signal(s.more)
	if s.err == nil {
		s.c.posted.ack = true
		s.c.post()
	}
	return nil
}

func (s *stream) acknowledged() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.finSent || s.acked {
		return fmt.Errorf("%w: an acknowledgement of nothing", errRecord)
	}
	s.acked = true
	close(s.settled)
	return nil
}

func (s *stream) givenUp(code uint64) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.err == nil {
		s.giveUp(&irohub.CloseError{Code: code})
		s.appear()
	}
	return nil
}
