package irohub

import (
	"irohub/internal/logging"
	"log/slog"
	"slices"
	"time"
)

// This file is who is there, as the router knows it, and subscribed to what: connections,
// spokes and listeners.
// A connection is pending or has a spoke; a subscriber in the table is a member or a
// listener, or has retired and is being taken out.

var errReplaced = &CloseError{Code: CodeTooMany, Reason: "replaced by a newer spoke of the same node"}

// begun gives a new connection a place among those without a spoke. Where there is none,
// the oldest loses its own: a good peer needs it for a few round trips, while one that
// stalls would keep it for the whole timeout.
func (r *router) begun(p *peer) {
	if r.draining {
		p.cancel(errShutdown)
		return
	}
	if len(r.pending) >= r.opts.MaxPending {
		r.counts.Rejected++
		if n := r.evicting.Due(); n > 0 {
			r.logs.Add(slog.LevelWarn, "too many connections without a spoke: the oldest make room", "evicted", n, "limit", r.opts.MaxPending, "newest", p.addr)
		}
		oldest := r.pending[0]
		r.promoted(oldest)
		oldest.cancel(&CloseError{Code: CodeTooMany, Reason: "too many handshakes"})
	}
	r.lastPeer++
	p.number, p.pending = r.lastPeer, true
	r.pending = append(r.pending, p)
}

// promoted takes a connection from among those without a spoke.
func (r *router) promoted(p *peer) {
	if p.pending {
		p.pending = false
		i := slices.Index(r.pending, p)
		r.pending = slices.Delete(r.pending, i, i+1)
	}
}

// settled is the end of a connection and all its streams.
func (r *router) settled(p *peer) {
	r.promoted(p)
	if !p.served {
		r.turnedAway(p)
	}
}

// joined makes a stream a spoke, if its connection is there.
func (r *router) joined(m *member) error {
	p := m.peer
	switch {
	case r.draining:
		return errShutdown
	case m.link.ctx.Err() != nil:
		return m.link.err() // its leave has been here already
	case !p.pending && p.spokes.Load() == 0:
		return errGone
	}
	// The oldest makes room. That may be this one: a node that has given a connection up, and
	// made another, is not to lose that as the first is at last let in.
	same := r.byNode[m.id]
	if len(same) >= r.opts.MaxSpokesPerNode {
		if p.number < same[0].peer.number {
			r.counts.Rejected++
			return errReplaced
		}
		r.remove(same[0], errReplaced)
	}
	if len(r.members) >= r.opts.MaxSpokes {
		// The connection stays pending, and so is closed in time whatever it does.
		r.counts.Rejected++
		if n := r.full.Due(); n > 0 {
			r.logs.Add(slog.LevelWarn, "hub is full: spokes are turned away", "turned away", n, "limit", r.opts.MaxSpokes, "newest", p.addr)
		}
		return &CloseError{Code: CodeTooMany, Reason: "too many spokes"}
	}
	r.last++
	m.number, m.since = r.last, time.Now()
	m.place = len(r.members)
	r.members = append(r.members, m)
	same = append(r.byNode[m.id], m)
	for i := len(same) - 1; i > 0 && same[i-1].peer.number > p.number; i-- {
		same[i-1], same[i] = m, same[i-1]
	}
	r.byNode[m.id] = same
	r.promoted(p)
	p.silent.Stop()
	p.served = true
	p.spokes.Add(1)
	m.counted = true
	return nil
}

// left is the end of a stream. A connection ends with its last spoke, whatever streams it
// has that never became one.
func (r *router) left(m *member) {
	if r.draining && m.place >= 0 && !m.link.handedOver.Load() {
		r.undelivered(m)
	}
	r.remove(m, nil)
	r.countBytes(m)
	if m.counted && m.peer.spokes.Add(-1) == 0 {
		m.peer.cancel(m.link.end())
	}
}

// undelivered notes what a shutdown could not hand over to a spoke. One that has left on
// purpose, with nothing waiting, has missed nothing that it wanted.
func (r *router) undelivered(m *member) {
	_, events := m.link.out.waiting()
	if end := closeError(m.link.err()); events == 0 && end != nil && end.Code == 0 {
		return
	}
	r.lost.spokes++
	r.lost.events += events
}

