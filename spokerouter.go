package irohub

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"irohub/internal/assert"
)

// A spokeInbox holds the channels to a spoke's router, as inbox does for a hub's. Every
// sender also selects on closing, on done or on the end of its link, so that none blocks after
// the router's end.
type spokeInbox struct {
	// Immutable, but for the gate and count.
	inbound  chan *arrivals // from the reader
	listen   chan request[*Subscription]
	unlisten chan *Subscription
	flush    chan flushing
	up       chan *attachment // a new link; its reader and writer start after the send
	down     chan *attachment // the reader and the writer of a link have ended
	failed   chan error       // there will be no further link
	close    chan struct{}    // close the Spoke gracefully

	// published goes from Publish and Flush to the writer of the current link. It is buffered,
	// so that one write carries several events. It is never closed. The gate guards it: at a
	// graceful close, the writer or the router receives everything that has entered, unless the
	// link fails.
	published chan frames
	gate
	count atomic.Int64 // events that have been put into published

	// notify goes from the router to the notifier, which calls the application.
	notify chan notification

	done chan struct{} // closed by the router at its end

	// Written by the router before it closes done.
	untold []notification // those left at the router's end
	err    error          // the result of Close
}

// publishBuffer is how many events Publish may be ahead of the writer.
const publishBuffer = 64

func newSpokeInbox() *spokeInbox {
	return &spokeInbox{
		inbound:   make(chan *arrivals),
		listen:    make(chan request[*Subscription]),
		unlisten:  make(chan *Subscription),
		flush:     make(chan flushing),
		up:        make(chan *attachment),
		down:      make(chan *attachment),
		failed:    make(chan error),
		close:     make(chan struct{}),
		published: make(chan frames, publishBuffer),
		gate:      newGate(),
		notify:    make(chan notification),
		done:      make(chan struct{}),
	}
}

// send sends to the router. It returns false if the router has ended.
func send[T any](in *spokeInbox, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-in.done:
		return false
	}
}

var errSpokeClosed = &CloseError{Reason: "spoke closed"}

// A spokeRouter owns a Spoke's Subscriptions, and the state of the requests that it has sent to
// the hub for them. Only its goroutine, loop, can reach this struct, so all fields are the
// router's.
type spokeRouter struct {
	*spokeInbox
	limit  time.Duration // HandshakeTimeout
	cancel func(error)   // ends the Spoke's context, and with it the present link and dialling

	fanout
	listeners     map[*Subscription]*call
	interests     map[string]*interest
	on            *attachment // the current link; nil: not connected
	met           bool        // a link has begun before
	notifications notifications

	flushes map[string]flushing // by request id; a flush may outlive a link that has not begun
	refusal error               // the first refusal or loss since the last Flush
	loss    error               // the first loss since the last Flush
	taken   int64               // events that the writers of former links have taken
	flushed int64               // published events that a Flush or a noted loss accounts for
	lastID  uint64
	closed  bool
	ended   bool
}

// A call is one Spoke.Subscribe.
type call struct {
	reply   chan error // nil: it has been answered
	missing int        // topics that the hub has not acknowledged
}

// A flushing is one Spoke.Flush. The channels frame and reply have capacity 1.
type flushing struct {
	frame  chan<- frames // gets the request, which Flush queues behind the published events
	reply  chan<- error
	taken  *atomic.Bool // see take
	behind int64        // events published before it
}

// take decides between an answer and a Flush that gives up: the first to call it gets true. So
// a failure that is reported to nobody stays for the next Flush.
func (f *flushing) take() bool { return f.taken.CompareAndSwap(false, true) }

// An interest is a topic that at least one Subscription has. A Subscription in waiting waits
// for the hub's acknowledgement, and only then enters the table. Events that come before may
// belong to an earlier subscription, with a gap after them.
type interest struct {
	waiting []*Subscription
}

func newSpokeRouter(in *spokeInbox, limit time.Duration, cancel func(error)) *spokeRouter {
	return &spokeRouter{
		spokeInbox: in,
		limit:      limit,
		cancel:     cancel,
		fanout:     fanout{table: newTable()},
		listeners:  make(map[*Subscription]*call),
		interests:  make(map[string]*interest),
		flushes:    make(map[string]flushing),
	}
}

