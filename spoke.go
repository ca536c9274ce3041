package irohub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
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

	MaxFrame int // bytes of one frame, of which 74 of one that is published are left for its From; 0: 1 MiB
	MaxQueue int // bytes waiting for one Subscription; over it, that ends with CodeSlow; 0: 1 MiB

	// Time.

	HandshakeTimeout time.Duration // for each attempt to reconnect; 0: 10 s
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

	// Callbacks are called one after the other on a goroutine of the Spoke's own,
	// which also dials: one that blocks delays the next attempt, and nothing else.
	// They may call any method of the Spoke.

	OnDisconnect func(error) // a connection was lost, the last one too, but not by Close
	OnReconnect  func()      // there is a new one, and the hub has acknowledged all subscriptions
	OnRefused    func(error) // the hub refused an event that was published; wraps ErrForbidden or ErrInvalid

	Logger *slog.Logger // nil: nothing is logged
}

func (o SpokeOptions) withDefaults() SpokeOptions {
	o.MaxFrame = cmp.Or(max(o.MaxFrame, 0), maxFrame)
	o.MaxQueue = cmp.Or(max(o.MaxQueue, 0), maxQueue)
	o.HandshakeTimeout = cmp.Or(max(o.HandshakeTimeout, 0), handshakeTimeout)
	o.WriteTimeout = cmp.Or(max(o.WriteTimeout, 0), writeTimeout)
	o.MinBackoff = cmp.Or(max(o.MinBackoff, 0), 250*time.Millisecond)
	o.MaxBackoff = max(o.MinBackoff, cmp.Or(max(o.MaxBackoff, 0), 30*time.Second))
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// A Spoke is a connection to a hub that comes back by itself. Its methods may be
// called from any goroutine.
type Spoke struct {
	// Immutable.
	endpoint Endpoint
	addr     Addr
	opts     SpokeOptions
	inbox    *spokeInbox

	// published: frames from Publish to the writer of whichever link there is.
	// Buffered, so that a write carries several; never closed.
	published chan []byte
}

// publishBuffer is how many events Publish may be ahead of the network.
const publishBuffer = 64

// Dial connects to the hub at addr and returns once the hub has taken the Spoke in:
// an error that wraps a *[CloseError] with [CodeForbidden] if it has not, or [ErrInvalid]
// if addr has no NodeID. ctx bounds the call alone. The endpoint stays the caller's to
// close, after the Spoke.
func Dial(ctx context.Context, endpoint Endpoint, addr Addr, opts SpokeOptions) (*Spoke, error) {
	if addr.ID == (NodeID{}) {
		return nil, fmt.Errorf("%w address %q: it names no node", ErrInvalid, addr)
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &Spoke{
		endpoint:  endpoint,
		addr:      addr,
		opts:      opts.withDefaults(),
		inbox:     newSpokeInbox(),
		published: make(chan []byte, publishBuffer),
	}
	// The router's goroutine: ended by Close or by the keeper, and waited for by
	// whoever waits for its done.
	go newSpokeRouter(s.inbox, s.published, cancel).loop()
	l, err := s.connect(ctx, base)
	if err != nil {
		send(s.inbox, s.inbox.failed, err)
		return nil, fmt.Errorf("irohub: dialing %s: %w", addr, err)
	}
	// The keeper's goroutine: ended by the router's end, or by an end that no
	// reconnecting mends, which it tells the router.
	go s.keep(base, l)
	return s, nil
}

// Publish hands an event to the hub, which gives it to its own listeners and, where its
// policy is to forward it, to other spokes, but not to this one. It returns as soon as
// the event is queued for writing; it waits while the queue is full, and so while the
// Spoke is disconnected. Events that were on their way when a connection was lost are
// lost. An event that is not allowed gets an error that wraps [ErrInvalid]; after
// the end of the Spoke, every one gets what ended it.
func (s *Spoke) Publish(ctx context.Context, ev Event) error {
	m, err := ev.encode(s.opts.MaxFrame - fromOverhead)
	if err != nil {
		return err
	}
	err = s.write(ctx, m.bytes)
	if err == nil {
		s.inbox.count.Add(1)
	}
	return err
}

// write queues a frame behind those that were published before.
func (s *Spoke) write(ctx context.Context, frame []byte) error {
	if isClosed(s.inbox.closing) { // or select would choose by chance
		return s.inbox.ended()
	}
	select {
	case s.published <- frame:
		return nil
	case <-s.inbox.closing:
		return s.inbox.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Flush waits until the hub has worked through all that was published before, and returns
// nil if it took all of it since the last Flush; else the first refusal, which wraps
// [ErrForbidden] or [ErrInvalid], or an error that says that a connection was lost: then it
// is not known what the hub got.
func (s *Spoke) Flush(ctx context.Context) error {
	frame, reply, gone := make(chan []byte, 1), make(chan error, 1), make(chan struct{})
	defer close(gone)
	if !send(s.inbox, s.inbox.flush, flushing{frame: frame, reply: reply, gone: gone}) {
		return s.inbox.ended()
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
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	sub := newSubscription(topics, s.opts.MaxQueue, s.inbox.unlisten, s.inbox.done)
	q := request[*Subscription]{sub, make(chan error, 1)}
	if !send(s.inbox, s.inbox.listen, q) {
		return nil, s.inbox.ended()
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
// failed, or if a connection was missing for it. It gives up after the WriteTimeout
// without progress. Later calls return what the first did.
func (s *Spoke) Close() error {
	send(s.inbox, s.inbox.close, struct{}{})
	<-s.inbox.done
	if s.inbox.err == errSpokeClosed {
		return nil
	}
	return s.inbox.err
}

// keep is the keeper's goroutine: it sees to it that there is a link, and calls the
// application.
func (s *Spoke) keep(ctx context.Context, l *link) {
	pause := s.opts.MinBackoff
	for {
		since := time.Now()
		err := s.watch(l)
		if isClosed(s.inbox.closing) {
			return
		}
		final := s.opts.NoReconnect || turnedAway(err)
		if final {
			send(s.inbox, s.inbox.failed, err)
		}
		s.opts.Logger.Info("disconnected", "hub", s.addr.ID, "err", err)
		if s.opts.OnDisconnect != nil {
			s.call("OnDisconnect", func() { s.opts.OnDisconnect(err) })
		}
		if final {
			return
		}
		if time.Since(since) >= s.opts.MaxBackoff {
			pause = s.opts.MinBackoff // it held; a link that never does is not to hammer
		}
		if l, pause, err = s.redial(ctx, pause); err != nil {
			send(s.inbox, s.inbox.failed, err)
			return
		}
		s.opts.Logger.Info("reconnected", "hub", s.addr.ID)
		if s.opts.OnReconnect != nil {
			s.call("OnReconnect", s.opts.OnReconnect)
		}
	}
}

// watch waits for the link's end, and passes on what the hub has refused until then.
func (s *Spoke) watch(l *link) error {
	for {
		select {
		case err := <-s.inbox.refused:
			s.refused(err)
		case <-l.closed:
			for len(s.inbox.refused) > 0 { // nobody else receives
				s.refused(<-s.inbox.refused)
			}
			return l.err()
		}
	}
}

func (s *Spoke) refused(err error) {
	s.opts.Logger.Warn("event refused", "err", err)
	if s.opts.OnRefused != nil {
		s.call("OnRefused", func() { s.opts.OnRefused(err) })
	}
}

// turnedAway says whether the hub has ended an established link for good.
func turnedAway(err error) bool {
	if end := closeError(err); end != nil {
		switch end.Code {
		case CodeProtocol, CodeForbidden, CodeTooMany:
			return true
		}
	}
	return false
}

// redial dials until there is a link. It returns the pause that the next loss begins
// with, and an error only where it is of no use to go on.
func (s *Spoke) redial(ctx context.Context, pause time.Duration) (*link, time.Duration, error) {
	for {
		timer := time.NewTimer(pause - time.Duration(rand.Int64N(int64(pause)/2+1)))
		select {
		case <-timer.C:
		case <-s.inbox.done:
			timer.Stop()
			return nil, 0, s.inbox.err
		}
		attempt, cancel := context.WithTimeout(ctx, s.opts.HandshakeTimeout)
		l, err := s.connect(attempt, ctx)
		cancel()
		pause = min(2*pause, s.opts.MaxBackoff)
		if err == nil {
			return l, pause, nil
		}
		s.opts.Logger.Debug("dialing failed", "hub", s.addr.ID, "err", err)
		if end := closeError(err); end != nil {
			switch end.Code {
			case CodeProtocol, CodeForbidden:
				return nil, 0, err
			case CodeTooMany:
				pause = s.opts.MaxBackoff
			}
		}
	}
}

func (s *Spoke) call(name string, f func()) {
	guard(s.opts.Logger, name, func() error { f(); return nil })
}

// connect makes a link and returns it once the hub has acknowledged all subscriptions.
// base bounds the link's life, ctx the call.
func (s *Spoke) connect(ctx, base context.Context) (*link, error) {
	conn, err := s.endpoint.Dial(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	stream, err := conn.OpenStream(ctx)
	if err != nil {
		conn.Close(0, "")
		return nil, err
	}
	// The outbox carries the Spoke's own requests alone, and needs no limit.
	l := newLink(base, stream, math.MaxInt, s.opts.WriteTimeout)
	l.published, l.ready = s.published, make(chan struct{})
	l.shut = func(end *CloseError) { conn.Close(end.Code, end.Reason) }

	// The reader, and the writer, which waits for it. Both are ended by the link's
	// context, and nothing of the application is called on them; the router waits
	// for the writer's down, the keeper for closed.
	read := make(chan struct{})
	go func() {
		s.read(l, conn)
		close(read)
	}()
	go func() {
		l.write()
		<-read
		stream.Abort(0) // whatever can be read of it yet, nobody will
		send(s.inbox, s.inbox.down, l)
		close(l.closed)
	}()
	if !send(s.inbox, s.inbox.up, l) {
		l.cancel(s.inbox.err)
	}
	select {
	case <-l.ready:
		return l, nil
	case <-ctx.Done():
		if !isClosed(l.ready) {
			l.cancel(ctx.Err())
		}
	case <-l.ctx.Done():
	}
	if !isClosed(l.ready) {
		<-l.closed
	}
	if isClosed(l.ready) {
		return l, nil // it was made, and if it has ended, that is to be told of
	}
	return nil, l.err()
}

// read is the reader's goroutine: it hands to the router what the hub sends.
func (s *Spoke) read(l *link, conn Conn) {
	r := &spokeReader{}
	r.work = newHandover(l, s.inbox.inbound, &arrivals{from: r}, &arrivals{from: r})
	err := l.readLoop(&frameReader{max: s.opts.MaxFrame, keep: true}, r.take, r.work.flush)
	if err == io.EOF {
		l.ended.Store(true)
		// The hub has ended the stream; why, it says in closing the connection.
		ctx, cancel := context.WithTimeoutCause(l.ctx, s.opts.WriteTimeout, &CloseError{Code: CodeTimeout, Reason: "the hub ended its stream only"})
		if err = conn.Wait(ctx); ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		cancel()
	}
	l.cancel(err)
}

// A spokeReader makes arrivals of frames.
type spokeReader struct {
	work   handover[arrivals]
	topics namer
	last   run    // the last event, without its frame
	prefix []byte // what its frame's body had before the payload; empty: not remembered
}

// maxPrefix is what is remembered of an event's frame: more than those of a sound hub have.
const maxPrefix = maxTopic + 256

// take adds one frame to the arrivals.
func (r *spokeReader) take(frame []byte) error {
	next, err := r.work.open()
	if err != nil {
		return err
	}
	if body := frame[headerSize:]; r.again(body) {
		next.event(&r.last, frame)
	} else {
		env, plain := parsePlain(body)
		if !plain {
			if env, err = parseAny(body); err != nil {
				return err
			}
		}
		switch {
		case !env.isControl():
			if frame, err = r.event(&env, frame, plain); err != nil {
				return err
			}
			next.event(&r.last, frame)
		case string(env.typ) == typeAck:
			next.answer(string(env.id), nil)
		case string(env.typ) == typeError:
			next.answer(string(env.id), refusalError(env.payload))
		}
		// What else there may be is of a later version of the protocol.
	}
	if next.count >= maxOps {
		return r.work.flush()
	}
	return nil
}

// again says whether a frame is like the last event's up to the payload, and sound. Events
// tend to come in rows that are, and then nothing but the payload need be looked at.
func (r *spokeReader) again(body []byte) bool {
	n := len(r.prefix)
	if n == 0 || len(body) < n || string(body[:n]) != string(r.prefix) {
		return false
	}
	_, ok := lastPayload(body, n)
	return ok
}

// event makes an envelope the last event, and returns its frame: one of its own, where the hub
// has written that otherwise than this package would.
func (r *spokeReader) event(env *envelope, frame []byte, plain bool) ([]byte, error) {
	from, err := env.sender()
	if err != nil {
		return nil, err
	}
	topic := r.topics.name(env.typ, env.id)
	r.prefix = r.prefix[:0]
	if !plain {
		own, m := appendMessage(nil, topic, env.payload, from)
		r.last = m.run
		r.last.frames = frames{}
		return own, nil
	}
	r.last = run{topic: topic, from: from}
	if n := len(frame) - 1 - len(env.payload); len(env.payload) > 0 {
		r.last.payload = n
		if prefix := frame[headerSize:n]; len(prefix) <= maxPrefix {
			r.prefix = append(r.prefix, prefix...)
		}
	}
	return frame, nil
}

// refusalError makes an error of what a hub refuses.
func refusalError(payload []byte) error {
	var refusal struct{ Code, Topic, Message string }
	if json.Unmarshal(payload, &refusal) != nil {
		return fmt.Errorf("%w: the hub refused something without saying what", ErrInvalid)
	}
	kind := ErrInvalid
	switch refusal.Code {
	case refusedForbidden:
		kind = ErrForbidden
	case refusedTooMany:
		kind = ErrTooMany
	}
	return fmt.Errorf("%w: topic %q: %s", kind, refusal.Topic, refusal.Message)
}

// guard calls the application, and makes an error of a panic.
func guard(logger *slog.Logger, name string, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			logger.Error("callback panicked", "callback", name, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("internal error")
		}
	}()
	return call()
}