// remove forgets a spoke; with a reason, its link ends too. It does nothing where
// the spoke is gone already: that is settled by identity, so that the end of an old
// connection cannot take what a newer one of the same node has.
func (r *router) remove(m *member, reason error) {
	r.spread()
	if m.place < 0 {
		return
	}
	r.retire(&m.subscriber)
	r.countBytes(m)
	last := len(r.members) - 1
	moved := r.members[last]
	r.members[m.place], moved.place = moved, m.place
	r.members[last] = nil
	r.members, m.place = r.members[:last], -1
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

// retire ends all subscriptions of s for good: it gets nothing any more. The table
// forgets it in turns.
func (r *router) retire(s *subscriber) {
	if s.retired {
		return
	}
	s.retired = true
	if len(s.at) > 0 {
		r.leaving = append(r.leaving, s)
	}
}

// forgetTurn is how many subscriptions the table forgets in one turn at most.
const forgetTurn = 1024

// forget takes a turn at taking s out of the table; it says whether that is done.
func (r *router) forget(s *subscriber) bool {
	n := r.table.drop(s, forgetTurn)
	r.charge(n)
	return len(s.at) == 0
}

// subscribe adds all topics of a request, or none.
func (r *router) subscribe(m *member, op *op, end uint64) (done bool) {
	room := r.opts.MaxSubscriptions - len(m.subscriber.at)
	for ; !op.fits && len(op.topics)-op.next+op.fresh > room; op.next++ { // else even if none is there
		if r.worked >= end {
			return false
		}
		r.worked++
		if topic := op.topics[op.next]; !r.table.has(&m.subscriber, topic) {
			if op.fresh++; op.fresh > room {
				r.counts.Refused++
				r.reply(m, errorFrame(op.id, refusedTooMany, topic, limitOfTopics(r.opts.MaxSubscriptions).Error()))
				return true
			}
		}
	}
	if !op.fits {
		op.fits, op.next = true, 0
	}
	for ; op.next < len(op.topics); op.next++ {
		if r.worked >= end {
			return false
		}
		r.table.add(&m.subscriber, op.topics[op.next])
		r.charge(1)
	}
	r.answer(m, op)
	return true
}

func (r *router) unsubscribe(m *member, op *op, end uint64) (done bool) {
	for ; op.next < len(op.topics); op.next++ {
		if r.worked >= end {
			return false
		}
		r.table.remove(&m.subscriber, op.topics[op.next])
		r.charge(1)
	}
	r.answer(m, op)
	return true
}

// answer acknowledges a request that wants it.
func (r *router) answer(m *member, op *op) {
	if op.id != "" {
		r.reply(m, ackFrame(op.id))
	}
}

func (r *router) reply(m *member, frame []byte) { r.give(&m.subscriber, frames{frame, 1}) }

// listened adds topics to a listener, a new one or one that is there.
func (r *router) listened(q listening) error {
	sub := q.sub
	if r.draining {
		return ErrHubClosed
	}
	r.spread()
	if sub.subscriber.retired {
		return sub.Err()
	}
	r.listeners[sub] = struct{}{}
	for _, topic := range q.topics {
		r.table.add(&sub.subscriber, topic)
	}
	r.charge(len(q.topics))
	return nil
}

// unlistened ends a listener, also one that was never taken in.
func (r *router) unlistened(sub *Subscription, reason error) {
	r.spread()
	if sub.subscriber.retired {
		return
	}
	r.retire(&sub.subscriber)
	delete(r.listeners, sub)
	sub.queue.flush()
	sub.end(reason)
}

// stop begins a shutdown: nothing new is let in. What was accepted before goes out first.
func (r *router) stop() {
	if r.stopping {
		return
	}
	r.stopping = true
	r.shut()
	drain(&r.gate, r.publish, func(m message) { r.route(&m) })
	for range len(r.inbound) {
		r.arrived(<-r.inbound)
	}
}

// drain goes on with it: each spoke ends behind what is waiting for it.
func (r *router) drain() {
	r.draining = true
	r.flush()
	for _, m := range r.members {
		r.retire(&m.subscriber)
		m.link.out.finish(errShutdown)
	}
	r.endOthers()
}

// end ends all at once.
func (r *router) end() {
	if !r.stopping {
		r.shut()
	}
	r.stopping, r.draining, r.quitting = true, true, true
	for len(r.members) > 0 {
		r.remove(r.members[len(r.members)-1], errShutdown)
	}
	r.endOthers()
}

func (r *router) endOthers() {
	for sub := range r.listeners {
		r.unlistened(sub, ErrHubClosed)
	}
	for len(r.pending) > 0 {
		p := r.pending[0]
		r.promoted(p)
		p.cancel(errShutdown)
	}
}

// reportEvery is how often connections that were turned away are summed up.
const reportEvery = 10 * time.Second

// turnedAway has one line written for a connection that never had a spoke, and one for all
// that follow within reportEvery.
func (r *router) turnedAway(p *peer) {
	if r.report == nil {
		attrs := []any{"addr", p.addr, "err", p.why}
		if p.conn != nil {
			attrs = append(attrs, "node", p.conn.RemoteID())
		}
		r.logs.Add(slog.LevelInfo, "connection turned away", attrs...)
		r.report = time.NewTimer(reportEvery)
		return
	}
	r.away.Add(p.host(), p.why)
}

// reported sums up those that were turned away since the last line.
func (r *router) reported() {
	if r.away.Count == 0 {
		r.report.Stop()
		r.report = nil
		return
	}
	r.logs.Add(slog.LevelInfo, "connections turned away", "count", r.away.Count, "within", reportEvery, "most from", r.away.Most(), "last err", r.away.Last)
	r.away = logging.Tally{}
	r.report.Reset(reportEvery)
}
