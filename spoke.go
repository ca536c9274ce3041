package irohub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"irohub/internal/logging"
)

// Errors with which a hub refuses a topic or an event. Test for them with errors.Is. They end
// nothing: a connection or spoke over another limit is closed with CodeTooMany.
var (
	ErrForbidden = errors.New("irohub: forbidden")
	ErrTooMany   = errors.New("irohub: too many subscriptions")
)

// SpokeOptions are a Spoke's settings. A field that is zero or negative has the default in
// its comment.
type SpokeOptions struct {
	// Limits.

	// MaxFrame is the size limit of one frame in bytes, from 4,160, which a hub's answers
	// need, to 1 GiB. A published frame has at most MaxFrame-74 bytes, so that the hub can add
	// From. 0: 1 MiB.
	MaxFrame int

	// MaxQueue is how many bytes of memory may be queued for one Subscription. One that
	// exceeds it ends with CodeSlow. 0: 1 MiB.
	MaxQueue int

	// Timeouts.

	// HandshakeTimeout limits, in a reconnect, the time to connect and then the wait for each
	// answer of the hub. 0: 10 s.
	HandshakeTimeout time.Duration

	// WriteTimeout limits the time in which the transport takes 64 KiB, or the remainder at
	// the end. 0: 10 s.
	WriteTimeout time.Duration

	// Reconnecting. When a connection is lost, the Spoke dials again after a pause. The pause
	// doubles from MinBackoff to MaxBackoff. Each time, it is shortened by a random part of up
	// to a half.
	//
	// CodeProtocol or CodeForbidden from the hub ends the Spoke instead. CodeTooMany ends a
	// connected Spoke too: a newer spoke of the same NodeID has replaced it. While the Spoke
	// connects, CodeTooMany means that the hub is full, and the pause is MaxBackoff.

	NoReconnect bool          // a lost connection ends the Spoke
	MinBackoff  time.Duration // 0: 250 ms
	MaxBackoff  time.Duration // 0: 30 s

	// Callbacks are called one after the other on a goroutine of their own. They may call any
	// method of the Spoke and take any time: nothing else waits for them. If they do not keep
	// up, the oldest calls are dropped. Up to 16 calls of OnRefused wait, and up to 16 of the
	// other two. OnDisconnect and OnReconnect are dropped in pairs, so that they still
	// alternate, and the last call tells the current state.

	OnDisconnect func(error) // a connection was lost; also called for the last one, but not for Close
	OnReconnect  func()      // a new connection is open, and the hub has acknowledged all subscriptions
	OnRefused    func(error) // the hub refused a published event; wraps ErrForbidden or ErrInvalid

	// Logger gets a line for each disconnect, failed attempt (debug level), reconnect and
	// refused event. Lines that come too fast for its handler are dropped, and the next line
	// says how many. Nil: no log.
	Logger *slog.Logger
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

// minSpokeFrame is the minimum of a Spoke's MaxFrame: an answer with the id of a request.
const minSpokeFrame = maxAnswer + 64

// A Spoke is a connection to a hub that reconnects by itself. Its methods may be
// called from any goroutine.
type Spoke struct {
	// Immutable.
	endpoint Endpoint
	addr     Addr
	opts     SpokeOptions
	inbox    *spokeInbox
	logs     *logging.Log
}

// Dial connects to the hub at addr and returns once the hub has accepted the Spoke. If the hub
// does not admit the node, the error wraps a *[CloseError] with [CodeForbidden]. If addr has
// no NodeID or endpoint is nil, the error wraps [ErrInvalid]. ctx bounds the call, not the
// Spoke. The caller closes the endpoint, after the Spoke.
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
	// The router's goroutine. Close, the keeper or a failed Dial ends it. Close waits for its
	// done channel.
	go newSpokeRouter(s.inbox, s.opts.HandshakeTimeout, cancel).loop()
	l, err := s.connect(ctx, base, 0)
	if err != nil {
		send(s.inbox, s.inbox.failed, err)
		return nil, fmt.Errorf("irohub: dialing %s: %w", addr, err)
	}
	// The keeper's goroutine. It ends once the Spoke is closed or has ended, and has no link. It
	// also ends when it does not dial again: with NoReconnect, or after an error that makes it
	// useless. It reports that error to the router. Nobody waits for it.
	go s.keep(base, l)
	// The notifier's goroutine. It ends after the router and after the last callback. Nobody
	// waits for it.
	go s.notify()
	return s, nil
}

