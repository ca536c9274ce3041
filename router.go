package irohub

import (
	"time"

	"irohub/internal/assert"
	"irohub/internal/logging"
)

// An inbox is how all others reach the router. A sender waits for the end besides: for
// closing, for done, or for the end of its link. No channel is closed but closing and
// done. Where no buffer is named there is none: what was sent is then being dealt with.
type inbox struct {
	gate                   // before publish: shut once the router takes nothing new
	publish  chan message  // from Hub.Publish; buffered, so that a round finds several
	inbound  chan *inbound // from readers; buffered likewise, at most two of each reader
	begin    chan *peer    // a connection's first packet has come
	settle   chan *peer    // it has ended, with all its streams
	join     chan request[*member]
	leave    chan *member // its stream is closed
	listen   chan request[listening]
	unlisten chan *Subscription
	stats    chan chan Stats // of this and the next two, each with room for the answer
	spokes   chan query[SpokeInfo]
	topics   chan query[topicCount]
	shutdown chan struct{} // end once all that waits is written
	quit     chan struct{} // end now

	done  chan struct{} // closed by the router at its end
	final Stats         // written before done is closed, as are cut and lost
	cut   bool          // the end was not that of shutdown
	lost  loss          // by shutdown
}

// A loss is what a shutdown could not hand over.
type loss struct {
	spokes int
	events int
}

// A router is the one goroutine that knows the spokes, the listeners and the table,
// and the only one that can reach this struct. It answers what its inbox brings by a
// reply, a full outbox or a cancelled context, none of which can block it.
type router struct {
	*inbox
	opts HubOptions
	logs *logging.Log

	fanout
	run       []message            // what makes one run for all who get it, not spread yet
	bytes     int                  // of the events since the last flush
	cost      int                  // of the same, at the most
	members   []*member            // each knows its place
	byNode    map[NodeID][]*member // that of the oldest connection first
	listeners map[*Subscription]struct{}
	pending   []*peer // without a spoke yet, the oldest first
	stopping  bool    // nothing new is let in
	draining  bool    // and what there was has gone to the spokes
	quitting  bool

	// Work that goes on in turns, so that no spoke's is waited for by all.
	ready   []*member     // have something inbound
	leaving []*subscriber // have retired, and are in the table yet

	last     uint64 // number of the newest spoke
	lastPeer uint64 // and of the newest connection
	counts   Stats

	// What is logged once for many.
	full, evicting logging.Notice
	away           logging.Tally
	report         *time.Timer // runs while connections that are turned away are summed up
}

// A message is a run on its way through a hub: at first, of one event.
type message struct {
	run
	sender  *subscriber // does not get its own event back; nil: the hub
	forward bool        // goes to spokes, not to listeners alone
}

// A listening is topics for a listener.
type listening struct {
	sub    *Subscription
	topics []string
}

const (
	// What is gathered before a flush at most: work, so that the first is not kept
	// waiting, and bytes of events, so that who keeps up is not found over its limit.
	roundSize  = 1 << 14
	roundBytes = 64 << 10

	// turnSize is the work that is done for one spoke before it is another's turn.
	turnSize = 1 << 10

	publishQueue = 256 // events that wait for the router; more of them make larger rounds, but hold memory
	inboundQueue = 64
)

