package irohub

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// This file checks the invariants of a router at the end of a round. Only tests and the
// simulation (internal/simulation) enable the checks.

// maxChanges is how many table changes a round may have: the work of a round, and the
// subscriptions that one turn of forget removes. Everything that waits for the round's end
// waits for them.
const maxChanges = roundSize/changeWork + forgetTurn

// invariants returns an error if an invariant of a hub's router does not hold.
func (r *router) invariants() error {
	leaving := make(map[*subscriber]bool, len(r.leaving))
	for _, sub := range r.leaving {
		if leaving[sub] || !sub.retired {
			return fmt.Errorf("a subscriber is in leaving twice, or has not retired (retired: %t)", sub.retired)
		}
		leaving[sub] = true
	}
	isHere := func(s *subscriber) bool {
		if s.retired {
			return leaving[s]
		}
		if s.link != nil {
			return s.place >= 0 && s.place < len(r.members) && s == &r.members[s.place].subscriber
		}
		_, ok := r.listeners[s.listener]
		return ok && s == &s.listener.subscriber
	}
	return errors.Join(r.tableHolds(isHere), r.membersHold(), r.pendingHolds(), r.roundHolds())
}

func (r *router) isMember(m *member) bool {
	return m.place >= 0 && m.place < len(r.members) && r.members[m.place] == m
}

// tableHolds checks the table from topics to subscribers and back.
func (f *fanout) tableHolds(isHere func(*subscriber) bool) error {
	t := &f.table
	if len(t.list) != len(t.exact)+len(t.types) {
		return fmt.Errorf("the table lists %d topics, and its maps have %d", len(t.list), len(t.exact)+len(t.types))
	}
	for i, top := range t.list {
		if top.place != i || t.find(top.name) != top || len(top.subs) == 0 {
			return fmt.Errorf("topic %q has index %d in the table's list, its place is %d, and it has %d subscribers", top.name, i, top.place, len(top.subs))
		}
	}
	stands := make(map[*subscriber]int)
	for _, top := range append(slices.Clone(t.list), &t.all) {
		for i, sub := range top.subs {
			if (sub.link == nil) == (sub.listener == nil) {
				return fmt.Errorf("topic %q: subscriber %d is neither a spoke nor a listener, or both", top.name, i)
			}
			if !isHere(sub) {
				return fmt.Errorf("topic %q has a subscriber that is gone (spoke: %t)", top.name, sub.link != nil)
			}
			if at, ok := sub.at[top]; !ok || at != i {
				return fmt.Errorf("topic %q: subscriber %d has noted index %d (found: %t)", top.name, i, at, ok)
			}
			stands[sub]++
		}
	}
	for sub, n := range stands {
		if n != len(sub.at) {
			return fmt.Errorf("a subscriber is in the lists of %d topics and has noted %d", n, len(sub.at))
		}
	}
	return nil
}

func (r *router) membersHold() error {
	if len(r.members) > r.opts.MaxSpokes {
		return fmt.Errorf("%d spokes, the limit is %d", len(r.members), r.opts.MaxSpokes)
	}
	listed := 0
	for id, same := range r.byNode {
		listed += len(same)
		if len(same) == 0 || len(same) > r.opts.MaxSpokesPerNode {
			return fmt.Errorf("%d spokes of one node, the limit is %d", len(same), r.opts.MaxSpokesPerNode)
		}
		for i, m := range same {
			if !r.isMember(m) || m.id != id {
				return errors.New("a node's list has a spoke that is gone or that is another node's")
			}
			if i > 0 && same[i-1].peer.number > m.peer.number {
				return errors.New("a node's spokes are not ordered by the age of their connections")
			}
		}
	}
	if listed != len(r.members) {
		return fmt.Errorf("there are %d spokes, but the nodes' lists have %d", len(r.members), listed)
	}
	spokes := make(map[*peer]int)
	for i, m := range r.members {
		spokes[m.peer]++
		switch {
		case m.place != i:
			return fmt.Errorf("spoke %d has index %d, but its place is %d", m.number, i, m.place)
		case m.expelled || m.cut.Number != 0:
			return fmt.Errorf("spoke %d was expelled or cut off, but is still in the list", m.number)
		case len(m.subscriber.at) > r.opts.MaxSubscriptions:
			return fmt.Errorf("a spoke has %d topics, the limit is %d", len(m.subscriber.at), r.opts.MaxSubscriptions)
		}
		if err := queueHolds(&m.link.out, &r.fanout, &m.subscriber, r.opts.MaxFrame); err != nil {
			return fmt.Errorf("spoke %d: %w", m.number, err)
		}
	}
	for p, n := range spokes {
		if int(p.spokes.Load()) < n || p.pending {
			return fmt.Errorf("a connection with %d spokes counts %d (pending: %t)", n, p.spokes.Load(), p.pending)
		}
	}
	for sub := range r.listeners {
		if sub.subscriber.retired {
			return errors.New("a listener has retired, but is still in the map")
		}
		if err := queueHolds(&sub.queue, &r.fanout, &sub.subscriber, r.opts.MaxFrame); err != nil {
			return fmt.Errorf("a listener: %w", err)
		}
	}
	return nil
}

