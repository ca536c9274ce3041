package tlsnet

import (
	"context"
	"errors"
	"io"

	"irohub"
	"irohub/internal/records"
)

// A stream is the one stream of a connection.
type stream struct {
	c *conn // c.mu guards all fields but the channels

	taken    bool          // returned by OpenStream or AcceptStream
	begun    bool          // something of it has arrived
	appeared chan struct{} // gets a token when begun is set; capacity 1
	err      error         // set when either side has aborted
	aborted  chan struct{} // closed when err is set

	// The receiving half.
	in   records.Inbound
	more chan struct{} // gets a token when there is something for Read; capacity 1

	// The sending half.
	out      records.Outbound
	sending  chan struct{} // capacity 1: full during a Write or CloseWrite
	refilled chan struct{} // gets a token when more may be sent; capacity 1
	noMore   bool          // CloseWrite was called
	settled  chan struct{} // closed when the peer has acknowledged the fin
}

func (s *stream) init(c *conn) {
	s.c = c
	s.appeared = make(chan struct{}, 1)
	s.aborted = make(chan struct{})
	s.more = make(chan struct{}, 1)
	s.sending = make(chan struct{}, 1)
	s.refilled = make(chan struct{}, 1)
	s.settled = make(chan struct{})
}

// signal puts a token into a channel of capacity 1, if it is empty.
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

// take moves received bytes to p. Bytes that arrived before the peer closed or was lost can
// still be taken.
func (s *stream) take(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case c.local:
		return 0, c.why
	}
	n, credit := s.in.Read(p)
	if credit > 0 && c.why == nil {
		c.posted.credit += credit
		c.post()
	}
	if n > 0 {
		return n, nil
	}
	if s.in.Ended() {
		return 0, io.EOF
	}
	return 0, c.why
}

// Write implements [irohub.Stream]. The bytes that it reports are sent even if ctx ends.
func (s *stream) Write(ctx context.Context, p []byte) (total int, err error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	defer func() { <-s.sending }()
	for len(p) > 0 {
		n, err := s.claim(ctx, min(len(p), records.MaxData))
		if err != nil {
			return total, err
		}
		sealed, err := s.c.send(ctx, records.Data, p[:n])
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

// begin waits until earlier Write and CloseWrite calls have returned.
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

// claim waits until at least one byte may be sent. It returns how many of want may be sent,
// and counts them as sent.
func (s *stream) claim(ctx context.Context, want int) (int, error) {
	c := s.c
	for {
		c.mu.Lock()
		n, err := 0, error(nil)
		switch {
		case s.err != nil:
			err = s.err
		case c.why != nil:
			err = c.why
		case s.noMore:
			err = errFinished
		default:
			n = s.out.Claim(want)
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
	s.out.GiveBack(n)
}

// CloseWrite implements [irohub.Stream].
func (s *stream) CloseWrite(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	s.noMore = true
	sent := s.out.FinSent()
	c.mu.Unlock()
	var err error
	if !sent {
		_, err = c.send(ctx, records.Fin, nil)
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

// finGoes is called before the fin is sent, so that an acknowledgement is valid from then
// on.
func (s *stream) finGoes() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.out.Finish()
}

// unlessAcked returns nil if the acknowledgement has arrived, and err otherwise.
func (s *stream) unlessAcked(err error) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.out.Acked() {
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

// giveUp ends both halves. c.mu must be held.
func (s *stream) giveUp(err error) {
	s.err = err
	close(s.aborted)
	s.in.Drop()
	s.c.cutWrite()
}

// receive reads the body of a data record. This method and those below are called by run
// for the peer's records.
func (s *stream) receive(r io.Reader, n int) error {
	c := s.c
	c.mu.Lock()
	err := s.in.Arrive(n)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	for n > 0 {
		c.mu.Lock()
		if s.err != nil || c.why != nil {
			c.mu.Unlock()
			return discard(r, n)
		}
		p := s.in.Space(n)
		c.mu.Unlock()

		k, err := r.Read(p)

		c.mu.Lock()
		s.in.Filled(k)
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
	p := records.Chunks.Get().(*records.Chunk)
	defer records.Chunks.Put(p)
	for n > 0 {
		k, err := r.Read(p[:min(n, len(p))])
		if n -= k; n > 0 && err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// appear makes the stream visible to AcceptStream.
func (s *stream) appear() {
	if !s.begun {
		s.begun = true
		signal(s.appeared)
	}
}

func (s *stream) credited(n uint32) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.out.Credited(n); err != nil {
		return err
	}
	signal(s.refilled)
	return nil
}

func (s *stream) finished() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.in.End(); err != nil {
		return err
	}
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
	if err := s.out.Acknowledged(); err != nil {
		return err
	}
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