func (r *spokeRouter) loop() {
	for !r.ended {
		first, tell := r.notifications.first(r.notify)
		select {
		case a := <-r.inbound:
			r.work(a)
		case q := <-r.listen:
			r.listened(q.value, q.reply)
		case sub := <-r.unlisten:
			r.unlistened(sub, nil)
		case f := <-r.spokeInbox.flush:
			r.flushing(f)
		case a := <-r.up:
			r.attached(a)
		case a := <-r.down:
			r.detached(a)
		case tell <- first:
			r.notifications.next()
		case err := <-r.failed:
			r.end(err)
		case <-r.close:
			r.finish()
		}
		if assert.Round != nil {
			assert.Round(r.invariants)
		}
		r.fanout.flush()
		if r.on != nil {
			r.begin()
			r.on.ask(r.newID)
		}
	}
	r.untold = r.notifications.waiting
	close(r.done)
}

// work handles the events and answers of a batch. It ignores a batch from an earlier link.
func (r *spokeRouter) work(in *arrivals) {
	for i := range in.items {
		switch a := &in.items[i]; {
		case in.from.on != r.on:
		case a.run.count > 0:
			r.route(a.run)
		default:
			r.answered(a.id, a.refusal)
		}
	}
	in.recycle()
	in.from.work.free <- in // never blocks: it has room for both
}

func (r *spokeRouter) route(events run) {
	if !r.on.begun {
		return // the application does not know of this link yet, and may never
	}
	r.event++
	var own run // one copy for all listeners, made for the first one
	for _, subs := range r.table.match(events.topic.text) {
		for _, sub := range subs {
			if sub.seen == r.event {
				continue
			}
			sub.seen = r.event
			if own.count == 0 {
				own = events.clone()
			}
			r.tell(sub, own)
		}
	}
	full := r.takeFull()
	for _, sub := range full {
		r.unlistened(sub.listener, sub.slow)
	}
	clear(full)
}

func (r *spokeRouter) newID() string {
	r.lastID++
	return strconv.FormatUint(r.lastID, 10)
}

// flushing makes the request for a Flush. The request is queued like the events, so that it
// cannot overtake them.
func (r *spokeRouter) flushing(f flushing) {
	if r.closed {
		f.reply <- errSpokeClosed
		return
	}
	maps.DeleteFunc(r.flushes, func(_ string, f flushing) bool { return f.taken.Load() })
	id := r.newID()
	f.behind = r.count.Load()
	r.flushes[id] = f
	f.frame <- frames{subscribeFrame(typeSubscribe, id), 0} // no event
}

// endFlushes answers all calls of Flush that wait. It returns how many published events the
// calls account for.
func (r *spokeRouter) endFlushes(err error) (told int64) {
	for _, f := range r.flushes {
		if f.take() {
			f.reply <- err
			told = max(told, f.behind)
		}
	}
	clear(r.flushes)
	return told
}

// answered handles the hub's answer to a request, or its refusal of an event.
func (r *spokeRouter) answered(id string, refused *refusal) {
	if q := r.on.answered(id, r.limit); q != nil {
		r.settle(q, refused)
		r.begin()
	} else if f, ok := r.flushes[id]; ok {
		delete(r.flushes, id)
		if f.take() { // otherwise the next Flush reports the failure
			f.reply <- cmp.Or(refused.error(), r.refusal)
			r.refusal, r.loss, r.flushed = nil, nil, f.behind
		}
	} else if refused != nil && id == "" {
		r.refusal = cmp.Or(r.refusal, refused.err)
		r.notifications.add(notification{kind: eventRefused, err: refused.err})
	}
}

// settle handles the answer to a request for topics. The hub refuses a request as a whole. If
// the refusal names one of its topics, the router asks for the other topics again.
func (r *spokeRouter) settle(q *asking, refused *refusal) {
	if len(q.topics) == 0 {
		delete(r.on.first, greeting)
		return
	}
	named := refused != nil && slices.Contains(q.topics, refused.topic)
	var none []string // refused topics; they are handled after the loop, since refuse changes asked
	for _, topic := range q.topics {
		if other, ok := r.on.asked[topic]; !ok || other != q {
			continue // no Subscription has it any more, or another request asks for it
		}
		if refused == nil {
			r.on.asked[topic] = nil
			delete(r.on.first, topic)
			if r.on.begun {
				r.admit(topic)
			}
			continue
		}
		delete(r.on.asked, topic)
		if named && topic != refused.topic {
			r.on.want(topic)
		} else {
			none = append(none, topic)
		}
	}
	for _, topic := range none {
		r.refuse(topic, refused.err)
	}
}

