package websocket

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/records"
)

// outgoing is what writeAll has to send. c.mu guards it.
type outgoing struct {
	running bool     // a writeAll runs
	data    *message // of the stream; nil: none
	fin     bool
	credit  int
	ack     bool
	abort   *irohub.CloseError
	alive   bool
	close   *irohub.CloseError // the last record
	sent    *message           // what is being sent
}

// A message is a data record that is being filled. Most are small, and small ones have small
// buffers.
type message struct{ p []byte }

const smallMessage = 4 << 10

func messagesOf(size int) *sync.Pool {
	return &sync.Pool{New: func() any { return &message{make([]byte, 0, size)} }}
}

var smallMessages, largeMessages = messagesOf(smallMessage), messagesOf(1 + records.MaxData)

// newMessage returns a message with room for n bytes after its kind.
func newMessage(n int) *message {
	pool := largeMessages
	if 1+n <= smallMessage {
		pool = smallMessages
	}
	m := pool.Get().(*message)
	m.p = append(m.p[:0], byte(records.Data))
	return m
}

func (m *message) free() {
	if cap(m.p) == smallMessage {
		smallMessages.Put(m)
	} else {
		largeMessages.Put(m)
	}
}

// room returns how many bytes of data can be added.
func (o *outgoing) room() int {
	if o.data == nil {
		return records.MaxData
	}
	return 1 + records.MaxData - len(o.data.p)
}

// add adds data, for which there must be room.
func (o *outgoing) add(p []byte) {
	if o.data == nil {
		o.data = newMessage(len(p))
	} else if len(o.data.p)+len(p) > cap(o.data.p) {
		small := o.data
		o.data = newMessage(records.MaxData)
		o.data.p = append(o.data.p[:0], small.p...)
		small.free()
	}
	o.data.p = append(o.data.p, p...)
}

// drop discards data that was not sent.
func (o *outgoing) drop() {
	if o.data != nil {
		o.data.free()
	}
	o.data, o.fin = nil, false
}

// take returns the next record, or nil if there is none.
func (o *outgoing) take() []byte {
	one := func(k records.Kind) []byte { return []byte{byte(k)} }
	switch {
	case o.ack:
		o.ack = false
		return one(records.Ack)
	case o.credit > 0:
		p := binary.BigEndian.AppendUint32(one(records.Credit), uint32(o.credit))
		o.credit = 0
		return p
	case o.data != nil:
		o.data, o.sent = nil, o.data
		return o.sent.p
	case o.fin:
		o.fin = false
		return one(records.Fin)
	case o.abort != nil:
		p := binary.BigEndian.AppendUint64(one(records.Abort), o.abort.Code)
		o.abort = nil
		return p
	case o.close != nil:
		return append(binary.BigEndian.AppendUint64(one(records.Close), o.close.Code), o.close.Reason...)
	case o.alive:
		o.alive = false
		return one(records.Alive)
	}
	return nil
}

// write makes writeAll send c.out. It does not block. c.mu must be held.
func (c *conn) write() {
	if !c.out.running {
		c.out.running = true
		c.tasks.Go(c.writeAll)
	}
}

func (c *conn) writeAll() {
	for {
		p, last := c.takeRecord()
		if p == nil {
			return
		}
		// There is no deadline: tick or the end of the connection cuts a write that hangs.
		err := c.ws.Write(context.Background(), websocket.MessageBinary, p)
		if !c.wrote(err, last) {
			return
		}
		if last {
			c.ws.Close(websocket.StatusNormalClosure, "")
			return
		}
	}
}

// takeRecord returns the next record. On nil, writeAll ends.
func (c *conn) takeRecord() (p []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil && c.out.close == nil { // the peer accepts nothing more
		return nil, false
	}
	p = c.out.take()
	switch {
	case p == nil:
		c.out.running = false
	case p[0] == byte(records.Data):
		signal(c.stream.refilled)
	case p[0] == byte(records.Fin):
		c.stream.out.Finish()
	}
	return p, p != nil && p[0] == byte(records.Close)
}

// wrote notes that a record was written, and returns whether to go on.
func (c *conn) wrote(err error, last bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.sent != nil {
		c.out.sent.free()
		c.out.sent = nil
	}
	c.sent, c.said = true, last
	if err == nil {
		return true
	}
	// The reader has one second to find the cause: the peer may have sent a close code before.
	c.writeErr, c.said = err, false
	if c.why == nil {
		c.socket.SetReadDeadline(time.Now().Add(time.Second))
	} else {
		c.socket.cut(false)
	}
	return false
}

// A ping decides how the peer's pings are answered. The library answers them while it reads. It
// closes the connection if writing a pong takes 5 seconds, as it may behind a large message on a
// slow line. While a write is in progress, the answer is therefore a records.Alive after it.
type ping struct{ conn atomic.Pointer[conn] }

func (p *ping) set(c *conn) { p.conn.Store(c) }

// pinged reports whether the library shall answer.
func (p *ping) pinged(context.Context, []byte) bool {
	c := p.conn.Load()
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.running || c.why != nil {
		return c.why == nil
	}
	c.out.alive = true
	return false
}
