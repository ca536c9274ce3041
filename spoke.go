package irohub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"irohub/internal/logging"
	"log/slog"
	"slices"
	"time"
)

// Errors with which a hub refuses a topic, to be tested for with errors.Is.
var (
	ErrForbidden = errors.New("irohub: forbidden")
	ErrTooMany   = errors.New("irohub: too many subscriptions")
)

// SpokeOptions are a Spoke's settings. A field left zero has the default that its
// comment names.
type SpokeOptions struct {
	// Limits.

	MaxFrame int // bytes of one frame, of which 74 of one that is published are left for its From; 0: 1 MiB; at least 4,160, for a hub's answers, and at most 1 GiB
	MaxQueue int // bytes of memory waiting for one Subscription; over it, that ends with CodeSlow; 0: 1 MiB

	// Time.

	HandshakeTimeout time.Duration // in reconnecting: to connect, and then for each answer of the hub's; 0: 10 s
	WriteTimeout     time.Duration // for the transport to take 64 KiB, or the rest at the end; 0: 10 s

	// Reconnecting. When a connection is lost, the Spoke dials again after a
	// pause, which doubles from MinBackoff to MaxBackoff, each time shortened by
	// chance by up to a half. A hub's CodeProtocol or CodeForbidden ends the Spoke
	// instead, and so does CodeTooMany once connected, since that means that a newer
	// spoke of the same NodeID took its place; before, the hub is full, and the pause
	// is MaxBackoff.

	NoReconnect bool          // a lost connection ends the Spoke
	MinBackoff  time.Duration // 0: 250 ms
	MaxBackoff  time.Duration // 0: 30 s

	// Callbacks are called one after the other on a goroutine of the Spoke's own, on which
	// nothing else depends: they may call any method of the Spoke and take as long as they
	// like. When they do not keep up, the oldest calls are left out: of OnRefused beyond 16,
	// and of the other two beyond 8 pairs, so that those take turns all the same, and the
	// last tells how it is.

	OnDisconnect func(error) // a connection was lost, the last one too, but not by Close
	OnReconnect  func()      // there is a new one, and the hub has acknowledged all subscriptions
	OnRefused    func(error) // the hub refused an event that was published; wraps ErrForbidden or ErrInvalid

	Logger *slog.Logger // nil: nothing is logged; where its handler is slow, lines are dropped and counted
}

func (o SpokeOptions) withDefaults() SpokeOptions {
	o.MaxFrame = min(max(cmp.Or(max(o.MaxFrame, 0), maxFrame), minSpokeFrame), maxMaxFrame)
	o.MaxQueue = cmp.Or(max(o.MaxQueue, 0), maxQueue)
	o.HandshakeTimeout = cmp.Or(max(o.HandshakeTimeout, 0), handshakeTimeout)
	o.WriteTimeout = cmp.Or(max(o.WriteTimeout, 0), writeTimeout)
	o.MinBackoff = cmp.Or(max(o.MinBackoff, 0), 250*time.Millisecond)
	o.MaxBackoff = max(o.MinBackoff, cmp.Or(max(o.MaxBackoff, 0), 30*time.Second))
	return o
}

// minSpokeFrame is the least that a Spoke's MaxFrame is: an answer, and the id of a request.
const minSpokeFrame = maxAnswer + 64

// A Spoke is a connection to a hub that comes back by itself. Its methods may be
// called from any goroutine.
type Spoke struct {
	// Immutable.
	endpoint Endpoint
	addr     Addr
	opts     SpokeOptions
	inbox    *spokeInbox
	logs     *logging.Log
}

