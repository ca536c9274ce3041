package irohub

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
)

// frames are encoded events, one after the other. All receivers share the bytes.
type frames struct {
	bytes []byte
	count int
}

// cost is the size of frames in a spoke's queue. It is at least the memory that they take
// there, including the rounding of the allocation and their place in a growing batch.
func (f *frames) cost() int { return len(f.bytes) + len(f.bytes)/8 + 64 }

// A run is frames of events with one topic and one sender, in the form of appendFrame. With
// runs, many events cost a listener little more than one.
type run struct {
	frames
	topic   topicName
	from    NodeID
	payload int // offset of the payload in each frame; it ends before the last byte; 0: none
}

// goesWith reports whether next can be appended to the run.
func (r *run) goesWith(next *run) bool {
	return r.payload == next.payload && r.topic == next.topic && r.from == next.from
}

// follows reports whether next begins right after the run's bytes in the same array. The two
// can then be joined without a copy.
func (r *run) follows(next []byte) bool {
	n := len(r.bytes)
	return cap(r.bytes) > n && &r.bytes[:n+1][n] == &next[0]
}

// cost is the size of the run in a listener's queue. Like the cost of frames, it is at least
// the memory that the run takes there.
func (r *run) cost() int {
	return r.frames.cost() + len(r.topic.text) + len(r.topic.text)/8 + 192
}

// clone returns a copy of the run whose memory has no spare capacity, up to allocation
// rounding.
func (r *run) clone() run {
	own := *r
	own.bytes = make([]byte, len(r.bytes))
	copy(own.bytes, r.bytes)
	return own
}

// within returns a copy of the first events: as many as cost at most limit, but at least
// least.
func (r *run) within(limit, least int) run {
	first, rest := *r, *r
	first.bytes, first.count = r.bytes[:0], 0
	for rest.count > 0 {
		longer := first
		one := rest.shift()
		longer.bytes, longer.count = r.bytes[:len(first.bytes)+len(one.bytes)], first.count+1
		if first.count >= least && longer.cost() > limit {
			break
		}
		first = longer
	}
	return first.clone()
}

// shift removes the first event and returns it.
func (r *run) shift() run {
	first := *r
	n := headerSize + int(binary.BigEndian.Uint32(r.bytes))
	first.bytes, first.count = r.bytes[:n], 1
	r.bytes, r.count = r.bytes[n:], r.count-1
	return first
}

// event returns the event of a run that has only one, in the form for listeners.
func (r *run) event() Event {
	ev := Event{From: r.from}
	ev.Type, ev.ID = r.topic.split()
	if r.payload > 0 {
		end := len(r.bytes) - 1
		ev.Payload = r.bytes[r.payload:end:end]
	}
	return ev
}

// appendRun encodes an event at the end of buf and returns it as a run.
func appendRun(buf []byte, topic topicName, payload []byte, from NodeID) ([]byte, run) {
	start := len(buf)
	typ, id := topic.split()
	buf = appendFrame(buf, typ, id, payload, from)
	r := run{frames: frames{buf[start:], 1}, topic: topic, from: from}
	if len(payload) > 0 {
		r.payload = len(r.bytes) - 1 - len(payload)
	}
	return buf, r
}

// A batch is the items that one receiver gets from a router in one channel operation.
type batch[T any] struct {
	items []T
	last  *CloseError // close the stream with it after these items; nil: more may come
	pool  *sync.Pool  // gets the batch back after use
}

var frameBatches, runBatches sync.Pool

// keepItems is the capacity of the largest batch that recycle keeps for another use.
const keepItems = 512

func (b *batch[T]) recycle() {
	if cap(b.items) <= keepItems {
		clear(b.items) // or the array would keep their contents alive
		b.items, b.last = b.items[:0], nil
		b.pool.Put(b)
	}
}

// An outbox is the bounded queue from a router to one receiver: a spoke's writer
// or a Subscription. The router gathers the items of a round in next. At the end of the
// round it takes a batch that the receiver has not collected out of box, appends next to
// it, and puts it back. So the router never blocks, the receiver gets all that is waiting in
// one operation, and a slow receiver need not report when it is ready again.
type outbox[T any] struct {
	// box goes from the router, its only sender, to the receiver. It has capacity 1: once
	// the router has emptied it, a send never blocks. It is never closed.
	box chan *batch[T]

	// Owned by the router; limit is immutable.
	limit     int64
	next      *batch[T]
	putBytes  int64 // total ever put
	putEvents int64 // total ever put
	known     int64 // doneBytes when the router last read it

	// Written by the receiver: how much of that total it has completed.
	doneBytes  atomic.Int64
	doneEvents atomic.Int64

	pool *sync.Pool // immutable
}

func newOutbox[T any](limit int, pool *sync.Pool) outbox[T] {
	return outbox[T]{box: make(chan *batch[T], 1), limit: int64(limit), pool: pool}
}

