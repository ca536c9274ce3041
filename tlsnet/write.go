package tlsnet

import (
	"context"
	"errors"
	"sync"
	"time"

	"irohub/internal/records"
)

// send writes one record of the stream. sealed reports whether the record will be sent,
// which can be true even with an error.
func (c *conn) send(ctx context.Context, k records.Kind, p []byte) (sealed bool, err error) {
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
		if err = c.socket.flush(); err == nil { // bytes left by an interrupted write
			if k == records.Fin {
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
		// The connection failed, and ends soon: see failed.
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
	// All writes with the same context share one watch, because setting it up costs as much
	// as a write.
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
	// A watch that fired before active was set has interrupted nothing.
	if err := ctx.Err(); err != nil {
		c.cutter.active = false
		return err
	}
	return nil
}

// cutWrite interrupts an application's blocked write. c.mu must be held.
func (c *conn) cutWrite() {
	if c.cutter.active && c.why == nil {
		c.cutter.cut = true
		c.socket.Conn.SetWriteDeadline(longAgo)
	}
}

// endWrite ends what beginWrite began and returns the error for the caller.
func (c *conn) endWrite(ctx context.Context, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cutter.active = false
	if c.cutter.cut && c.why == nil {
		c.socket.Conn.SetWriteDeadline(time.Time{})
		c.posted.alive = true // writePosted then also sends what is left in the socket
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

// plainSize is the most plaintext in one TLS record.
const plainSize = 16 << 10

type plain [plainSize]byte

var plains = sync.Pool{New: func() any { return new(plain) }}

// seal makes TLS records of one record. It copies the header together with as much of p as
// fits into one TLS record; the rest is passed as it is. The alternative is a TLS record
// for the header alone, as net.Buffers would make it. That costs more than the copy when p
// is small, and as much when it is large. See BenchmarkSeal.
func (c *conn) seal(k records.Kind, p []byte) error {
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
