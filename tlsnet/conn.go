package tlsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"irohub"
	"irohub/internal/records"
	"irohub/internal/words"
)

// How a dead peer is detected. A beat in which the application wrote nothing ends with a
// records.Alive, so each side sends something at least every two beats. A side considers the
// connection lost after silentBeats without receiving anything: 21 to 28 seconds after the
// last sign of life.
const (
	beat        = 7 * time.Second
	silentBeats = 3
)

// closeTimeout is how long a closed connection waits for the peer to receive the close.
const closeTimeout = 5 * time.Second

// A conn is a connection and the goroutines that belong to it:
//
//   - run, the main one, reads records until the connection ends and waits for the others;
//     Endpoint.Close waits for it
//   - writePosted sends what no call of the application waits for; at most one runs
//   - sayGoodbye sends the close once this side has closed
//
// The goroutine that has something to write does the writing: it takes writing, seals
// records and flushes the socket.
type conn struct {
	// Immutable.
	endpoint *Endpoint
	socket   *socket
	tls      *tls.Conn
	remote   irohub.NodeID
	dialled  bool

	writing chan struct{} // capacity 1: full while a goroutine seals and flushes; never closed
	ended   chan struct{} // closed when why is set
	tasks   sync.WaitGroup

	mu     sync.Mutex // never held while something blocks
	why    error      // why the connection ended; nil while it is open
	local  bool       // this side ended it, so nothing can be read any more
	said   bool       // the close was sent to the peer
	hurry  bool       // cutShort was called: do not wait for the peer
	beats  *time.Timer
	heard  uint32 // socket.heard one beat ago
	silent int    // beats without anything heard
	spoke  bool   // the application has written something in this beat
	cutter cutter
	posted posted
	stream stream

	writeErr error // a write error; the reader may find its cause
}

// posted is what writePosted has to send.
type posted struct {
	running bool
	credit  int
	ack     bool
	abort   *irohub.CloseError
	alive   bool
}

// A cutter interrupts an application's write that is blocked in the socket.
type cutter struct {
	active bool            // a write is in progress
	cut    bool            // its deadline has been set
	done   <-chan struct{} // of the context that stop belongs to
	stop   func() bool     // ends the watch on that context; nil: no watch
}

func newConn(e *Endpoint, s *socket, t *tls.Conn, remote irohub.NodeID, dialled bool) *conn {
	c := &conn{
		endpoint: e,
		socket:   s,
		tls:      t,
		remote:   remote,
		dialled:  dialled,
		writing:  make(chan struct{}, 1),
		ended:    make(chan struct{}),
	}
	c.stream.init(c)
	return c
}

// start is called once, before run.
func (c *conn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats = time.AfterFunc(beat, c.tick)
}

// run is the connection's main goroutine.
func (c *conn) run() {
	records := recordReader{r: c.tls}
	for c.open() {
		if err := records.next((*arrivals)(c)); err != nil {
			c.stopped(err)
		}
	}
	c.socket.drain()
	c.tasks.Wait()
	c.mu.Lock()
	onItsWay := c.hurry && c.said
	c.mu.Unlock()
	if !onItsWay {
		reset(c.socket.Conn)
	}
	c.socket.Conn.Close()
	c.endpoint.forget(c)
}

// stopped ends the connection after reading has failed with err.
func (c *conn) stopped(err error) {
	end, closed := errors.AsType[*irohub.CloseError](err)
	switch {
	case closed: // by the peer
		c.end(end, endPeer)
	case errors.Is(err, records.Err):
		c.end(&irohub.CloseError{Code: irohub.CodeProtocol, Reason: err.Error()}, endLocal)
	default:
		if cause := c.broken(); cause != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			err = cause
		}
		if c.socket.isFlooded() {
			err = errFlood
		}
		c.end(lost(err), endLost)
	}
}

func (c *conn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeErr
}

func (c *conn) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why == nil
}

// RemoteID implements [irohub.Conn].
func (c *conn) RemoteID() irohub.NodeID { return c.remote }

