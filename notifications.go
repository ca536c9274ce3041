package irohub

import (
	"log/slog"
	"slices"
)

// A notification is what the application is to be told of by a callback. Whatever that does,
// no goroutine that dials, reads or writes is held up: the router has a bounded list of
// notifications, and the notifier takes them one by one.
type notification struct {
	kind   notificationKind
	err    error
	missed int // others of its kind that were dropped before it
}

type notificationKind uint8

const (
	disconnected notificationKind = iota // this and the next take turns
	reconnected
	eventRefused
)

// maxNotifications is how many of a kind wait. Of connections there is an even number, since those
// are dropped by twos: what is told takes turns all the same, and the last is how it is.
const maxNotifications = 16

// notifications are those that wait for the notifier, in order.
type notifications struct{ waiting []notification }

// add puts one behind the others. Where that is too many of a kind, the oldest are dropped.
func (q *notifications) add(n notification) {
	drop := 1
	if n.kind != eventRefused {
		drop = 2
	}
	q.waiting = append(q.waiting, n)
	var alike []int
	for i := range q.waiting {
		if q.waiting[i].like(n) {
			alike = append(alike, i)
		}
	}
	if len(alike) <= maxNotifications {
		return
	}
	heir := &q.waiting[alike[drop]]
	for _, i := range alike[:drop] {
		heir.missed += 1 + q.waiting[i].missed
	}
	for _, i := range slices.Backward(alike[:drop]) {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
}

func (n *notification) like(other notification) bool {
	return (n.kind == eventRefused) == (other.kind == eventRefused)
}

// first returns the first, and where it can be sent: nil, if there is none.
func (q *notifications) first(to chan<- notification) (notification, chan<- notification) {
	if len(q.waiting) == 0 {
		return notification{}, nil
	}
	return q.waiting[0], to
}

// next says that the first was taken.
func (q *notifications) next() { q.waiting = slices.Delete(q.waiting, 0, 1) }

// notify is the notifier's goroutine: it calls the application, and nothing else waits for
// it. It ends behind the router, with the last call.
func (s *Spoke) notify() {
	for {
		select {
		case n := <-s.inbox.notify:
			s.tell(n)
		case <-s.inbox.done:
			for _, n := range s.inbox.untold {
				s.tell(n)
			}
			return
		}
	}
}

func (s *Spoke) tell(n notification) {
	if n.missed > 0 {
		s.logs.add(slog.LevelWarn, "callbacks do not keep up: calls were left out", "hub", s.addr.ID, "calls", n.missed)
	}
	switch n.kind {
	case disconnected:
		if s.opts.OnDisconnect != nil {
			s.call("OnDisconnect", func() { s.opts.OnDisconnect(n.err) })
		}
	case reconnected:
		if s.opts.OnReconnect != nil {
			s.call("OnReconnect", s.opts.OnReconnect)
		}
	case eventRefused:
		s.logs.add(slog.LevelWarn, "event refused", "hub", s.addr.ID, "err", n.err)
		if s.opts.OnRefused != nil {
			s.call("OnRefused", func() { s.opts.OnRefused(n.err) })
		}
	}
}

func (s *Spoke) call(name string, f func()) {
	s.logs.guard(name, func() error { f(); return nil })
}
