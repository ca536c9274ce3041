package irohub

import "slices"

// A notice is what the application is to be told of, by a callback or a line of its log.
// Whatever it does then, no goroutine that dials, reads or writes is held up: the router has
// a bounded list of notices, and the notifier takes them one by one.
type notice struct {
	kind   noticeKind
	err    error
	missed int // others of its kind that were dropped before it
}

type noticeKind uint8

const (
	disconnected noticeKind = iota // this and the next take turns
	reconnected
	dialFailed
	eventRefused
)

// maxNotices is how many of a kind wait. Of connections there is an even number, since those
// are dropped by twos: what is told takes turns all the same, and the last is how it is.
const maxNotices = 16

// notices are those that wait for the notifier, in order.
type notices struct{ waiting []notice }

// add puts one behind the others. Where that is too many of a kind, the oldest are dropped, and
// of failures to dial all but the last.
func (q *notices) add(n notice) {
	most, drop := maxNotices, 1
	switch n.kind {
	case disconnected, reconnected:
		drop = 2
	case dialFailed:
		most = 1
	}
	q.waiting = append(q.waiting, n)
	var alike []int
	for i := range q.waiting {
		if q.waiting[i].like(n) {
			alike = append(alike, i)
		}
	}
	if len(alike) <= most {
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

func (n *notice) like(other notice) bool {
	return n.kind == other.kind || n.kind <= reconnected && other.kind <= reconnected
}

// first returns the first, and where it can be sent: nil, if there is none.
func (q *notices) first(to chan<- notice) (notice, chan<- notice) {
	if len(q.waiting) == 0 {
		return notice{}, nil
	}
	return q.waiting[0], to
}

// next says that the first was taken.
func (q *notices) next() { q.waiting = slices.Delete(q.waiting, 0, 1) }

// notify is the notifier's goroutine: it calls the application and its Logger, and nothing
// else waits for it. It ends behind the router, with the last call.
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

func (s *Spoke) tell(n notice) {
	log := s.opts.Logger.With("hub", s.addr.ID)
	if n.missed > 0 {
		log = log.With("missed", n.missed)
	}
	switch n.kind {
	case disconnected:
		log.Info("disconnected", "err", n.err)
		if s.opts.OnDisconnect != nil {
			s.call("OnDisconnect", func() { s.opts.OnDisconnect(n.err) })
		}
	case reconnected:
		log.Info("reconnected")
		if s.opts.OnReconnect != nil {
			s.call("OnReconnect", s.opts.OnReconnect)
		}
	case dialFailed:
		log.Debug("dialing failed", "err", n.err)
	case eventRefused:
		log.Warn("event refused", "err", n.err)
		if s.opts.OnRefused != nil {
			s.call("OnRefused", func() { s.opts.OnRefused(n.err) })
		}
	}
}

func (s *Spoke) call(name string, f func()) {
	guard(s.opts.Logger, name, func() error { f(); return nil })
}