// Dial connects to the hub at addr and returns once the hub has taken the Spoke in:
// an error that wraps a *[CloseError] with [CodeForbidden] if it has not, or [ErrInvalid]
// if addr has no NodeID, or if there is no endpoint. ctx bounds the call alone. The endpoint stays the caller's to
// close, after the Spoke.
func Dial(ctx context.Context, endpoint Endpoint, addr Addr, opts SpokeOptions) (*Spoke, error) {
	if isNil(endpoint) {
		return nil, fmt.Errorf("%w endpoint: it is nil", ErrInvalid)
	}
	if addr.ID == (NodeID{}) {
		return nil, fmt.Errorf("%w address %q: it names no node", ErrInvalid, addr)
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &Spoke{
		endpoint: endpoint,
		addr:     addr,
		opts:     opts.withDefaults(),
		inbox:    newSpokeInbox(),
		logs:     logging.New(opts.Logger),
	}
	// The router's goroutine: ended by Close or by the keeper, and waited for by
	// whoever waits for its done.
	go newSpokeRouter(s.inbox, s.opts.HandshakeTimeout, cancel).loop()
	l, err := s.connect(ctx, base, 0)
	if err != nil {
		send(s.inbox, s.inbox.failed, err)
		return nil, fmt.Errorf("irohub: dialing %s: %w", addr, err)
	}
	// The keeper's goroutine: ended by the router's end, or by an end that no
	// reconnecting mends, which it tells the router.
	go s.keep(base, l)
	// The notifier's goroutine: ended by the router's end and the last callback's, for which
	// nobody waits.
	go s.notify()
	return s, nil
}

// Publish hands an event to the hub, which gives it to its own listeners and, where its
// policy is to forward it, to other spokes, but not to this one. It returns as soon as
// the event is queued for writing; it waits while the queue is full, and so while the
// Spoke is disconnected. Events that were on their way when a connection was lost are
// lost. When ctx has ended, Publish publishes nothing. An event that is not allowed gets an
// error that wraps [ErrInvalid]; after the end of the Spoke, every one gets what ended it.
func (s *Spoke) Publish(ctx context.Context, ev Event) error {
	r, err := ev.encode(s.opts.MaxFrame - fromOverhead)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return s.write(ctx, r.frames)
}

// write queues a frame behind those that were published before.
func (s *Spoke) write(ctx context.Context, f frames) error {
	in := s.inbox
	if !in.enter() {
		return in.cause
	}
	defer in.leave()
	select {
	case in.published <- f: // most often there is room, and this is cheaper than the select below
	default:
		select {
		case in.published <- f:
		case <-in.closing:
			return in.cause
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	in.count.Add(int64(f.count)) // not before: Flush is to answer for no more than is ahead of it
	return nil
}

// Flush waits until the hub has worked through all that was published before, and returns
// nil if it took all of it since the last Flush; else the first refusal, which wraps
// [ErrForbidden] or [ErrInvalid], or an error that says that a connection was lost: then it
// is not known what the hub got.
func (s *Spoke) Flush(ctx context.Context) error {
	frame, reply, gone := make(chan frames, 1), make(chan error, 1), make(chan struct{})
	defer close(gone)
	if !send(s.inbox, s.inbox.flush, flushing{frame: frame, reply: reply, gone: gone}) {
		return s.inbox.cause
	}
	select {
	case f := <-frame:
		if err := s.write(ctx, f); err != nil {
			return err
		}
	case err := <-reply:
		return err
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Subscribe listens to one topic or several, which may be patterns T:*, and returns once
// the hub has acknowledged all of them: what it publishes from then on comes. It waits
// while the Spoke is disconnected. The hub's refusal is an error that wraps
// [ErrForbidden], [ErrTooMany] or [ErrInvalid]. When ctx ends first, nothing stays
// subscribed.
func (s *Spoke) Subscribe(ctx context.Context, topics ...string) (*Subscription, error) {
	if len(topics) == 0 {
		return nil, fmt.Errorf("%w: a spoke subscribes to at least one topic", ErrInvalid)
	}
	for _, topic := range topics {
		if err := validTopic(topic); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	sub := newSubscription(topics, s.opts.MaxQueue, s.inbox.unlisten, s.inbox.done)
	q := request[*Subscription]{sub, make(chan error, 1)}
	if !send(s.inbox, s.inbox.listen, q) {
		return nil, s.inbox.cause
	}
	select {
	case err := <-q.reply:
		if err != nil {
			return nil, err
		}
		return sub, nil
	case <-ctx.Done():
		sub.Close()
		return nil, ctx.Err()
	}
}

// Close ends the Spoke on purpose: it writes what Publish has queued, waits until the
// hub has acknowledged it, and closes the connection. It returns an error if that
// failed, if a connection was missing for it, or if one was lost before with what may have been
// on its way, and Flush has not told of that. It gives up after the WriteTimeout
// without progress. Later calls return what the first did.
func (s *Spoke) Close() error {
	send(s.inbox, s.inbox.close, struct{}{})
	<-s.inbox.done
	return s.inbox.err
}

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
		s.logs.Add(slog.LevelWarn, "callbacks do not keep up: calls were left out", "hub", s.addr.ID, "calls", n.missed)
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
		s.logs.Add(slog.LevelWarn, "event refused", "hub", s.addr.ID, "err", n.err)
		if s.opts.OnRefused != nil {
			s.call("OnRefused", func() { s.opts.OnRefused(n.err) })
		}
	}
}

func (s *Spoke) call(name string, f func()) {
	s.logs.Guard(name, func() error { f(); return nil })
}