// Publish sends an event to the hub. The hub gives it to its own Subscriptions and, if
// HubOptions.Forward says so, to other spokes, but never to this one. Publish waits while the
// queue is full, so it may block while the Spoke is disconnected. It returns once the event is
// queued. Events in transit are lost when a connection is lost.
//
// If ctx has ended, Publish publishes nothing. For an event that the protocol does not allow,
// it returns an error that wraps [ErrInvalid]. After the end of the Spoke, it returns the
// error that ended the Spoke.
func (s *Spoke) Publish(ctx context.Context, ev Event) error {
	r, err := ev.encode(s.opts.MaxFrame - fromOverhead)
	if err != nil {
		return err
	}
	return s.write(ctx, r.frames)
}

// write queues a frame behind those published before.
func (s *Spoke) write(ctx context.Context, f frames) error {
	err := pass(ctx, &s.inbox.gate, s.inbox.published, f)
	if err == nil {
		s.inbox.count.Add(int64(f.count)) // only now: a Flush must count only the events queued ahead of it
	}
	return err
}

// Flush waits until the hub has processed all events published before. It returns nil if the
// hub accepted every event since the last Flush. Otherwise it returns the first failure since
// then. A refusal wraps [ErrForbidden] or [ErrInvalid]. Another error says that a connection
// was lost; then it is unknown which events the hub got. ctx bounds the call.
func (s *Spoke) Flush(ctx context.Context) error {
	frame, reply := make(chan frames, 1), make(chan error, 1)
	q := flushing{frame: frame, reply: reply, taken: new(atomic.Bool)}
	if !send(s.inbox, s.inbox.flush, q) {
		return s.inbox.cause
	}
	giveUp := func(err error) error {
		if !q.take() {
			return <-reply // the router has just answered, and tells nobody else
		}
		return err
	}
	select {
	case f := <-frame:
		if err := s.write(ctx, f); err != nil {
			return giveUp(err)
		}
	case err := <-reply:
		return err
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return giveUp(ctx.Err())
	}
}

// Subscribe listens to one or more topics or patterns T:*. It returns once the hub has
// acknowledged all of them. The Subscription gets every event that the hub passes on from
// then on. Subscribe waits while the Spoke is disconnected. If the hub refuses a topic, the
// error wraps [ErrForbidden], [ErrTooMany] or [ErrInvalid]. If ctx ends first, nothing is
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

// Close closes the Spoke gracefully. It writes the events that Publish has queued, waits until
// the hub has processed them and has ended its half of the stream, and closes the connection.
// It gives up if a write makes no progress for the WriteTimeout, or if the hub has not ended
// its half within the WriteTimeout after the last write.
//
// Close returns an error if events may be lost: because closing failed, because events are
// queued but the Spoke is not connected, or because an earlier connection was lost with events
// in transit and no Flush has reported that. Further calls return the same error.
func (s *Spoke) Close() error {
	send(s.inbox, s.inbox.close, struct{}{})
	<-s.inbox.done
	return s.inbox.err
}

// A notification is a callback to be made. The router keeps a bounded list of notifications,
// and the notifier takes them one by one. So a slow callback does not block the goroutines
// that dial, read or write.
type notification struct {
	kind   notificationKind
	err    error
	missed int // notifications of its kind that were dropped before it
}

type notificationKind uint8

const (
	disconnected notificationKind = iota // disconnected and reconnected alternate
	reconnected
	eventRefused
)

// maxNotifications is how many notifications of one kind may wait. disconnected and reconnected
// count as one kind. They are dropped in pairs, so that they still alternate and the last one
// tells the current state.
const maxNotifications = 16

// notifications are the notifications that wait for the notifier, in order.
type notifications struct{ waiting []notification }

// add appends a notification. If there are too many of its kind, it drops the oldest of them.
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

// first returns the first notification and the channel to send it on. The channel is nil if
// there is no notification.
func (q *notifications) first(to chan<- notification) (notification, chan<- notification) {
	if len(q.waiting) == 0 {
		return notification{}, nil
	}
	return q.waiting[0], to
}

// next removes the first notification, after it was sent.
func (q *notifications) next() { q.waiting = slices.Delete(q.waiting, 0, 1) }

// notify is the notifier's goroutine. It makes the callbacks, and nothing else waits for it.
// It ends after the router and after the last callback.
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
		s.logs.Add(slog.LevelWarn, "callbacks do not keep up: calls were dropped", "hub", s.addr.ID, "calls", n.missed)
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
