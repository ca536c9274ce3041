package irohub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// ErrHubClosed is what Serve returns after Shutdown or Close, and what other methods
// of a Hub return then.
var ErrHubClosed = errors.New("irohub: hub closed")

var (
	errShutdown = &CloseError{Code: CodeShutdown, Reason: "hub is shutting down"}
	errSlow     = &CloseError{Code: CodeSlow, Reason: "too many bytes waiting"}
)

// HubOptions are a Hub's settings. The zero value is sound, and safe: a field left
// zero, or negative, has the default that its comment names.
type HubOptions struct {
	// Policy. These are called on goroutines of the one spoke or connection that
	// they are about, and hold up nothing else; a panic counts as a refusal.

	// Admit decides whether a node may connect; its error turns the node away
	// with CodeForbidden and the error's text as reason. ctx ends with the
	// HandshakeTimeout, and Admit should then return: the node is turned
	// away whether it does or not. Nil: every node is admitted.
	Admit func(ctx context.Context, id NodeID) error

	// AllowSubscribe decides whether a spoke may subscribe to a topic, which may
	// be a pattern T:*; the error's text is sent to the spoke. Nil: every
	// topic is allowed. In any case direct:<NodeID> is for spokes of that NodeID
	// alone.
	AllowSubscribe func(id NodeID, topic string) error

	// AllowPublish decides whether a spoke's event is taken; the error's text
	// is sent to the spoke. Nil: every event is.
	AllowPublish func(id NodeID, topic string) error

	// Forward decides whether a spoke's event goes to other spokes too, and not
	// to the hub's own Subscriptions alone. Nil: none does.
	Forward func(from NodeID, topic string) bool

	// Limits.

	MaxFrame          int // bytes of one frame, either way; 0: 1 MiB
	MaxQueue          int // bytes of memory waiting for one spoke or Subscription; over it, it is cut off with CodeSlow; 0: 1 MiB
	MaxSpokes         int // spokes in all; further ones are closed with CodeTooMany; 0: 4,096
	MaxSpokesPerNode  int // spokes of one NodeID; a further one replaces the oldest of them, closed with CodeTooMany; 0: 8
	MaxStreamsPerConn int // spokes of one connection; further streams are aborted with CodeTooMany; 0: 16
	MaxSubscriptions  int // topics of one spoke; 0: 1,024
	MaxPending        int // connections that have not sent a whole frame yet; a further one replaces the oldest; 0: 1,024

	// Time.

	HandshakeTimeout time.Duration // from a connection's first packet to its first whole frame, or CodeTimeout; 0: 10 s
	WriteTimeout     time.Duration // for the transport to take 64 KiB, or the rest at the end, or CodeTimeout; 0: 10 s

	// Callbacks. Those of one spoke are called one after the other on a goroutine
	// of that spoke, and may call any method of the Hub.

	OnConnect      func(SpokeInfo)        // before the hub acts on the spoke's first frame
	OnBackpressure func(SpokeInfo)        // after it was cut off as too slow, with so much waiting then; OnDisconnect follows
	OnDisconnect   func(SpokeInfo, error) // after its stream was closed; a *CloseError where a side closed it

	Logger *slog.Logger // nil: nothing is logged
}

func (o HubOptions) withDefaults() HubOptions {
	o.MaxFrame = cmp.Or(max(o.MaxFrame, 0), maxFrame)
	o.MaxQueue = cmp.Or(max(o.MaxQueue, 0), maxQueue)
	o.MaxSpokes = cmp.Or(max(o.MaxSpokes, 0), 4096)
	o.MaxSpokesPerNode = cmp.Or(max(o.MaxSpokesPerNode, 0), 8)
	o.MaxStreamsPerConn = cmp.Or(max(o.MaxStreamsPerConn, 0), 16)
	o.MaxSubscriptions = cmp.Or(max(o.MaxSubscriptions, 0), 1024)
	o.MaxPending = cmp.Or(max(o.MaxPending, 0), 1024)
	o.HandshakeTimeout = cmp.Or(max(o.HandshakeTimeout, 0), handshakeTimeout)
	o.WriteTimeout = cmp.Or(max(o.WriteTimeout, 0), writeTimeout)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return o
}