// push adds an item with so many events to the next batch, unless the queue would exceed its
// limit. An empty queue takes a single event of any size.
func (o *outbox[T]) push(item T, size, events int) bool {
	if o.putBytes-o.known+int64(size) > o.limit {
		o.known = o.doneBytes.Load()
		if waiting := o.putBytes - o.known; waiting+int64(size) > o.limit && (waiting > 0 || events > 1) {
			return false
		}
	}
	b := o.open()
	b.items = append(b.items, item)
	o.putBytes += int64(size)
	o.putEvents += int64(events)
	return true
}

// room returns how many bytes the limit leaves, and how many events the queue takes
// regardless of their size.
func (o *outbox[T]) room() (size, least int) {
	o.known = o.doneBytes.Load()
	waiting := o.putBytes - o.known
	if waiting == 0 {
		least = 1
	}
	return int(max(0, o.limit-waiting)), least
}

// open returns the batch for the next flush.
func (o *outbox[T]) open() *batch[T] {
	if o.next == nil {
		var ok bool
		if o.next, ok = o.pool.Get().(*batch[T]); !ok {
			o.next = &batch[T]{pool: o.pool}
		}
	}
	return o.next
}

func (o *outbox[T]) flush() {
	if o.next == nil {
		return
	}
	select {
	case waiting := <-o.box:
		waiting.items = append(waiting.items, o.next.items...)
		waiting.last = cmp.Or(waiting.last, o.next.last)
		o.box <- waiting
		o.next.recycle()
	default:
		o.box <- o.next
	}
	o.next = nil
}

// finish tells the receiver that this was the last batch.
func (o *outbox[T]) finish(last *CloseError) {
	o.open().last = last
	o.flush()
}

// done is called by the receiver when it has completed so many events and bytes.
func (o *outbox[T]) done(events, bytes int) {
	o.doneEvents.Add(int64(events))
	o.doneBytes.Add(int64(bytes))
}

// waiting returns what was put and is not done yet. Only the router calls it.
func (o *outbox[T]) waiting() (bytes, events int) {
	return int(o.putBytes - o.doneBytes.Load()), int(o.putEvents - o.doneEvents.Load())
}

// slow is the error for a receiver whose queue has just refused so many events of that size.
func (o *outbox[T]) slow(events, size int) *CloseError {
	next, does := "event", "does"
	if events > 1 {
		next, does = fmt.Sprintf("%d events", events), "do"
	}
	return &CloseError{CodeSlow, fmt.Sprintf("the next %s of %d bytes %s not fit beside %d bytes that wait; the limit is %d", next, size, does, o.putBytes-o.known, o.limit)}
}

// A gate guards a channel that has many senders and one receiver. A sender enters before it
// sends and leaves afterwards; pass does so. At a graceful end the router shuts the gate, and
// the receiver drains the channel until all senders have left. No value can follow then, so
// that nothing accepted is overlooked. When a hub or a Spoke ends at once, its router shuts the
// gate and nobody drains: what is in the channel is lost. A Spoke's writer does not drain after
// a failed write or the end of its link either.
type gate struct {
	closing chan struct{} // closed by shut; senders that are blocked inside give up
	cause   error         // why the gate was shut; written before closing is closed
	inside  atomic.Int64  // senders that have entered and not left
	empty   chan struct{} // capacity 1; a value says that the last sender has left a shut gate
}

func newGate() gate {
	return gate{closing: make(chan struct{}), empty: make(chan struct{}, 1)}
}

// enter reports whether the gate is open. After true, the caller must call leave.
func (g *gate) enter() bool {
	g.inside.Add(1)
	if isClosed(g.closing) {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.inside.Add(-1) == 0 && isClosed(g.closing) {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// shut closes the gate. Only the router calls it, once.
func (g *gate) shut(cause error) {
	g.cause = cause
	close(g.closing)
}

// pass sends v through the gate, unless ctx ends or the gate is shut first. It then returns
// ctx's error or the gate's cause.
func pass[T any](ctx context.Context, g *gate, to chan<- T, v T) error {
	// If several cases are ready, a select picks one at random. So check ctx first.
	if err := ctx.Err(); err != nil {
		return err
	}
	if !g.enter() {
		return g.cause
	}
	defer g.leave()
	select {
	case to <- v: // usually there is room, and this is cheaper than the select below
		return nil
	default:
	}
	select {
	case to <- v:
		return nil
	case <-g.closing:
		return g.cause
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain passes to take every value from senders that had entered, and waits until all have
// left.
func drain[T any](g *gate, from <-chan T, take func(T)) {
	for g.inside.Load() > 0 {
		select {
		case v := <-from:
			take(v)
		case <-g.empty:
		}
	}
	for len(from) > 0 {
		take(<-from)
	}
}

// isClosed reports whether a channel that never carries a value is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A request carries a value to a router, which sends an error or nil to reply. reply has
// capacity 1.
type request[T any] struct {
	value T
	reply chan error
}
