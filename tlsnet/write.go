package tlsnet

import (
	"context"
	"errors"
	"sync"
	"time"
)

// send writes one record of the stream's. sealed says whether it is on its way, which it
// may be in spite of an error.
func (c *conn) send(ctx context.Context, k kind, p []byte) (sealed bool, err error) {
	select {
	case c.writing <- struct{}{}:
	default:
		select {
		case c.writing <- struct{}{}:
		case <-c.stream.aborted:
			return false, c.stream.err
		case <-c.ended:
			return false, c.why
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	err = c.beginWrite(ctx)
	if err == nil {
		if err = c.socket.flush(); err == nil { // what an earlier write has left
			if k == kindFin {
				c.stream.finGoes()
			}
			if err = c.seal(k, p); err == nil {
				sealed = true
				err = c.socket.flush()
			}
		}
		err = c.endWrite(ctx, err)
	}
	<-c.writing
	if err == errLost {
		// The connection is at fault, and ends; see failed.
		<-c.ended
		err = c.why
	}
	return sealed, err
}

var errLost = errors.New("lost")

func (c *conn) beginWrite(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stream.err != nil:
		return c.stream.err
	case c.why != nil:
		return c.why
	}
	c.cutter.active = true
	// One watch serves all writes with the same context; it costs as much as a write.
	if done := ctx.Done(); done != c.cutter.done {
		if c.cutter.stop != nil {
			c.cutter.stop()
		}
		c.cutter.done, c.cutter.stop = done, nil
		if done != nil {
			c.cutter.stop = context.AfterFunc(ctx, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.cutter.done == done {
					c.cutWrite()
				}
			})
		}
	}
	// A watch that had fired before active was set has cut nothing.
	if err := ctx.Err(); err != nil {
		c.cutter.active = false
		return err
	}
	return nil
}

// cutWrite ends a write of the application's that is blocked; c.mu is held.
func (c *conn) cutWrite() {
	if c.cutter.active && c.why == nil {
		c.cutter.cut = true
		c.socket.Conn.SetWriteDeadline(longAgo)
	}
}

// endWrite says why a write has failed, if it has.
func (c *conn) endWrite(ctx context.Context, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutter.active = false
	if c.cutter.cut && c.why == nil {
		c.socket.Conn.SetWriteDeadline(time.Time{})
		c.posted.alive = true // and with it goes what the socket has yet
		c.post()
	}
	wasCut := c.cutter.cut
	c.cutter.cut = false
	c.spoke = true
	switch {
	case err == nil:
		return nil
	case c.stream.err != nil:
		return c.stream.err
	case c.why != nil:
		return c.why
	case wasCut && ctx.Err() != nil:
		return ctx.Err()
	}
	c.failed(err)
	return errLost
}

// plainSize is what TLS puts into one record.
const plainSize = 16 << 10

type plain [plainSize]byte

var plains = sync.Pool{New: func() any { return new(plain) }}

// seal makes TLS records of one record of ours. The header is copied together with as
// much of p as fits into a TLS record, and the rest goes as it is: a TLS record of its own
// for the header (as net.Buffers would make it) costs more than that copy where p is small,
// and as much where it is large. See BenchmarkSeal.
func (c *conn) seal(k kind, p []byte) error {
	h := newHeader(k, len(p))
	buf := plains.Get().(*plain)
	defer plains.Put(buf)
	copy(buf[:], h[:])
	n := copy(buf[headerSize:], p)
	_, err := c.tls.Write(buf[:headerSize+n])
	if err == nil && n < len(p) {
		_, err = c.tls.Write(p[n:])
	}
	return err
}