func (r *router) pendingHolds() error {
	if n := len(r.pending); n > r.opts.MaxPending {
		return fmt.Errorf("%d connections are pending, the limit is %d", n, r.opts.MaxPending)
	}
	seen := make(map[*peer]bool)
	for _, p := range r.pending {
		if seen[p] || p.spokes.Load() != 0 || !p.pending {
			return fmt.Errorf("a connection is in pending twice, or has spokes (%d), or is not marked as pending (pending: %t)", p.spokes.Load(), p.pending)
		}
		seen[p] = true
	}
	return nil
}

func (r *router) roundHolds() error {
	if len(r.run) > 0 || len(r.fanout.full) > 0 {
		return fmt.Errorf("a round ends with %d events to spread and %d subscribers to cut off", len(r.run), len(r.fanout.full))
	}
	if most := roundBytes + r.opts.MaxFrame + fromOverhead + headerSize; r.bytes > most {
		return fmt.Errorf("a round has %d bytes of events, the limit is %d", r.bytes, most)
	}
	if r.changes > maxChanges {
		return fmt.Errorf("a round has %d table changes, the limit is %d", r.changes, maxChanges)
	}
	return nil
}

// queueHolds checks an outbox: it is within its limit, and the round's flush will hand over
// what is gathered.
func queueHolds[T any](o *outbox[T], f *fanout, sub *subscriber, maxFrame int) error {
	bytes, events := o.waiting()
	if bytes < 0 || events < 0 {
		return fmt.Errorf("%d bytes and %d events are waiting", bytes, events)
	}
	if most := max(int(min(o.limit, math.MaxInt)), maxFrame+maxFrame/8+1024); bytes > most {
		return fmt.Errorf("%d bytes are waiting, the limit is %d", bytes, most)
	}
	if o.next != nil && len(o.next.items) > 0 && !slices.Contains(f.dirty, sub) {
		return errors.New("items are gathered, but the subscriber is not marked for the flush")
	}
	return nil
}

// invariants returns an error if an invariant of a spoke's router does not hold.
func (r *spokeRouter) invariants() error {
	isHere := func(s *subscriber) bool {
		_, ok := r.listeners[s.listener]
		return ok && s == &s.listener.subscriber
	}
	return errors.Join(r.tableHolds(isHere), r.interestsHold(), r.requestsHold())
}

func (r *spokeRouter) interestsHold() error {
	begun := r.on != nil && r.on.begun
	waiting := make(map[*Subscription]int)
	for topic, in := range r.interests {
		if len(in.waiting) == 0 && r.table.find(topic) == nil {
			return fmt.Errorf("topic %q is an interest without a subscription", topic)
		}
		if begun && r.on.acked(topic) && len(in.waiting) > 0 {
			return fmt.Errorf("topic %q is acknowledged, but %d subscriptions wait for it", topic, len(in.waiting))
		}
		for _, sub := range in.waiting {
			if _, ok := r.listeners[sub]; !ok {
				return fmt.Errorf("topic %q: a subscription that is gone waits for it", topic)
			}
			waiting[sub]++
		}
	}
	for sub, c := range r.listeners {
		if c.missing != waiting[sub] || c.missing == 0 && c.reply != nil {
			return fmt.Errorf("a subscription misses %d topics, but waits for %d (answered: %t)", c.missing, waiting[sub], c.reply == nil)
		}
		if err := queueHolds(&sub.queue, &r.fanout, &sub.subscriber, maxFrame); err != nil {
			return fmt.Errorf("a listener: %w", err)
		}
	}
	return nil
}

// requestsHold checks the requests to the hub over the current link.
func (r *spokeRouter) requestsHold() error {
	if r.on == nil {
		return nil
	}
	a := r.on
	if a.todo.Len() != len(a.place) {
		return fmt.Errorf("todo has %d topics, and place has %d", a.todo.Len(), len(a.place))
	}
	if len(a.askings) > maxRequests+1 { // and the greeting
		return fmt.Errorf("%d requests wait for an answer, the limit is %d besides the greeting", len(a.askings), maxRequests)
	}
	for topic := range r.interests {
		_, asked := a.asked[topic]
		if _, queued := a.place[topic]; asked == queued {
			return fmt.Errorf("topic %q must be either requested (%t) or queued (%t)", topic, asked, queued)
		}
	}
	for topic, q := range a.asked {
		if r.interests[topic] == nil {
			return fmt.Errorf("topic %q was requested without a subscription", topic)
		}
		if q != nil && !slices.Contains(slices.Collect(maps.Values(a.askings)), q) {
			return fmt.Errorf("topic %q waits for a request that is not outstanding", topic)
		}
	}
	if a.begun != isClosed(a.link.ready) {
		return fmt.Errorf("a link has begun (%t), but is ready (%t)", a.begun, !a.begun)
	}
	return nil
}
