package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/records"
	"irohub/internal/words"
)

// How a dead peer is detected, and how a proxy sees that a connection is in use. After a beat in
// which either side has sent nothing, the hub pings, so each side hears something at least every
// two beats. A browser answers pings by itself, even while its page sleeps. A side considers the
// connection lost after silentBeats without receiving anything: 30 to 40 seconds after the last
// sign of life. Many proxies close a connection that is idle for 60.
const (
	beat        = 10 * time.Second
	silentBeats = 3
)

// closeTimeout is how long a closed connection waits for the peer to receive the close.
const closeTimeout = 5 * time.Second

// A conn is a connection and the goroutines that belong to it:
//
//   - run, the main one, reads records until the connection ends and waits for the others;
//     Endpoint.Close waits for it
//   - writeAll does all writing, while there is something to send; at most one runs. The
//     library closes a connection when a write is cancelled. So the application's calls do not
//     write: they put bounded data into out, and can be cancelled at any time.
//   - sendPing runs while the hub waits for a pong; at most one runs
type conn struct {
	// Immutable.
	endpoint *Endpoint
	socket   *socket
	ws       *websocket.Conn
	remote   irohub.NodeID
	dialled  bool

	ended chan struct{} // closed when why is set
	tasks sync.WaitGroup
	pings sync.WaitGroup

	mu       sync.Mutex // never held while something blocks
	why      error      // why the connection ended; nil while it is open
	local    bool       // this side ended it, so nothing can be read any more
	said     bool       // the close was sent to the peer
	beats    *time.Timer
	patience *time.Timer // cuts the ended connection
	heard    uint32      // socket.heard one beat ago
	silent   int         // beats without anything heard
	sent     bool        // something was sent in this beat
	pinging  bool        // a sendPing runs
	out      outgoing
	stream   stream
	writeErr error // a write error; the reader may find its cause

	// Owned by run.
	message io.Reader // the current one; nil: none
	kind    [1]byte   // its first byte; a field: as a local variable it would be allocated for each message
}

func newConn(e *Endpoint, s *socket, ws *websocket.Conn, remote irohub.NodeID, dialled bool) *conn {
	c := &conn{endpoint: e, socket: s, ws: ws, remote: remote, dialled: dialled, ended: make(chan struct{})}
	c.stream.init(c)
	return c
}

// start is called once, before run.
func (c *conn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats = time.AfterFunc(c.endpoint.beat, c.tick)
}

// run is the connection's main goroutine.
func (c *conn) run() {
	for c.open() {
		if err := c.next(); err != nil {
			how, why := explain(err)
			if cause := c.broken(); cause != nil && how == endLost {
				_, why = explain(cause) // it came first
			}
			c.end(how, why)
		}
	}
	// Read until the peer has closed too, or until the time is over. Closing a TCP socket with
	// unread data would reset the connection; the peer would lose what it has not read yet.
	for err := error(nil); err == nil; {
		if c.message != nil {
			io.Copy(io.Discard, c.message)
		}
		_, c.message, err = c.ws.Reader(context.Background())
	}
	c.tasks.Wait()
	c.ws.CloseNow()
	c.pings.Wait()
	c.cut()
	c.endpoint.forget(c)
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

// next reads one message, which is one record, and handles it.
func (c *conn) next() error {
	typ, r, err := c.ws.Reader(context.Background()) // endLocked and cut interrupt it
	if err != nil {
		return err
	}
	c.message = r
	if typ != websocket.MessageBinary {
		return fmt.Errorf("%w: a text message", records.Err)
	}
	if _, err := io.ReadFull(r, c.kind[:]); err != nil {
		return c.short(err, "an empty message")
	}
	k := records.Kind(c.kind[0])
	if k == records.Data {
		return c.stream.receive(r)
	}
	if err := k.Check(k.Max()); err != nil {
		return err // the kind is unknown
	}
	body := make([]byte, k.Max()+1)
	n, err := io.ReadFull(r, body)
	if err != io.EOF && err != io.ErrUnexpectedEOF && err != nil {
		return err
	}
	if err := k.Check(n); err != nil {
		return c.short(io.EOF, err.Error())
	}
	switch k {
	case records.Credit:
		return c.stream.credited(binary.BigEndian.Uint32(body))
	case records.Fin:
		return c.stream.finished()
	case records.Ack:
		return c.stream.acknowledged()
	case records.Abort:
		return c.stream.givenUp(binary.BigEndian.Uint64(body))
	case records.Close:
		return &irohub.CloseError{Code: binary.BigEndian.Uint64(body), Reason: words.Kept(string(body[8:n]), records.MaxReason)}
	default: // records.Alive: there is nothing to do
		return nil
	}
}

// short returns the error for a message that ended too early. The library reports a lost network
// in the same way as a short message.
func (c *conn) short(err error, what string) error {
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if c.socket.failed.Load() {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %s", records.Err, what)
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
	c.end(endLocal, &irohub.CloseError{Code: code, Reason: words.Cut(reason, records.MaxReason)})
}

// The ways in which a connection ends.
type ending int

const (
	endLocal ending = iota // this side closes and tells the peer
	endPeer                // the peer closed and sends nothing more
	endLost                // the peer is gone
)

// end ends the connection unless it has ended already. Calls that wait return, and run ends
// within closeTimeout.
func (c *conn) end(how ending, why error) {
	c.mu.Lock()
	first := c.why == nil
	if first {
		c.endLocked(how, why)
	}
	c.mu.Unlock()
	if first {
		c.endpoint.linger(c)
	}
}

func (c *conn) endLocked(how ending, why error) {
	c.why, c.local = why, how == endLocal
	close(c.ended)
	c.beats.Stop()
	c.out.drop()
	switch {
	case how == endLost, how == endLocal && c.writeErr != nil:
		c.socket.cut(false)
		return
	case how == endLocal:
		c.stream.in.Drop()
		c.out.close = why.(*irohub.CloseError)
		c.write()
	}
	c.patience = time.AfterFunc(closeTimeout, c.cut)
}

// cut closes the socket.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.patience != nil {
		c.patience.Stop()
	}
	c.socket.cut(c.said)
}

// cutShort makes an ended connection stop waiting for its peer.
func (c *conn) cutShort() { c.cut() }

// tick runs once a beat: it checks for a sign of life from the peer, and pings. It runs in the
// timer's goroutine and does not block.
func (c *conn) tick() {
	heard := c.socket.heard.Load()
	c.mu.Lock()
	silent := c.silent + 1
	if heard != c.heard {
		silent = 0
	}
	c.heard, c.silent = heard, silent
	if c.why == nil && silent < silentBeats {
		quiet := silent > 0 || !c.sent
		c.sent = false
		if quiet && !c.dialled && !c.pinging {
			c.sent, c.pinging = true, true // counts for the beat that begins
			c.pings.Go(c.sendPing)
		}
		c.beats.Reset(c.endpoint.beat)
	}
	c.mu.Unlock()
	if silent >= silentBeats {
		c.end(endLost, &lostError{why: "the peer is silent", timeout: true})
	}
}

// sendPing sends a ping and waits for the pong, for one beat at most. tick sees that it came.
func (c *conn) sendPing() {
	ctx, cancel := context.WithTimeout(context.Background(), c.endpoint.beat)
	defer cancel()
	c.ws.Ping(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinging = false
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
