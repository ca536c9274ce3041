package irohub

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
)

// A spokeInbox is how all others reach a spoke's router, as the inbox is for a hub's:
// nobody sends without waiting for done besides.
type spokeInbox struct {
	inbound  chan *arrivals // from the reader
	listen   chan request[*Subscription]
	unlisten chan *Subscription
	flush    chan flushing
	up       chan *link    // a new link, whose reader and writer run
	down     chan *link    // they have ended
	failed   chan error    // there will be no link any more
	close    chan struct{} // end on purpose

	// refused: from the router to the keeper, which tells the application.
	// Capacity 16; what finds it full is dropped.
	refused chan error

	count atomic.Uint64 // events that Publish has queued

	closing chan struct{} // closed by the router once it takes nothing new
	cause   error         // why it was; written before
	done    chan struct{} // closed by the router at its end
	err     error         // why; written before done is closed
}

func newSpokeInbox() *spokeInbox {
	return &spokeInbox{
		inbound:  make(chan *arrivals),
		listen:   make(chan request[*Subscription]),
		unlisten: make(chan *Subscription),
		flush:    make(chan flushing),
		up:       make(chan *link),
		down:     make(chan *link),
		failed:   make(chan error),
		close:    make(chan struct{}),
		refused:  make(chan error, 16),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// send sends to the router; false: it has ended.
func send[T any](in *spokeInbox, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-in.done:
		return false
	}
}

var errSpokeClosed = &CloseError{Reason: "spoke closed"}

// ended is what a Spoke answers with from its Close on.
func (in *spokeInbox) ended() error {
	if isClosed(in.done) {
		return in.err
	}
	return in.cause
}

// arrivals are what a reader has made of the frames that it found waiting.
type arrivals struct {
	from  *spokeReader
	items []arrival
	count int // of frames in them
}

// An arrival is events, or the hub's answer to a request.
type arrival struct {
	run     run
	id      string // of the answer
	refusal error  // nil: an acknowledgement
}

// event adds a frame of an event like another, to those before it if it goes with them.
func (a *arrivals) event(like *run, frame []byte) {
	a.count++
	if n := len(a.items); n > 0 {
		if last := &a.items[n-1].run; last.count > 0 && last.goesWith(like) && last.follows(frame) {
			last.bytes = last.bytes[:len(last.bytes)+len(frame)]
			last.count++
			return
		}
	}
	next := arrival{run: *like}
	next.run.frames = frames{frame, 1}
	a.items = append(a.items, next)
}

// answer adds the answer to a request.
func (a *arrivals) answer(id string, refusal error) {
	a.count++
	a.items = append(a.items, arrival{id: id, refusal: refusal})
}

// A spokeRouter is the one goroutine of a Spoke that knows its Subscriptions, and what
// the hub has been asked for on their behalf.
type spokeRouter struct {
	*spokeInbox
	published <-chan []byte
	cancel    func(error) // ends dialling

	fanout
	listeners map[*Subscription]*call
	interests map[string]*interest
	link      *link
	requests  map[string]pending  // by id, of this link
	flushes   map[string]flushing // by id, over whichever link
	refusal   error               // the first since the last Flush, or a loss
	flushed   uint64              // of what was published, how much Flush has answered for
	lastID    uint64
	resuming  int // requests that the link's ready waits for
	closed    bool
	ended     bool
}

// A call is one Spoke.Subscribe.
type call struct {
	reply   chan error // nil: it has been answered
	missing int        // topics that are not acknowledged
}

// A flushing is one Spoke.Flush. Its channels have room for what they carry.
type flushing struct {
	frame  chan<- []byte // the request to write behind what was published
	reply  chan<- error
	gone   <-chan struct{} // closed when nobody waits any more
	behind uint64          // how much had been published
}

// An interest is a topic that some Subscription has. One that waits for the hub's
// acknowledgement is in the table only then: what comes earlier may be left from a former
// subscription, with a gap behind it.
type interest struct {
	id      string // of the last request for it; an answer to an older one is of no meaning
	acked   bool   // over this link
	waiting []*Subscription
}

// A pending request is one that the hub has not answered yet.
type pending struct {
	topic  string // empty: the greeting
	resume bool   // the link's ready waits for it
}

func newSpokeRouter(in *spokeInbox, published <-chan []byte, cancel func(error)) *spokeRouter {
	return &spokeRouter{
		spokeInbox: in,
		published:  published,
		cancel:     cancel,
		fanout:     fanout{table: newTable()},
		listeners:  make(map[*Subscription]*call),
		interests:  make(map[string]*interest),
		flushes:    make(map[string]flushing),
	}
}

func (r *spokeRouter) loop() {
	for !r.ended {
		select {
		case a := <-r.inbound:
			r.work(a)
		case q := <-r.listen:
			r.listened(q.value, q.reply)
		case sub := <-r.unlisten:
			r.unlistened(sub, nil)
		case f := <-r.spokeInbox.flush:
			r.flushing(f)
		case l := <-r.up:
			r.linked(l)
		case l := <-r.down:
			r.unlinked(l)
		case err := <-r.failed:
			r.end(err)
		case <-r.close:
			r.finish()
		}
		r.fanout.flush()
		if r.link != nil {
			r.link.out.flush()
		}
	}
	close(r.done)
}

// work passes events on to the listeners, and answers to those who wait for them.
func (r *spokeRouter) work(in *arrivals) {
	for i := range in.items {
		if a := &in.items[i]; a.run.count > 0 {
			r.route(a.run)
		} else {
			r.answered(a.id, a.refusal)
		}
	}
	clear(in.items) // or it would keep what it carried alive
	in.items, in.count = in.items[:0], 0
	in.from.work.free <- in // has room for both
}

func (r *spokeRouter) route(events run) {
	if r.resuming > 0 {
		return // the application has not heard of this link, and may never
	}
	r.event++
	for _, subs := range r.table.match(events.topic.text) {
		for _, sub := range subs {
			if sub.seen != r.event {
				sub.seen = r.event
				r.tell(sub, events)
			}
		}
	}
	full := r.takeFull()
	for _, sub := range full {
		r.unlistened(sub.listener, errSlow)
	}
	clear(full)
}

// ask sends a request for a topic over the link.
func (r *spokeRouter) ask(topic string, resume bool) {
	id := r.newID()
	r.requests[id] = pending{topic, resume}
	if resume {
		r.resuming++
	}
	if in := r.interests[topic]; in != nil {
		in.id = id
	}
	r.put(subscribeFrame(typeSubscribe, id, topic))
}

func (r *spokeRouter) newID() string {
	r.lastID++
	return strconv.FormatUint(r.lastID, 10)
}

// flushing makes the request for a Flush, which goes the way of events and so cannot pass
// them.
func (r *spokeRouter) flushing(f flushing) {
	if r.closed {
		f.reply <- errSpokeClosed
		return
	}
	maps.DeleteFunc(r.flushes, func(_ string, f flushing) bool { return isClosed(f.gone) })
	id := r.newID()
	f.behind = r.count.Load()
	r.flushes[id] = f
	f.frame <- subscribeFrame(typeSubscribe, id, "")
}

// endFlushes answers all who wait in Flush.
func (r *spokeRouter) endFlushes(err error) {
	for _, f := range r.flushes {
		f.reply <- err
	}
	clear(r.flushes)
}

// put queues a frame for the hub. The queue has no limit: the application's own
// Subscriptions are one.
func (r *spokeRouter) put(frame []byte) {
	f := frames{frame, 1}
	r.link.out.push(f, f.cost(), 1)
}

// answered deals with the hub's answer to a request, or with its refusal of an event.
func (r *spokeRouter) answered(id string, refusal error) {
	if q, ok := r.requests[id]; ok {
		delete(r.requests, id)
		if in := r.interests[q.topic]; in != nil && in.id == id {
			r.settle(in, q.topic, refusal)
		}
		if q.resume {
			r.resumed()
		}
	} else if f, ok := r.flushes[id]; ok {
		delete(r.flushes, id)
		if !isClosed(f.gone) { // else the next Flush is to hear of it
			f.reply <- cmp.Or(refusal, r.refusal)
			r.refusal, r.flushed = nil, f.behind
		}
	} else if refusal != nil && id == "" {
		r.refusal = cmp.Or(r.refusal, refusal)
		select {
		case r.refused <- refusal:
		default: // the application does not keep up with what it does wrong
		}
	}
}

// settle tells those who wait for a topic.
func (r *spokeRouter) settle(in *interest, topic string, refusal error) {
	if refusal != nil {
		subs := in.waiting
		if top := r.table.find(topic); top != nil {
			for _, sub := range top.subs {
				subs = append(subs, sub.listener)
			}
		}
		delete(r.interests, topic)
		for _, sub := range subs {
			r.unlistened(sub, refusal)
		}
		return
	}
	in.acked = true
	if r.resuming == 0 {
		r.admit(in, topic)
	}
}

// admit gives a topic to those who wait for it.
func (r *spokeRouter) admit(in *interest, topic string) {
	for _, sub := range in.waiting {
		r.table.add(&sub.subscriber, topic)
		c := r.listeners[sub]
		if c.missing--; c.missing == 0 {
			c.answer(nil)
		}
	}
	in.waiting = nil
}

func (c *call) answer(err error) {
	if c.reply != nil {
		c.reply <- err
		c.reply = nil
	}
}

// resumed counts down to the link's being ready.
func (r *spokeRouter) resumed() {
	if r.resuming--; r.resuming > 0 {
		return
	}
	for topic, in := range r.interests {
		if in.acked {
			r.admit(in, topic)
		}
	}
	close(r.link.ready)
}

func (r *spokeRouter) listened(sub *Subscription, reply chan error) {
	c := &call{reply: reply}
	if r.closed {
		sub.end(errSpokeClosed)
		c.answer(errSpokeClosed)
		return
	}
	r.listeners[sub] = c
	for _, topic := range sub.topics {
		in := r.interests[topic]
		if in == nil {
			in = &interest{}
			r.interests[topic] = in
			if r.link != nil {
				r.ask(topic, false)
			}
		}
		if in.acked && r.resuming == 0 {
			r.table.add(&sub.subscriber, topic)
		} else {
			in.waiting = append(in.waiting, sub)
			c.missing++
		}
	}
	if c.missing == 0 {
		c.answer(nil)
	}
}

// unlistened ends a Subscription and tells the hub of topics that nobody is interested
// in any more.
func (r *spokeRouter) unlistened(sub *Subscription, reason error) {
	c, ok := r.listeners[sub]
	if !ok {
		return
	}
	delete(r.listeners, sub)
	r.table.drop(&sub.subscriber, math.MaxInt)
	for _, topic := range sub.topics {
		in := r.interests[topic]
		if in == nil {
			continue // refused
		}
		in.waiting = slices.DeleteFunc(in.waiting, func(other *Subscription) bool { return other == sub })
		if len(in.waiting) > 0 || r.table.find(topic) != nil {
			continue
		}
		delete(r.interests, topic)
		if r.link != nil {
			r.put(subscribeFrame(typeUnsubscribe, "", topic))
		}
	}
	sub.queue.flush()
	sub.end(reason)
	c.answer(reason)
}

// linked greets the hub over a new link and asks for all topics again.
func (r *spokeRouter) linked(l *link) {
	if r.closed {
		l.cancel(errSpokeClosed)
		return
	}
	if l.ctx.Err() != nil {
		return // its down has been here already
	}
	r.link = l
	r.requests = make(map[string]pending)
	r.resuming = 0
	r.ask("", true)
	for topic := range r.interests {
		r.ask(topic, true)
	}
}

func (r *spokeRouter) unlinked(l *link) {
	if r.link != l {
		return
	}
	r.link = nil
	for _, in := range r.interests {
		in.acked = false
	}
	lost := fmt.Errorf("irohub: events may be lost: %w", l.err())
	r.endFlushes(lost)
	if n := r.count.Load(); n != r.flushed {
		r.refusal, r.flushed = cmp.Or(r.refusal, lost), n
	}
	if !r.closed {
		return
	}
	// The hub closes with code 0 too, once it has had all: it then ends its half before.
	if end := closeError(l.err()); end == errSpokeClosed || end != nil && end.Code == 0 && l.ended.Load() {
		r.end(errSpokeClosed)
	} else {
		r.end(fmt.Errorf("irohub: closing: %w", l.err()))
	}
}

// finish ends the Spoke on purpose: at once, or when the link has written all.
func (r *spokeRouter) finish() {
	if r.closed {
		return
	}
	r.closed, r.cause = true, errSpokeClosed
	close(r.closing)
	switch {
	case r.link != nil && r.resuming == 0:
		r.link.out.finish(errSpokeClosed)
	case len(r.published) > 0:
		r.end(errors.New("irohub: closing: not connected, and events are waiting to be written"))
	default:
		r.end(errSpokeClosed)
	}
}

// end ends the Spoke for a reason.
func (r *spokeRouter) end(err error) {
	if !r.closed {
		r.cause = err
		close(r.closing)
	}
	r.closed, r.ended, r.err = true, true, err
	if r.link != nil {
		r.link.cancel(errSpokeClosed)
	}
	r.cancel(err)
	for sub := range r.listeners {
		r.unlistened(sub, err)
	}
	r.endFlushes(err)
}