// refuse ends all Subscriptions that have a topic.
func (r *spokeRouter) refuse(topic string, reason error) {
	delete(r.on.first, topic)
	in := r.interests[topic]
	if in == nil {
		return
	}
	subs := in.waiting
	if top := r.table.find(topic); top != nil {
		for _, sub := range top.subs {
			subs = append(subs, sub.listener)
		}
	}
	delete(r.interests, topic)
	for _, sub := range subs {
		r.unlistened(sub, reason)
	}
}

// admit adds a topic to the table for the Subscriptions that wait for it.
func (r *spokeRouter) admit(topic string) {
	in := r.interests[topic]
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

// begin opens the link for events in both directions, once the hub has answered all first
// requests.
func (r *spokeRouter) begin() {
	if !r.on.begin() {
		return
	}
	for topic := range r.interests {
		if r.on.acked(topic) {
			r.admit(topic)
		}
	}
	if r.met {
		r.notifications.add(notification{kind: reconnected})
	}
	r.met = true
	close(r.on.link.ready)
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
			if r.on != nil {
				r.on.want(topic)
			}
		}
		if r.on != nil && r.on.begun && r.on.acked(topic) {
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

// unlistened ends a Subscription and unsubscribes from the topics that no other Subscription
// has.
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
		if r.on != nil {
			r.on.drop(topic)
		}
	}
	sub.queue.flush()
	sub.end(reason)
	c.answer(reason)
}

// attached greets the hub over a new link and notes all topics to be asked for again.
func (r *spokeRouter) attached(a *attachment) {
	if r.closed {
		a.link.cancel(errSpokeClosed)
		return
	}
	r.on = a
	a.first[greeting] = struct{}{}
	a.request(r.newID(), nil)
	for topic := range r.interests {
		a.first[topic] = struct{}{}
		a.want(topic)
	}
}

func (r *spokeRouter) detached(a *attachment) {
	if r.on != a {
		return
	}
	r.on = nil
	err := a.link.err()
	// Once the hub has everything, it may close with code 0 too. It ends its half before.
	end := closeError(err)
	if r.closed && (end == errSpokeClosed || end != nil && end.Code == 0 && a.link.ended.Load()) {
		r.end(errSpokeClosed)
		return
	}
	if a.begun {
		r.lost(a, err)
	}
	if r.closed {
		r.end(fmt.Errorf("irohub: closing: %w", err))
	}
}

// lost handles the end of a link that had begun. It is unknown whether the hub got the events
// that the link's writer has taken. Their loss is noted for the next Flush or Close, except for
// events that a Flush has reported already or reports now. Events that are still in published
// go over the next link.
func (r *spokeRouter) lost(a *attachment, err error) {
	lost := fmt.Errorf("irohub: events may be lost: %w", err)
	told := max(r.flushed, r.endFlushes(lost))
	if r.taken += a.link.taken.Load(); r.taken > told {
		r.refusal, r.loss = cmp.Or(r.refusal, lost), cmp.Or(r.loss, lost)
	}
	r.flushed = max(r.flushed, r.taken)
	if !r.closed {
		r.notifications.add(notification{kind: disconnected, err: err})
	}
}

// finish closes the Spoke: after the link has written everything, or at once if there is no
// link.
func (r *spokeRouter) finish() {
	if r.closed {
		return
	}
	r.closed = true
	r.shut(errSpokeClosed)
	if r.on != nil && r.on.begun {
		r.on.link.out.finish(errSpokeClosed)
		return
	}
	waiting := 0
	drain(&r.gate, r.published, func(f frames) { waiting += f.count })
	if waiting > 0 {
		r.end(fmt.Errorf("irohub: closed without a connection; events not written: %d", waiting))
	} else {
		r.end(errSpokeClosed)
	}
}

// end ends the Spoke for a reason.
func (r *spokeRouter) end(err error) {
	if !r.closed {
		r.shut(err)
	}
	r.closed, r.ended, r.err = true, true, err
	if err == errSpokeClosed {
		r.err = r.loss // or nil
	}
	if r.on != nil {
		r.on.link.cancel(errSpokeClosed)
	}
	r.cancel(err)
	for sub := range r.listeners {
		r.unlistened(sub, err)
	}
	r.endFlushes(err)
}
