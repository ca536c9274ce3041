package websocket

import (
	"context"
	"errors"
	"fmt"
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
	refilled chan struct{} // gets a token when there is more credit, or more room in c.out; capacity 1
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
		c.out.credit += credit
		c.write()
	}
	if n > 0 {
		return n, nil
	}
	if s.in.Ended() {
		return 0, io.EOF
	}
	return 0, c.why
}

// Write implements [irohub.Stream]. The bytes that it reports are sent even if ctx ends. At
// most 64 KiB of them wait in c.out.
func (s *stream) Write(ctx context.Context, p []byte) (total int, err error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	defer func() { <-s.sending }()
	for len(p) > 0 {
		n, err := s.put(p)
		total += n
		if p = p[n:]; err != nil {
			return total, err
		}
		if n > 0 {
			continue
		}
		select {
		case <-s.refilled:
		case <-s.aborted:
		case <-s.c.ended:
		case <-ctx.Done():
			return total, ctx.Err()
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
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errFinished = errors.New(prefix + "Write after CloseWrite")

// put adds to c.out as much of p as there is credit and room for.
func (s *stream) put(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case c.why != nil:
		return 0, c.why
	case s.noMore:
		return 0, errFinished
	}
	n := s.out.Claim(min(len(p), c.out.room()))
	if n > 0 {
		c.out.add(p[:n])
		c.write()
	}
	return n, nil
}

// CloseWrite implements [irohub.Stream].
func (s *stream) CloseWrite(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	if !s.noMore && s.err == nil && c.why == nil {
		s.noMore, c.out.fin = true, true
		c.write()
	}
	c.mu.Unlock()
	<-s.sending
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
	c.out.abort = end
	c.write()
}

// giveUp ends both halves. c.mu must be held.
func (s *stream) giveUp(err error) {
	s.err = err
	close(s.aborted)
	s.in.Drop()
	s.c.out.drop()
}

// receive reads the body of a data record. This method and those below are called by run for the
// peer's records.
func (s *stream) receive(r io.Reader) error {
	c := s.c
	var scrap *records.Chunk // for data that nobody wants any more
	defer func() {
		if scrap != nil {
			records.Chunks.Put(scrap)
		}
	}()
	for total := 0; ; {
		c.mu.Lock()
		wanted := s.err == nil && c.why == nil
		var p []byte
		if wanted {
			p = s.in.Space(records.MaxData)
		}
		c.mu.Unlock()
		if !wanted {
			if scrap == nil {
				scrap = records.Chunks.Get().(*records.Chunk)
			}
			p = scrap[:]
		}

		n, err := r.Read(p)
		total += n

		c.mu.Lock()
		fault := error(nil)
		if n > 0 {
			fault = s.in.Arrive(n)
		}
		if wanted {
			s.in.Filled(n)
			if n > 0 {
				s.appear()
			}
		}
		c.mu.Unlock()
		signal(s.more)
		switch {
		case fault != nil:
			return fault
		case total > records.MaxData:
			return fmt.Errorf("%w: more than %d bytes of data", records.Err, records.MaxData)
		case err == io.EOF && total == 0:
			return c.short(err, "a record without data")
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
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
	if s.err == nil && s.c.why == nil {
		s.c.out.ack = true
		s.c.write()
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
