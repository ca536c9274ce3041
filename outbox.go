package irohub

import (
	"cmp"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// frames are encoded events, one behind the other. All who are given them share them.
type frames struct {
	bytes []byte
	count int
}

// cost is what frames count in a spoke's queue: no less than the memory that they take there,
// with what an allocation is rounded up by, and their place in a batch that grows.
func (f *frames) cost() int { return len(f.bytes) + len(f.bytes)/8 + 64 }

// A run is frames, as appendFrame makes them, of events of one topic and sender. It is how
// listeners get many events for little more than one.
type run struct {
	frames
	topic   topicName
	from    NodeID
	payload int // where it begins in each frame, up to the last byte but one; 0: there is none
}

// goesWith says whether events behind these are of the same run.
func (r *run) goesWith(next *run) bool {
	return r.payload == next.payload && r.topic == next.topic && r.from == next.from
}

// follows says whether memory that begins with next lies right behind the run's, with which it
// then makes one piece.
func (r *run) follows(next []byte) bool {
	n := len(r.bytes)
	return cap(r.bytes) > n && &r.bytes[:n+1][n] == &next[0]
}

// cost is what the run counts in a listener's queue: no less than the memory that it takes
// there, as that of frames is.
func (r *run) cost() int {
	return r.frames.cost() + len(r.topic.text) + len(r.topic.text)/8 + 192
}

// clone is the run in memory of its own, and no more than it needs.
func (r *run) clone() run {
	own := *r
	own.bytes = make([]byte, len(r.bytes))
	copy(own.bytes, r.bytes)
	return own
}

// within returns as many of the first events as cost no more than the limit, but no less than
// so many, in memory of their own.
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

// shift takes the first event off.
func (r *run) shift() run {
	first := *r
	n := headerSize + int(binary.BigEndian.Uint32(r.bytes))
	first.bytes, first.count = r.bytes[:n], 1
	r.bytes, r.count = r.bytes[n:], r.count-1
	return first
}

// event is the run's only event as listeners get it.
func (r *run) event() Event {
	ev := Event{From: r.from}
	ev.Type, ev.ID = r.topic.split()
	if r.payload > 0 {
		end := len(r.bytes) - 1
		ev.Payload = r.bytes[r.payload:end:end]
	}
	return ev
}

// appendRun encodes an event, behind what buf has, as a run of its own.
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

// A batch is what a router hands to one receiver in one channel operation.
type batch[T any] struct {
	items []T
	last  *CloseError // after these items the stream is to end, with this code; nil: more may come
	pool  *sync.Pool  // where it goes when it is done with
}

var frameBatches, runBatches sync.Pool

// keepItems is the largest batch that is kept for another use.
const keepItems = 512

func (b *batch[T]) recycle() {
	if cap(b.items) <= keepItems {
		clear(b.items) // or it would keep what it carried alive
		b.items, b.last = b.items[:0], nil
		b.pool.Put(b)
	}
}

// An outbox is the bounded queue from a router to one receiver: a spoke's writer,
// or a Subscription. The router gathers a round's items in next and puts them into
// box, from which it first takes back what the receiver has not collected. So it
// never blocks, the receiver gets as much as is waiting in one operation, and a
// receiver that falls behind need not say when it is ready again.
type outbox[T any] struct {
	// box: from the router, its only sender, to the receiver. Capacity 1, so
	// that the router, having emptied it, can always fill it. Never closed.
	box chan *batch[T]

	// Owned by the router.
	limit     int64
	next      *batch[T]
	putBytes  int64 // ever put
	putEvents int64
	known     int64 // doneBytes when the router looked last

	// Written by the receiver: what it is done with, of all that was ever put.
	doneBytes  atomic.Int64
	doneEvents atomic.Int64

	pool *sync.Pool
}

func newOutbox[T any](limit int, pool *sync.Pool) outbox[T] {
	return outbox[T]{box: make(chan *batch[T], 1), limit: int64(limit), pool: pool}
}

// push adds an item, of so many events, to what the next flush will hand over, unless more
// than the limit would be waiting then. An event by itself has no limit.
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

// room is what the limit leaves, and how many events there is room for in any case.
func (o *outbox[T]) room() (size, least int) {
	o.known = o.doneBytes.Load()
	waiting := o.putBytes - o.known
	if waiting == 0 {
		least = 1
	}
	return int(max(0, o.limit-waiting)), least
}

// open returns the batch that the next flush hands over.
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

// finish tells the receiver that nothing comes any more.
func (o *outbox[T]) finish(last *CloseError) {
	o.open().last = last
	o.flush()
}

// done is the receiver's: it has dealt with so much of what it got.
func (o *outbox[T]) done(events, bytes int) {
	o.doneEvents.Add(int64(events))
	o.doneBytes.Add(int64(bytes))
}

// waiting is the router's: what was put and is not done.
func (o *outbox[T]) waiting() (bytes, events int) {
	return int(o.putBytes - o.doneBytes.Load()), int(o.putEvents - o.doneEvents.Load())
}

var errSlow = &CloseError{Code: CodeSlow, Reason: "too many bytes waiting"}

// A gate stands before a channel that any goroutine may send to and one goroutine
// receives from. Who sends enters first and leaves afterwards. The receiver shuts the
// gate and then waits until everybody has left. What the channel holds by then is all
// that it will ever hold, so that nothing accepted is lost.
type gate struct {
	closing chan struct{} // closed by shut: who is inside and waits gives up
	inside  atomic.Int64
	empty   chan struct{} // capacity 1: the last one has left a gate that is shut
}

func newGate() gate {
	return gate{closing: make(chan struct{}), empty: make(chan struct{}, 1)}
}

// enter says whether the gate is open. Who has entered must leave.
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

// shut lets nobody in any more. It is the receiver's, which calls it once and then
// drain.
func (g *gate) shut() { close(g.closing) }

// drain gives take all that was sent by those who had entered.
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

// isClosed says whether a channel that carries nothing is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A request is what is answered with an error or nil. The reply has room for it.
type request[T any] struct {
	value T
	reply chan error
}