// Defaults of hubs and spokes alike, besides maxFrame.
const (
	maxQueue         = 1 << 20
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second
)

// SpokeInfo is what a hub knows of one of its spokes.
type SpokeInfo struct {
	ID            NodeID
	Number        uint64 // tells spokes of one NodeID apart; a hub uses none twice
	Since         time.Time
	Subscriptions int // topics
	WaitingBytes  int // of memory in its queue that the transport has not taken: frames, an eighth more, and 64 for each or for several in a row
	WaitingEvents int
}

// Stats are a hub's figures: what there is now, and counts since NewHub.
type Stats struct {
	Spokes    int
	Pending   int // connections without a spoke yet
	Listeners int // Subscriptions of the hub's own
	Topics    int // with a subscriber

	Published uint64 // events from Publish
	Received  uint64 // events from spokes
	Delivered uint64 // events put into queues of spokes and Subscriptions
	Refused   uint64 // events and requests of spokes, answered with an error
	Ignored   uint64 // control events of an unknown type
	Rejected  uint64 // connections and spokes for which there was no room, but not streams over MaxStreamsPerConn
	CutOff    uint64 // spokes and Subscriptions that were too slow
}

// A Hub accepts spokes from an Endpoint and passes events on by topic. Its methods
// may be called from any goroutine.
type Hub struct {
	// Immutable.
	endpoint Endpoint
	opts     HubOptions
	inbox    *inbox

	served atomic.Bool
	ended  chan struct{} // closed by Serve as it returns

	// tasks are the goroutines that serve the network and call nothing of the
	// application, so that waiting for them is sure to end. Serve waits.
	tasks sync.WaitGroup
}

// NewHub makes a hub of an endpoint, which stays the caller's to close. The hub holds
// a goroutine until Close or Shutdown; Publish and Subscribe work before Serve too.
func NewHub(endpoint Endpoint, opts HubOptions) *Hub {
	h := &Hub{
		endpoint: endpoint,
		opts:     opts.withDefaults(),
		inbox:    newInbox(),
		ended:    make(chan struct{}),
	}
	// The router's goroutine: ended by Close, Shutdown or Serve, which wait for
	// its done.
	go newRouter(h.inbox, h.opts).loop()
	return h
}

// Serve accepts spokes until ctx ends, Shutdown or Close is called, and then returns
// ErrHubClosed; it returns another error if the endpoint accepts no more. Either way
// the hub is closed, and so are all its connections: the end of ctx is that of Close, so
// for a Shutdown ctx must go on. It may be called once.
func (h *Hub) Serve(ctx context.Context) error {
	if h.served.Swap(true) {
		return errors.New("irohub: Serve is called a second time")
	}
	defer close(h.ended)

	// Connections end by the hub's reasons alone; ctx merely ends accepting.
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	accepting, stop := context.WithCancel(ctx)
	defer stop()
	accepted := make(chan error, 1)
	h.tasks.Go(func() { accepted <- h.accept(accepting, base) })

	var err error
	select {
	case err = <-accepted:
		h.quit()
	case <-h.inbox.done:
	}
	stop()
	cancel(errShutdown)
	h.tasks.Wait()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("irohub: accepting: %w", err)
	}
	return ErrHubClosed
}

// Publish hands an event to the hub: to every spoke that is subscribed to its topic,
// though not to the hub's own Subscriptions. It returns as soon as the router has room
// for the event, and waits while that is busy; an event that is not allowed
// gets an error that wraps [ErrInvalid]. The payload may be changed afterwards.
func (h *Hub) Publish(ctx context.Context, ev Event) error {
	m, err := ev.encode(h.opts.MaxFrame)
	if err != nil {
		return err
	}
	m.forward = true
	return post(ctx, h.inbox, h.inbox.publish, m)
}

