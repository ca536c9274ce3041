package irohub

import (
	"time"

	"irohub/internal/assert"
	"irohub/internal/logging"
)

// An inbox holds the channels to the router. Only closing, which is the gate's, and done are
// ever closed. Every sender also selects on closing, on done or on the end of its link, so
// that none blocks after the router's end. A channel is unbuffered unless its comment says
// otherwise: after a send, the router is already at work on the value.
type inbox struct {
	// Immutable, but for the gate.
	gate                   // guards publish; Subscribe passes it too; shut when a shutdown begins
	publish  chan message  // from Hub.Publish; buffered, so that a round finds several
	inbound  chan *inbound // from readers; buffered for the same reason; at most two per reader
	begin    chan *peer    // a connection's first packet has arrived
	settle   chan *peer    // a connection and all its streams have ended
	join     chan request[*member]
	leave    chan *member // a stream is closed
	listen   chan request[listening]
	unlisten chan *Subscription
	stats    chan chan Stats        // the sent channel has room for the answer
	spokes   chan query[SpokeInfo]  // the query's channel has room for the answer
	topics   chan query[topicCount] // likewise
	shutdown chan struct{}          // end after writing all that is queued
	quit     chan struct{}          // end now

	done chan struct{} // closed by the router at its end

	// Written by the router before it closes done.
	final Stats
	cut   bool // the router ended by quit, not by shutdown
	lost  loss // what shutdown could not deliver
}

// A loss counts what a shutdown could not deliver.
type loss struct {
	spokes int
	events int
}

// A router owns the spokes, the listeners and the table. Only its goroutine, loop, can reach
// this struct, so all fields are the router's. It answers messages by a buffered reply, an
// outbox or a cancelled context.
// None of these can block it.
type router struct {
	*inbox
	opts HubOptions
	logs *logging.Log

	fanout
	run       []message            // events of one topic and sender, not given to subscribers yet
	bytes     int                  // bytes of the events since the last flush
	cost      int                  // their cost in a queue, at most
	members   []*member            // each knows its index
	byNode    map[NodeID][]*member // ordered by connection, oldest first
	listeners map[*Subscription]struct{}
	pending   []*peer // connections without a spoke, oldest first
	stopping  bool    // a shutdown has begun; the gate is shut
	draining  bool    // the outboxes have all that was accepted before
	quitting  bool    // the router ends now

	// Work that is done in turns, so that no spoke's work delays all others.
	ready   []*member     // have an inbound
	leaving []*subscriber // have retired, but are still in the table

	last     uint64 // number of the newest spoke
	lastPeer uint64 // number of the newest connection
	counts   Stats

	// Log lines that each sum up many events.
	full, evicting logging.Notice
	away           logging.Tally
	report         *time.Timer // time of the next line about rejected connections; nil: none is due
}

// A message is a run on its way through a hub. It enters the router with one event.
type message struct {
	run
	sender  *subscriber // does not get its own event back; nil: the hub
	forward bool        // spokes get it too, not only listeners
}

// A listening adds topics to a listener.
type listening struct {
	sub    *Subscription
	topics []string
}

