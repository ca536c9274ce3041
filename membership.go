package irohub

import (
	"log/slog"
	"slices"
	"time"

	"irohub/internal/logging"
)

// This file is how the hub's router adds and removes connections, spokes, listeners and
// their subscriptions. A connection is pending, has spokes, or is closing. A subscriber in the
// table is a member, a listener, or one that has retired and is being removed.

var errReplaced = &CloseError{Code: CodeTooMany, Reason: "replaced by a newer spoke of the same node"}

// begun adds a new connection to the pending ones. If there are MaxPending already, it evicts
// the oldest: a good peer is pending for a few round trips only, while one that stalls would
// stay for the whole timeout.
func (r *router) begun(p *peer) {
	if r.draining {
		p.cancel(errShutdown)
		return
	}
	if len(r.pending) >= r.opts.MaxPending {
		r.counts.Rejected++
		if n := r.evicting.Due(); n > 0 {
			r.logs.Add(slog.LevelWarn, "too many connections without a spoke: the oldest are closed", "evicted", n, "limit", r.opts.MaxPending, "newest", p.addr)
		}
		oldest := r.pending[0]
		r.promoted(oldest)
		oldest.cancel(&CloseError{Code: CodeTooMany, Reason: "too many connections without a spoke"})
	}
	r.lastPeer++
	p.number, p.pending = r.lastPeer, true
	r.pending = append(r.pending, p)
}

// promoted removes a connection from the pending ones.
func (r *router) promoted(p *peer) {
	if p.pending {
		p.pending = false
		i := slices.Index(r.pending, p)
		r.pending = slices.Delete(r.pending, i, i+1)
	}
}

// settled handles the end of a connection and all its streams.
func (r *router) settled(p *peer) {
	r.promoted(p)
	if !p.served {
		r.turnedAway(p)
	}
}

// joined makes a stream a spoke, unless its connection has ended or a limit is reached.
func (r *router) joined(m *member) error {
	p := m.peer
	switch {
	case r.draining:
		return errShutdown
	case m.link.ctx.Err() != nil:
		return m.link.err() // the router may have received its leave already
	case !p.pending && p.spokes.Load() == 0:
		return errGone
	}
	// The spoke of the node's oldest connection makes room. That may be m itself: if a node has
	// given up a connection and made a new one, a late join over the old one must not end the
	// new one.
	same := r.byNode[m.id]
	if len(same) >= r.opts.MaxSpokesPerNode {
		if p.number < same[0].peer.number {
			r.counts.Rejected++
			return errReplaced
		}
		r.remove(same[0], errReplaced)
	}
	if len(r.members) >= r.opts.MaxSpokes {
		// The connection stays pending, so its timer closes it.
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

// left handles the end of a stream. A connection ends with its last spoke, even if it has
// other streams, which are not spokes.
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

// undelivered counts what a shutdown could not deliver to a spoke. A spoke that closed normally
// and had no events queued has lost nothing.
func (r *router) undelivered(m *member) {
	_, events := m.link.out.waiting()
	if end := closeError(m.link.err()); events == 0 && end != nil && end.Code == 0 {
		return
	}
	r.lost.spokes++
	r.lost.events += events
}

// remove removes a spoke from the router. With a reason, it also ends the spoke's link. It does
// nothing if the spoke is already gone. Spokes are compared by identity and not by NodeID, so
// that the end of an old connection does not affect a newer one of the same node.
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

// retire ends all subscriptions of s for good. From now on s gets no events. The table removes
// its entries in turns.
func (r *router) retire(s *subscriber) {
	if s.retired {
		return
	}
	s.retired = true
	if len(s.at) > 0 {
		r.leaving = append(r.leaving, s)
	}
}

// forgetTurn is how many subscriptions the table removes in one turn, at most.
const forgetTurn = 1024

// forget removes up to forgetTurn subscriptions of s from the table. It reports whether that
// was all.
func (r *router) forget(s *subscriber) bool {
	n := r.table.drop(s, forgetTurn)
	r.charge(n)
	return len(s.at) == 0
}

// subscribe adds all topics of a request or none. It reports whether the request is complete
// before the turn's end.
func (r *router) subscribe(m *member, op *op, end uint64) (done bool) {
	room := r.opts.MaxSubscriptions - len(m.subscriber.at)
	// The loop ends early once all remaining topics fit even if all are new.
	for ; !op.fits && len(op.topics)-op.next+op.fresh > room; op.next++ {
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

// answer acknowledges a request that has an id.
func (r *router) answer(m *member, op *op) {
	if op.id != "" {
		r.reply(m, ackFrame(op.id))
	}
}

func (r *router) reply(m *member, frame []byte) { r.give(&m.subscriber, frames{frame, 1}) }

// listened adds topics to a listener, which may be new.
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

// unlistened ends a listener, even one that was never added.
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

// stop begins a shutdown: Publish and Subscribe are refused from now on, and what was accepted
// before is routed. Connections and spokes still come in until drain.
func (r *router) stop() {
	if r.stopping {
		return
	}
	r.stopping = true
	r.shut(ErrHubClosed)
	drain(&r.gate, r.publish, func(m message) { r.route(&m) })
	for range len(r.inbound) {
		r.arrived(<-r.inbound)
	}
}

// drain continues a shutdown: each spoke ends after its queue is written.
func (r *router) drain() {
	r.draining = true
	r.flush()
	for _, m := range r.members {
		r.retire(&m.subscriber)
		m.link.out.finish(errShutdown)
	}
	r.endOthers()
}

// end ends everything at once.
func (r *router) end() {
	if !r.stopping {
		r.shut(ErrHubClosed)
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

// reportEvery is the interval of the log lines that sum up rejected connections.
const reportEvery = 10 * time.Second

// turnedAway logs a connection that never had a spoke. The first one gets a line of its own.
// Those that follow within reportEvery share one.
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

// reported logs one line about the connections that were turned away since the last line.
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