// Subscribe listens to the events of all spokes on the given topics, which may be
// patterns T:*; with none, to all their events. Cancelling ctx ends the call, not the
// Subscription.
func (h *Hub) Subscribe(ctx context.Context, topics ...string) (*Subscription, error) {
	for _, topic := range topics {
		if err := validTopic(topic); err != nil {
			return nil, err
		}
	}
	sub := newSubscription(topics, h.opts.MaxQueue, h.inbox.unlisten, h.inbox.done)
	q := request[*Subscription]{sub, make(chan error, 1)}
	if err := post(ctx, h.inbox, h.inbox.listen, q); err != nil {
		return nil, err
	}
	if err := <-q.reply; err != nil {
		return nil, err
	}
	return sub, nil
}

// post sends to the router unless ctx ends or the hub closes first.
func post[T any](ctx context.Context, in *inbox, to chan<- T, v T) error {
	if isClosed(in.closing) { // or select would choose by chance
		return ErrHubClosed
	}
	select {
	case to <- v: // most often there is room, and this is cheaper than the select below
		return nil
	default:
	}
	select {
	case to <- v:
		return nil
	case <-in.closing:
		return ErrHubClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown ends the hub with nothing lost: it lets nobody in, writes all that was
// published before to those it is for, waits until each spoke has acknowledged it, and
// closes with CodeShutdown. A spoke that takes nothing is given up after the
// WriteTimeout. When ctx ends first, Shutdown closes the hub at once and returns ctx's
// error; when Close, or the end of Serve's context, cuts it short, ErrHubClosed. It does not
// wait for callbacks.
func (h *Hub) Shutdown(ctx context.Context) error {
	select {
	case h.inbox.shutdown <- struct{}{}:
	case <-h.inbox.done:
	case <-ctx.Done(): // the router may have much to do
	}
	select {
	case <-h.inbox.done:
		h.wait()
		if h.inbox.cut {
			return ErrHubClosed
		}
		return nil
	case <-ctx.Done():
		h.Close()
		return ctx.Err()
	}
}

// Close ends the hub at once: what waits to be written is lost, and spokes see
// CodeShutdown. It does not wait for callbacks.
func (h *Hub) Close() error {
	h.quit()
	h.wait()
	return nil
}

func (h *Hub) quit() {
	select {
	case h.inbox.quit <- struct{}{}:
	case <-h.inbox.done:
	}
	<-h.inbox.done
}

func (h *Hub) wait() {
	if h.served.Load() {
		<-h.ended
	}
}

// Stats returns the hub's figures; after the hub is closed, the last ones.
func (h *Hub) Stats() Stats {
	if stats, ok := ask(h.inbox, h.inbox.stats); ok {
		return stats
	}
	return h.inbox.final
}

// Spokes lists the spokes that are connected, in no order; after the hub is closed, none.
func (h *Hub) Spokes() []SpokeInfo {
	list, _ := ask(h.inbox, h.inbox.spokes)
	return list
}

// Topics returns how many subscribers each topic has, patterns included; after the hub
// is closed, nil. The router makes the map: with a million topics that holds up
// events for a while.
func (h *Hub) Topics() map[string]int {
	topics, _ := ask(h.inbox, h.inbox.topics)
	return topics
}

// ask sends the router a channel for its answer; false: it has ended.
func ask[T any](in *inbox, to chan<- chan T) (answer T, ok bool) {
	c := make(chan T, 1)
	select {
	case to <- c:
		return <-c, true
	case <-in.done:
		return answer, false
	}
}

// A peer is one connection, from its first packet on.
type peer struct {
	ctx     context.Context // ends with the connection
	cancel  context.CancelCauseFunc
	silent  *time.Timer  // ends the connection unless a whole frame comes
	conn    Conn         // nil before the handshake
	known   bool         // it was admitted; owned, as conn is until then, by the connection's goroutine
	streams atomic.Int32 // open ones; the last to end closes the connection
	spokes  int          // owned by the router: those of the streams that became one, and are not closed
}

// accept hands each incoming connection to a goroutine of its own at once, so that a
// handshake delays nobody else.
func (h *Hub) accept(ctx, base context.Context) error {
	for {
		in, err := h.endpoint.Accept(ctx)
		if err != nil {
			return err
		}
		p := &peer{}
		p.ctx, p.cancel = context.WithCancelCause(base)
		p.silent = time.AfterFunc(h.opts.HandshakeTimeout, func() {
			p.cancel(&CloseError{Code: CodeTimeout, Reason: "no whole frame in time"})
		})
		select {
		case h.inbox.begin <- p:
		case <-h.inbox.done:
			p.cancel(errShutdown)
		}
		h.tasks.Add(1)
		// A connection's goroutine: a task of the hub, ended by p.ctx, until it
		// logs, which may take as long as it likes.
		go func() {
			err := h.connection(p, in)
			h.tasks.Done()
			log := h.opts.Logger
			if p.conn != nil {
				log = log.With("node", p.conn.RemoteID())
			}
			if p.known {
				log.Debug("connection ended", "err", err)
			} else {
				log.Info("connection turned away", "err", err)
			}
		}()
	}
}

// connection takes a connection through its handshake and accepts its streams.
func (h *Hub) connection(p *peer, in Incoming) error {
	defer h.settle(p)
	if p.ctx.Err() != nil {
		in.Refuse()
		return context.Cause(p.ctx)
	}
	conn, err := in.Handshake(p.ctx)
	if err != nil {
		return err
	}
	p.conn = conn
	err = h.admit(p)
	p.known = err == nil
	for err == nil {
		var stream Stream
		if stream, err = conn.AcceptStream(p.ctx); err == nil {
			h.stream(p, stream)
		}
	}
	if p.ctx.Err() != nil {
		err = context.Cause(p.ctx)
	}
	end := endOf(err)
	conn.Close(end.Code, end.Reason)
	return err
}

// settle is the end of a connection, but for spokes that have not read yet all that came
// before it: the last of them cancels its context.
func (h *Hub) settle(p *peer) {
	p.silent.Stop()
	if p.streams.Load() == 0 {
		p.cancel(errGone)
	}
	select {
	case h.inbox.settle <- p:
	case <-h.inbox.done:
	}
}

var errGone = &CloseError{Reason: "connection ended"}

// admit asks the application about a node. It does not wait for an Admit that
// outlasts its context.
func (h *Hub) admit(p *peer) error {
	if p.conn.RemoteID() == (NodeID{}) { // an event from it would be the hub's
		return &CloseError{Code: CodeForbidden, Reason: "the zero NodeID is nobody's"}
	}
	if h.opts.Admit == nil {
		return nil
	}
	answer := make(chan error, 1)
	// Admit's goroutine: the application's, which ends it by returning.
	go func() {
		answer <- guard(h.opts.Logger, "Admit", func() error { return h.opts.Admit(p.ctx, p.conn.RemoteID()) })
	}()
	select {
	case err := <-answer:
		if err != nil {
			return &CloseError{Code: CodeForbidden, Reason: err.Error()}
		}
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// stream starts the reader and the writer of a new stream.
func (h *Hub) stream(p *peer, stream Stream) {
	if n := p.streams.Add(1); int(n) > h.opts.MaxStreamsPerConn {
		stream.Abort(CodeTooMany)
		if p.streams.Add(-1) == 0 { // the others have ended meanwhile
			p.cancel(errGone)
		}
		return
	}
	m := &member{
		hub:  h,
		peer: p,
		id:   p.conn.RemoteID(),
		link: newLink(p.ctx, stream, h.opts.MaxQueue, h.opts.WriteTimeout),
	}
	m.subscriber.spoke = m
	m.work = newHandover(m.link, h.inbox.inbound, &inbound{from: m}, &inbound{from: m})
	m.link.shut = func(end *CloseError) {
		if p.streams.Add(-1) == 0 {
			p.conn.Close(end.Code, end.Reason)
			p.cancel(end)
		} else {
			stream.Abort(end.Code)
		}
	}
	// The writer: a task of the hub, ended by the link's context.
	h.tasks.Go(func() {
		m.link.write()
		select {
		case h.inbox.leave <- m:
		case <-h.inbox.done:
		}
		close(m.link.closed)
	})
	// The reader: ended likewise, but not before the application's callbacks
	// return, for which nobody waits.
	go m.read()
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