const (
	// A round ends with a flush at these limits. roundSize limits its work, so that the first
	// event does not wait long. roundBytes limits the bytes of its events, so that one round
	// does not exceed the queue of a subscriber that keeps up.
	roundSize  = 1 << 14
	roundBytes = 64 << 10

	// turnSize limits the work for one spoke in one turn.
	turnSize = 1 << 10

	publishQueue = 256 // events waiting for the router; more make larger rounds, but hold memory
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
			r.spread() // this may cut off some spokes
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

// workAtHand is a closed channel: a receive never blocks.
var workAtHand = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// atHand returns a channel that is ready while work is waiting for a turn.
func (r *router) atHand() <-chan struct{} {
	if len(r.ready)+len(r.leaving) > 0 {
		return workAtHand
	}
	return nil
}

// reportDue returns a channel that is ready when a line about rejected connections is due.
func (r *router) reportDue() <-chan time.Time {
	if r.report == nil {
		return nil
	}
	return r.report.C
}

// waiting receives what is in the buffers now, but not what arrives meanwhile. A receive from
// a non-empty channel costs a fraction of a select.
func (r *router) waiting() {
	for range len(r.publish) {
		m := <-r.publish
		r.route(&m)
	}
	for range len(r.sent()) {
		r.arrived(<-r.inbound)
	}
}

// sent returns the channel of the readers' batches. Between stopping and draining it returns
// nil: the router then accepts no new batches, so that the shutdown comes to an end.
func (r *router) sent() <-chan *inbound {
	if r.stopping && !r.draining {
		return nil
	}
	return r.inbound
}

// arrived queues a batch for its spoke's turns, behind an earlier batch of the same spoke.
func (r *router) arrived(in *inbound) {
	m := in.from
	if m.first != nil {
		m.second = in
		return
	}
	m.first = in
	r.ready = append(r.ready, m)
}

// turns gives one turn to each ready spoke, up to the work of one round. It then does up to
// the same amount of work for leaving subscribers, so that their number does not grow.
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

// shift removes the first n items and keeps the array.
func shift[T any](list []T, n int) []T {
	if n == 0 {
		return list
	}
	rest := copy(list, list[n:])
	clear(list[rest:])
	return list[:rest]
}

// route adds an event to the current run or begins a new one.
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

// goesWith reports whether two events can share a run: both then have the same subscribers.
func (m *message) goesWith(next *message) bool {
	return m.sender == next.sender && m.forward == next.forward && m.run.goesWith(&next.run)
}

// spread gives the current run to all its subscribers, in one piece. It must come before
// every change of who they are.
func (r *router) spread() {
	if len(r.run) == 0 {
		return
	}
	first := &r.run[0]
	r.event++
	// One copy for spokes and one for listeners, since a listener can change its payload.
	// The first subscriber of each kind makes it.
	var written, heard run
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
	clear(r.run) // or the array would keep the events alive
	r.run = r.run[:0]
	r.cutOff()
	r.charge(0)
}

// charge counts changes of the table as work. It ends the round at roundSize.
func (r *router) charge(changes int) {
	r.changed(changes)
	if r.gathered() >= roundSize {
		r.flush()
	}
}

// join makes one run of messages. The memory of a spoke's messages belongs to its reader, so
// join always copies them.
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

// flush ends the round: it hands over to the receivers what the round has put into outboxes.
func (r *router) flush() {
	r.spread()
	if assert.Round != nil {
		assert.Round(r.invariants)
	}
	r.fanout.flush()
	r.bytes, r.cost = 0, 0
}

// cutOff ends the subscribers that exceeded their queue's limit. It changes the lists that
// spread iterates over, so spread calls it at its end.
func (r *router) cutOff() {
	full := r.takeFull()
	for _, sub := range full {
		if sub.retired {
			continue
		}
		r.counts.CutOff++
		if sub.link != nil {
			m := r.members[sub.place] // every spoke that has not retired is there
			m.cut = r.info(m)
			r.remove(m, sub.slow)
		} else {
			r.unlistened(sub.listener, sub.slow)
		}
	}
	clear(full)
}

// turn does the ops of one spoke, up to turnSize of work. It reports whether the spoke has
// more.
func (r *router) turn(m *member) (more bool) {
	if len(r.run) > 0 && r.run[0].sender != &m.subscriber {
		r.spread() // other senders' work does not count for this spoke
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
	r.spread() // before recycle takes the events' buffer, in.text
	in.recycle()
	m.first, m.second = m.second, nil
	m.work.free <- in // never blocks: it has room for both
	return m.first != nil
}

// do does one op, or the part of it that fits into the turn. It reports whether the op is
// complete. If the spoke is gone meanwhile, do still passes on its events, unless the router
// has expelled it.
func (r *router) do(m *member, op *op, end uint64) (done bool) {
	r.worked++
	if op.kind == opPublish {
		if !r.draining && !m.expelled {
			r.route(&op.event)
		}
		return true
	}
	r.spread() // this may cut off m itself
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
		// Its queue is still written. Until then the spoke counts.
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

// countBytes adds the bytes that m's link has carried since the last call to the hub's
// statistics.
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
