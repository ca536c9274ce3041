package irohub

import (
	"maps"
	"slices"
	"time"
)

// An inbox is how all others reach the router: channels that any goroutine may send
// to, and never without waiting besides for closing, for done, or for a link's end, which
// the router's brings, since nobody receives after that. None of the former is ever closed.
// Where no buffer is named there is none: what was sent is then being dealt with.
type inbox struct {
	publish  chan message  // from Hub.Publish; buffered, so that a round finds several
	inbound  chan *inbound // from readers; buffered likewise, at most two of each reader
	begin    chan *peer    // a connection's first packet has come
	settle   chan *peer    // it has failed
	join     chan request[*member]
	leave    chan *member // its stream is closed
	listen   chan request[*Subscription]
	unlisten chan *Subscription
	stats    chan chan Stats // of this and the next two, each with room for the answer
	spokes   chan chan []SpokeInfo
	topics   chan chan map[string]int
	shutdown chan struct{} // end once all that waits is written
	quit     chan struct{} // end now

	closing chan struct{} // closed by the router once it takes nothing new
	done    chan struct{} // closed by the router at its end
	final   Stats         // written before done is closed, as is cut
	cut     bool          // the end was not that of shutdown
}

// A router is the one goroutine that knows the spokes, the listeners and the table,
// and the only one that can reach this struct. It answers what its inbox brings by a
// reply, a full outbox or a cancelled context, none of which can block it.
type router struct {
	*inbox
	opts HubOptions

	fanout
	run       []message // what makes one run for all who get it, not spread yet
	bytes     int       // of the events since the last flush
	cost      int       // of the same, at the most
	members   map[*member]struct{}
	byNode    map[NodeID][]*member // the oldest first
	listeners map[*Subscription]struct{}
	pending   []*peer // without a spoke yet, the oldest first
	draining  bool
	quitting  bool

	last   uint64 // number of the newest spoke
	counts Stats
}

// A request is what is answered with an error or nil. The reply has room for it.
type request[T any] struct {
	value T
	reply chan error
}

const (
	// What is gathered before a flush at most: items, so that the first is not kept
	// waiting, and bytes of events, so that who keeps up is not found over its limit.
	roundSize  = 1 << 14
	roundBytes = 64 << 10

	publishQueue = 256 // events that wait for the router; more of them make larger rounds, but hold memory
	inboundQueue = 64
)