// Wait implements [irohub.Conn].
func (c *conn) Wait(ctx context.Context) error {
	select {
	case <-c.ended:
		return c.why
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements [irohub.Conn].
func (c *conn) Close(code uint64, reason string) {
	c.end(&irohub.CloseError{Code: code, Reason: words.Cut(reason, records.MaxReason)}, endLocal)
}

// The ways in which a connection ends.
type ending int

const (
	endLocal ending = iota // this side closes and tells the peer
	endPeer                // the peer closed and sends nothing more
	endLost                // the peer is gone
)

var longAgo = time.Unix(1, 0)

// end ends the connection unless it has ended already. Calls that wait return, and run ends
// within closeTimeout.
func (c *conn) end(why error, how ending) {
	c.mu.Lock()
	first := c.why == nil
	if first {
		c.endLocked(why, how)
	}
	c.mu.Unlock()
	if first {
		c.endpoint.linger(c)
	}
}

func (c *conn) endLocked(why error, how ending) {
	c.why, c.local = why, how == endLocal
	close(c.ended)
	c.beats.Stop()
	if c.cutter.stop != nil {
		c.cutter.stop()
	}
	// Current writes stop. From here on only sayGoodbye writes.
	c.socket.Conn.SetWriteDeadline(longAgo)
	switch how {
	case endLocal:
		c.stream.in.Drop()
		c.socket.Conn.SetReadDeadline(time.Now().Add(closeTimeout))
		c.tasks.Go(c.sayGoodbye)
	case endPeer:
		c.socket.Conn.SetReadDeadline(time.Now().Add(closeTimeout))
	case endLost:
		c.socket.Conn.SetReadDeadline(longAgo)
	}
}

// cutShort makes an ended connection stop waiting for its peer.
func (c *conn) cutShort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurry = true
	c.socket.Conn.SetDeadline(longAgo)
}

// sayGoodbye sends the close record.
func (c *conn) sayGoodbye() {
	c.writing <- struct{}{} // its holder was cut short by the deadline
	defer func() { <-c.writing }()
	end := c.why.(*irohub.CloseError)
	c.mu.Lock()
	if !c.hurry {
		c.socket.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	p := c.posted.take(nil) // may include an ack
	c.mu.Unlock()
	_, err := c.tls.Write(appendClose(p, end.Code, end.Reason))
	if err == nil {
		c.tls.CloseWrite()
		err = c.socket.flush()
	}
	if err != nil {
		c.socket.Conn.SetReadDeadline(longAgo)
		return
	}
	c.socket.finish() // run waits until the peer finishes too
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = true
}

// tick runs once a beat: it checks for a sign of life from the peer, and sends one. It runs
// in the timer's goroutine and does not block.
func (c *conn) tick() {
	heard := c.socket.heard.Load()
	c.mu.Lock()
	silent := c.silent + 1
	if heard != c.heard {
		silent = 0
	}
	c.heard, c.silent = heard, silent
	if c.why == nil && silent < silentBeats {
		if !c.spoke {
			c.posted.alive = true
			c.post()
		}
		c.spoke = false
		c.beats.Reset(beat)
	}
	c.mu.Unlock()
	if silent >= silentBeats {
		c.end(&lostError{why: "the peer is silent", timeout: true}, endLost)
	}
}

// post makes writePosted send c.posted. It does not block. c.mu must be held.
func (c *conn) post() {
	if c.why == nil && !c.posted.running {
		c.posted.running = true
		c.tasks.Go(c.writePosted)
	}
}

func (c *conn) writePosted() {
	for {
		select {
		case c.writing <- struct{}{}:
		case <-c.ended: // sayGoodbye takes over
			return
		}
		c.mu.Lock()
		p := c.posted.take(nil)
		if p == nil {
			c.posted.running = false
		}
		c.mu.Unlock()
		var err error
		if p != nil {
			if _, err = c.tls.Write(p); err == nil {
				err = c.socket.flush()
			}
		}
		<-c.writing
		if err != nil {
			c.mu.Lock()
			c.failed(err)
			c.mu.Unlock()
			return
		}
		if p == nil {
			return
		}
	}
}

// failed records a write error and gives the reader one second to find its cause: the peer
// may have sent a close code before. c.mu must be held.
func (c *conn) failed(err error) {
	if c.why == nil {
		c.writeErr = err
		c.socket.Conn.SetReadDeadline(time.Now().Add(time.Second))
	}
}

// take appends the pending records to p and clears them.
func (o *posted) take(p []byte) []byte {
	if o.credit > 0 {
		p = appendCredit(p, o.credit)
	}
	if o.ack {
		p = appendEmpty(p, records.Ack)
	}
	if o.abort != nil {
		p = appendAbort(p, o.abort.Code)
	}
	if o.alive {
		p = appendEmpty(p, records.Alive)
	}
	*o = posted{running: o.running}
	return p
}

// OpenStream implements [irohub.Conn]. Only the side that dialled can open the one stream.
func (c *conn) OpenStream(ctx context.Context) (irohub.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.why != nil:
		return nil, c.why
	case !c.dialled:
		return nil, fmt.Errorf(prefix+"only the side that dialled opens a stream: %w", errors.ErrUnsupported)
	case c.stream.taken:
		return nil, fmt.Errorf(prefix+"a connection has one stream: %w", errors.ErrUnsupported)
	}
	c.stream.taken = true
	return &c.stream, nil
}

// AcceptStream implements [irohub.Conn]. Once it has returned the one stream, it waits for
// the end of the connection.
func (c *conn) AcceptStream(ctx context.Context) (irohub.Stream, error) {
	for {
		c.mu.Lock()
		s, why := &c.stream, c.why
		ready := !c.dialled && !s.taken && s.begun && !c.local
		if ready {
			s.taken = true
		}
		c.mu.Unlock()
		if ready {
			return s, nil
		}
		if why != nil {
			return nil, why
		}
		select {
		case <-s.appeared:
		case <-c.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// arrivals is the conn as a receiver of records. Its methods are called by run.
type arrivals conn

func (a *arrivals) data(r io.Reader, n int) error { return a.stream.receive(r, n) }
func (a *arrivals) credit(n uint32) error         { return a.stream.credited(n) }
func (a *arrivals) fin() error                    { return a.stream.finished() }
func (a *arrivals) ack() error                    { return a.stream.acknowledged() }
func (a *arrivals) abort(code uint64) error       { return a.stream.givenUp(code) }
func (a *arrivals) closed(code uint64, reason string) error {
	return &irohub.CloseError{Code: code, Reason: words.Kept(reason, records.MaxReason)}
}