func newInbox() *inbox {
	return &inbox{
		gate:     newGate(),
		publish:  make(chan message, publishQueue),
		inbound:  make(chan *inbound, inboundQueue),
		begin:    make(chan *peer),
		settle:   make(chan *peer),
		join:     make(chan request[*member]),
		leave:    make(chan *member),
		listen:   make(chan request[listening]),
		unlisten: make(chan *Subscription),
		stats:    make(chan chan Stats),
		spokes:   make(chan query[SpokeInfo]),
		topics:   make(chan query[topicCount]),
		shutdown: make(chan struct{}),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
}

func newRouter(in *inbox, opts HubOptions, logs *logging.Log) *router {
	return &router{
		inbox:     in,
		opts:      opts,
		logs:      logs,
		fanout:    fanout{table: newTable()},
		byNode:    make(map[NodeID][]*member),
		listeners: make(map[*Subscription]struct{}),
	}
}

func (r *router) loop() {
	for !r.quitting && (!r.draining || len(r.members) > 0) {
		select {
		case m := <-r.publish:
			r.route(&m)
		case in := <-r.sent():
			r.arrived(in)
		case p := <-r.begin:
			r.begun(p)
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
		case q := <-r.spokes:
			r.spread() // which may cut some off
			answer(q, r.members, r.info)
		case q := <-r.topics:
			answer(q, r.table.list, countOf)
		case <-r.reportDue():
			r.reported()
		case <-r.atHand():
		case <-r.shutdown:
			r.stop()
		case <-r.quit:
			r.end()
		}
		r.waiting()
		r.turns()
		if len(r.publish) == 0 && len(r.sent()) == 0 && len(r.ready) == 0 {
			r.flush()
			if r.stopping && !r.draining {
				r.drain()
			}
		}
	}
	if r.report != nil {
		r.report.Stop()
	}
	r.table, r.leaving = newTable(), nil
	r.final, r.cut = r.statistics(), r.quitting
	close(r.done)
}

// workAtHand can be received from at once, always.
var workAtHand = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// atHand is ready while there is work that goes on in turns.
func (r *router) atHand() <-chan struct{} {
	if len(r.ready)+len(r.leaving) > 0 {
		return workAtHand
	}
	return nil
}

// reportDue is ready when turned-away connections are to be summed up.
func (r *router) reportDue() <-chan time.Time {
	if r.report == nil {
		return nil
	}
	return r.report.C
}

// waiting takes in what has been sent by now, and not what comes meanwhile. To receive
// where something is waiting costs a fraction of a select.
func (r *router) waiting() {
	for range len(r.publish) {
		m := <-r.publish
		r.route(&m)
	}
	for range len(r.sent()) {
		r.arrived(<-r.inbound)
	}
}

// sent is what brings the work of readers: none between stopping and draining, so that
// there is an end to it.
func (r *router) sent() <-chan *inbound {
	if r.stopping && !r.draining {
		return nil
	}
	return r.inbound
}

// arrived has a spoke take its turns. What came from it before goes first.
func (r *router) arrived(in *inbound) {
	m := in.from
	if m.first != nil {
		m.second = in
		return
	}
	m.first = in
	r.ready = append(r.ready, m)
}

// turns gives one to each who waits for one, as far as there is work for one round. As much is
// done for those who leave, so that they never become more.
func (r *router) turns() {
	done, end := 0, r.worked+roundSize
	for n := len(r.ready); done < n && r.worked < end; done++ {
		if m := r.ready[done]; r.turn(m) {
			r.ready = append(r.ready, m)
		}
		r.charge(0)
	}
	r.ready = shift(r.ready, done)
	done, end = 0, r.worked+roundSize
	for done < len(r.leaving) && r.worked < end {
		if r.forget(r.leaving[done]) {
			done++
		}
	}
	r.leaving = shift(r.leaving, done)
}

// shift takes the first n items off, and keeps the array.
func shift[T any](list []T, n int) []T {
	if n == 0 {
		return list
	}
	rest := copy(list, list[n:])
	clear(list[rest:])
	return list[:rest]
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
			if sub.seen == r.event || sub.retired || sub == first.sender {
				continue
			}
			sub.seen = r.event
			switch {
			case sub.link != nil && first.forward:
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
	r.charge(0)
}

// charge counts changes of the table as work, and ends a round in which much was done.
func (r *router) charge(changes int) {
	r.changed(changes)
	if r.gathered() >= roundSize {
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
	if assert.Round != nil {
		assert.Round(r.invariants)
	}
	r.fanout.flush()
	r.bytes, r.cost = 0, 0
}

// cutOff ends those whom the run in hand brought over their limit. It waits until
// that has gone round, since it changes the lists that spread walks over.
func (r *router) cutOff() {
	full := r.takeFull()
	for _, sub := range full {
		if sub.retired {
			continue
		}
		r.counts.CutOff++
		if sub.link != nil {
			m := r.members[sub.place] // as every spoke that has not retired
			m.cut = r.info(m)
			r.remove(m, errSlow)
		} else {
			r.unlistened(sub.listener, errSlow)
		}
	}
	clear(full)
}

// turn does what the frames of one spoke ask, until that was its share of work; it says
// whether there is more.
func (r *router) turn(m *member) (more bool) {
	if len(r.run) > 0 && r.run[0].sender != &m.subscriber {
		r.spread() // which is not this spoke's to pay for
	}
	in, end := m.first, r.worked+turnSize
	for in.next < len(in.ops) {
		if r.worked >= end {
			return true
		}
		if r.do(m, &in.ops[in.next], end) {
			in.next++
		}
	}
	r.spread() // the rest of in.text
	in.recycle()
	m.first, m.second = m.second, nil
	m.work.free <- in // has room for both
	return m.first != nil
}

// do does what one frame asks, or as much of it as may be done by the end of the turn; it
// says whether that was all. Where the spoke is gone meanwhile, its events are passed on
// all the same, unless it was made to go.
func (r *router) do(m *member, op *op, end uint64) (done bool) {
	r.worked++
	if op.kind == opPublish {
		if !r.draining && !m.expelled {
			r.route(&op.event)
		}
		return true
	}
	r.spread() // which may cut off this very spoke
	if r.draining || m.subscriber.retired {
		return true
	}
	done = true
	switch op.kind {
	case opSubscribe:
		done = r.subscribe(m, op, end)
	case opUnsubscribe:
		done = r.unsubscribe(m, op, end)
	case opRefuse:
		r.counts.Refused++
		r.reply(m, op.reply)
	case opIgnore:
		r.counts.Ignored++
	case opEnd:
		// What is waiting for it still goes out. Until then it counts.
		r.retire(&m.subscriber)
		m.link.out.finish(&CloseError{})
	}
	r.cutOff()
	return done
}

func (r *router) statistics() Stats {
	r.spread()
	for _, m := range r.members {
		r.countBytes(m)
	}
	stats := r.counts
	stats.Spokes, stats.Listeners, stats.Pending = len(r.members), len(r.listeners), len(r.pending)
	stats.Topics = r.table.len()
	return stats
}

// countBytes adds to the hub's figures what a link has carried since it was counted last.
func (r *router) countBytes(m *member) {
	in, out := m.link.bytesIn.Load(), m.link.bytesOut.Load()
	r.counts.BytesIn += in - m.in
	r.counts.BytesOut += out - m.out
	m.in, m.out = in, out
}

func (r *router) info(m *member) SpokeInfo {
	info := m.info()
	info.WaitingBytes, info.WaitingEvents = m.link.out.waiting()
	info.Subscriptions = len(m.subscriber.at)
	return info
}