func newInbox() *inbox {
	return &inbox{
		publish:  make(chan message, publishQueue),
		inbound:  make(chan *inbound, inboundQueue),
		begin:    make(chan *peer),
		settle:   make(chan *peer),
		join:     make(chan request[*member]),
		leave:    make(chan *member),
		listen:   make(chan request[*Subscription]),
		unlisten: make(chan *Subscription),
		stats:    make(chan chan Stats),
		spokes:   make(chan chan []SpokeInfo),
		topics:   make(chan chan map[string]int),
		shutdown: make(chan struct{}),
		quit:     make(chan struct{}),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
}

func newRouter(in *inbox, opts HubOptions) *router {
	return &router{
		inbox:     in,
		opts:      opts,
		fanout:    fanout{table: newTable()},
		members:   make(map[*member]struct{}),
		byNode:    make(map[NodeID][]*member),
		listeners: make(map[*Subscription]struct{}),
	}
}

func (r *router) loop() {
	for !r.quitting && (!r.draining || len(r.members) > 0) {
		select {
		case m := <-r.publish:
			r.route(&m)
			r.waiting()
		case in := <-r.inbound:
			r.work(in)
			r.waiting()
		case p := <-r.begin:
			r.admit(p)
		case p := <-r.settle:
			r.settled(p)
		case q := <-r.join:
			q.reply <- r.joined(q.value)
		case m := <-r.leave:
			r.left(m)
		case q := <-r.listen:
			q.reply <- r.listened(q.value)
		case sub := <-r.unlisten:
			r.unlistened(sub, nil)
		case c := <-r.stats:
			c <- r.statistics()
		case c := <-r.spokes:
			c <- r.spokeList()
		case c := <-r.topics:
			c <- maps.Collect(r.table.topics())
		case <-r.shutdown:
			r.drain()
		case <-r.quit:
			r.end()
		}
		if len(r.publish) == 0 && len(r.inbound) == 0 {
			r.flush()
		}
	}
	r.final, r.cut = r.statistics(), r.quitting
	close(r.done)
}

// waiting works through the events that have been sent by now, and not through what comes
// meanwhile. To receive where something is waiting costs a fraction of a select.
func (r *router) waiting() {
	for range len(r.publish) {
		m := <-r.publish
		r.route(&m)
	}
	for range len(r.inbound) {
		r.work(<-r.inbound)
	}
}

// route adds an event to the run in hand, or begins another.
func (r *router) route(m *message) {
	if m.sender == nil {
		r.counts.Published++
	} else {
		r.counts.Received++
	}
	if r.bytes > 0 && (r.bytes+len(m.bytes) > roundBytes || r.cost+m.cost() > r.opts.MaxQueue/4) {
		r.flush()
	}
	if len(r.run) > 0 && !r.run[0].goesWith(m) {
		r.spread()
	}
	r.run = append(r.run, *m)
	r.bytes += len(m.bytes)
	r.cost += m.cost()
}

// goesWith says whether whoever gets one of two events gets the other too, as one run.
func (m *message) goesWith(next *message) bool {
	return m.sender == next.sender && m.forward == next.forward && m.run.goesWith(&next.run)
}

// spread gives the run to all who are to have it: in one piece. It comes before
// everything that could change who they are.
func (r *router) spread() {
	if len(r.run) == 0 {
		return
	}
	first := &r.run[0]
	r.event++
	var written, heard run // for spokes and for listeners, whom nothing keeps from changing theirs; made for the first
	for _, subs := range r.table.match(first.topic.text) {
		for _, sub := range subs {
			if sub.seen == r.event || sub == first.sender {
				continue
			}
			sub.seen = r.event
			switch {
			case sub.spoke != nil && first.forward:
				if written.count == 0 {
					written = join(r.run)
				}
				if r.give(sub, written.frames) {
					r.counts.Delivered += uint64(written.count)
				}
			case sub.listener != nil && first.sender != nil:
				if heard.count == 0 {
					heard = join(r.run)
				}
				r.counts.Delivered += uint64(r.tell(sub, heard))
			}
		}
	}
	clear(r.run) // or it would keep what it carried alive
	r.run = r.run[:0]
	r.cutOff()
	if r.gathered >= roundSize {
		r.flush()
	}
}

// join makes one run of messages. Where they came from a spoke, their memory is its reader's
// and is copied in any case.
func join(messages []message) run {
	all := messages[0].run
	if len(messages) == 1 && messages[0].sender == nil {
		return all
	}
	size := 0
	for i := range messages {
		size += len(messages[i].bytes)
	}
	all.frames = frames{make([]byte, 0, size), len(messages)}
	for i := range messages {
		all.bytes = append(all.bytes, messages[i].bytes...)
	}
	return all
}

// flush ends the round.
func (r *router) flush() {
	r.spread()
	r.fanout.flush()
	r.bytes, r.cost = 0, 0
}

// cutOff ends those whom the run in hand brought over their limit. It waits until
// that has gone round, since it changes the lists that spread walks over.
func (r *router) cutOff() {
	full := r.takeFull()
	for _, sub := range full {
		r.counts.CutOff++
		if m := sub.spoke; m != nil {
			m.cut = r.info(m)
			r.remove(m, errSlow)
		} else {
			r.unlistened(sub.listener, errSlow)
		}
	}
	clear(full)
}

// work does what the frames of one spoke ask. Where the spoke is gone meanwhile, its
// events are passed on all the same, unless it was made to go.
func (r *router) work(in *inbound) {
	m := in.from
	for i := range in.ops {
		op := &in.ops[i]
		_, here := r.members[m]
		if r.draining || !here && (m.expelled || op.kind != opPublish) {
			break
		}
		if op.kind == opPublish {
			r.route(&op.event)
			continue
		}
		r.spread()
		switch op.kind {
		case opSubscribe:
			r.subscribe(m, op)
		case opUnsubscribe:
			for _, topic := range op.topics {
				r.table.remove(&m.subscriber, topic)
			}
			r.answer(m, op)
		case opRefuse:
			r.counts.Refused++
			r.reply(m, op.reply)
		case opIgnore:
			r.counts.Ignored++
		case opEnd:
			// What is waiting for it still goes out. Until then it counts.
			r.table.drop(&m.subscriber)
			m.link.out.finish(&CloseError{})
		}
		r.cutOff()
		r.gathered++
	}
	if r.gathered >= roundSize {
		r.flush()
	}
	r.spread() // the rest of in.text
	in.recycle()
	m.work.free <- in // has room for both
}

// subscribe adds all topics of a request, or none.
func (r *router) subscribe(m *member, op *op) {
	room := r.opts.MaxSubscriptions - len(m.subscriber.at)
	for _, topic := range op.topics {
		if r.table.has(&m.subscriber, topic) {
			continue
		}
		if room--; room < 0 {
			r.counts.Refused++
			r.reply(m, errorFrame(op.id, refusedTooMany, topic, "too many subscriptions"))
			return
		}
	}
	for _, topic := range op.topics {
		r.table.add(&m.subscriber, topic)
	}
	r.answer(m, op)
}

// answer acknowledges a request that wants it.
func (r *router) answer(m *member, op *op) {
	if op.id != "" {
		r.reply(m, ackFrame(op.id))
	}
}

func (r *router) reply(m *member, frame []byte) { r.give(&m.subscriber, frames{frame, 1}) }

// admit gives a new connection a place among those that have not sent a frame yet.
// Where there is none, the oldest loses its own: a good peer needs it for a few
// round trips, while one that stalls would keep it for the whole timeout.
func (r *router) admit(p *peer) {
	if r.draining {
		p.cancel(errShutdown)
		return
	}
	if len(r.pending) >= r.opts.MaxPending {
		r.counts.Rejected++
		r.pending[0].cancel(&CloseError{Code: CodeTooMany, Reason: "too many handshakes"})
		r.pending = slices.Delete(r.pending, 0, 1)
	}
	r.pending = append(r.pending, p)
}

func (r *router) settled(p *peer) {
	if i := slices.Index(r.pending, p); i >= 0 {
		r.pending = slices.Delete(r.pending, i, i+1)
	}
}

// joined makes a stream a spoke.
func (r *router) joined(m *member) error {
	r.settled(m.peer)
	if r.draining {
		return errShutdown
	}
	if err := m.link.ctx.Err(); err != nil {
		return m.link.err() // its leave has been here already
	}
	same := r.byNode[m.id]
	if len(same) >= r.opts.MaxSpokesPerNode {
		r.remove(same[0], &CloseError{Code: CodeTooMany, Reason: "replaced by a newer spoke of the same node"})
	}
	if len(r.members) >= r.opts.MaxSpokes {
		r.counts.Rejected++
		return &CloseError{Code: CodeTooMany, Reason: "too many spokes"}
	}
	r.last++
	m.number, m.since = r.last, time.Now()
	r.members[m] = struct{}{}
	r.byNode[m.id] = append(r.byNode[m.id], m)
	m.peer.spokes++
	m.counted = true
	return nil
}

// left is the end of a stream. A connection without a spoke ends too, whatever streams it
// has that never became one: they are counted nowhere.
func (r *router) left(m *member) {
	r.remove(m, nil)
	if !m.counted {
		return
	}
	m.counted = false
	if m.peer.spokes--; m.peer.spokes == 0 {
		m.peer.cancel(endOf(m.link.err()))
	}
}

// remove forgets a spoke; with a reason, its link ends too. It does nothing where
// the spoke is gone already: that is settled by identity, so that the end of an old
// connection cannot take what a newer one of the same node has.
func (r *router) remove(m *member, reason error) {
	r.spread()
	if _, ok := r.members[m]; !ok {
		return
	}
	r.table.drop(&m.subscriber)
	delete(r.members, m)
	same := r.byNode[m.id]
	if i := slices.Index(same, m); len(same) > 1 {
		r.byNode[m.id] = slices.Delete(same, i, i+1)
	} else {
		delete(r.byNode, m.id)
	}
	if reason != nil {
		m.expelled = true
		m.link.cancel(reason)
	}
}

func (r *router) listened(sub *Subscription) error {
	if r.draining {
		return ErrHubClosed
	}
	r.spread()
	r.listeners[sub] = struct{}{}
	if len(sub.topics) == 0 {
		r.table.add(&sub.subscriber, allTopics)
	}
	for _, topic := range sub.topics {
		r.table.add(&sub.subscriber, topic)
	}
	return nil
}

func (r *router) unlistened(sub *Subscription, reason error) {
	r.spread()
	if _, ok := r.listeners[sub]; !ok {
		return
	}
	r.table.drop(&sub.subscriber)
	delete(r.listeners, sub)
	sub.queue.flush()
	sub.end(reason)
}

// drain lets nothing new in, and ends each spoke behind what is waiting for it.
func (r *router) drain() {
	if r.draining {
		return
	}
	r.waiting()
	r.draining = true
	close(r.closing)
	r.flush()
	for m := range r.members {
		r.table.drop(&m.subscriber)
		m.link.out.finish(errShutdown)
	}
	r.endOthers()
}

// end ends all at once.
func (r *router) end() {
	if !r.draining {
		close(r.closing)
	}
	r.draining, r.quitting = true, true
	for m := range r.members {
		r.remove(m, errShutdown)
	}
	r.endOthers()
}

func (r *router) endOthers() {
	for sub := range r.listeners {
		r.unlistened(sub, ErrHubClosed)
	}
	for _, p := range r.pending {
		p.cancel(errShutdown)
	}
	r.pending = nil
}

func (r *router) statistics() Stats {
	r.spread()
	stats := r.counts
	stats.Spokes, stats.Listeners, stats.Pending = len(r.members), len(r.listeners), len(r.pending)
	stats.Topics = r.table.len()
	return stats
}

func (r *router) info(m *member) SpokeInfo {
	bytes, events := m.link.out.waiting()
	return SpokeInfo{
		ID: m.id, Number: m.number, Since: m.since,
		Subscriptions: len(m.subscriber.at),
		WaitingBytes:  bytes, WaitingEvents: events,
	}
}

func (r *router) spokeList() []SpokeInfo {
	r.spread()
	list := make([]SpokeInfo, 0, len(r.members))
	for m := range r.members {
		list = append(list, r.info(m))
	}
	return list
}
