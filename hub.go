package irohub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"irohub/internal/logging"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrHubClosed is what Serve returns after Shutdown or Close, and what other methods
// of a Hub return then.
var ErrHubClosed = errors.New("irohub: hub closed")

// ErrUndelivered is wrapped by what Shutdown returns when it could not hand over all that
// was published before.
var ErrUndelivered = errors.New("irohub: not everything was handed over")

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

	MaxFrame          int // bytes of one frame, either way, at most 1 GiB; of a spoke's first, at most 32 KiB; 0: 1 MiB
	MaxQueue          int // bytes of memory waiting for one spoke or Subscription; over it, it is cut off with CodeSlow; 0: 1 MiB
	MaxSpokes         int // spokes in all; further ones are closed with CodeTooMany; 0: 4,096
	MaxSpokesPerNode  int // spokes of one NodeID; a further one replaces the oldest of them, closed with CodeTooMany; 0: 8
	MaxStreamsPerConn int // spokes of one connection, which may have one stream more than it has spokes; further streams are aborted with CodeTooMany; 0: 16
	MaxSubscriptions  int // topics of one spoke, and of one request, repetitions counted; 0: 1,024
	MaxPending        int // connections without a spoke yet; a further one replaces the oldest; 0: 1,024

	// What one spoke may send, events and requests alike. A spoke that sends more is read
	// more slowly, and so feels it as back-pressure; a second's worth may come at once, and
	// a larger frame is paid for afterwards.

	MaxEventRate int // frames a second; 0: no limit
	MaxByteRate  int // bytes a second; 0: no limit

	// Time.

	HandshakeTimeout time.Duration // from a connection's first packet to its first spoke, or CodeTimeout; 0: 10 s
	WriteTimeout     time.Duration // for the transport to take 64 KiB, or the rest at the end, or CodeTimeout; 0: 10 s

	// Callbacks. Those of one spoke are called one after the other on a goroutine
	// of that spoke, and may call any method of the Hub.

	OnConnect      func(SpokeInfo)        // before the hub acts on the spoke's first frame
	OnBackpressure func(SpokeInfo)        // after it was cut off as too slow, with so much waiting then; OnDisconnect follows
	OnDisconnect   func(SpokeInfo, error) // after its stream was closed; a *CloseError where a side closed it

	// Logger gets a line for each spoke that comes or goes, and lines that sum up what may
	// be much. Nothing waits for its handler; lines that it is too slow for are dropped,
	// and counted in the next one. Nil: nothing is logged.
	Logger *slog.Logger
}

func (o HubOptions) withDefaults() HubOptions {
	o.MaxFrame = min(cmp.Or(max(o.MaxFrame, 0), maxFrame), maxMaxFrame)
	o.MaxQueue = cmp.Or(max(o.MaxQueue, 0), maxQueue)
	o.MaxSpokes = cmp.Or(max(o.MaxSpokes, 0), 4096)
	o.MaxSpokesPerNode = cmp.Or(max(o.MaxSpokesPerNode, 0), 8)
	o.MaxStreamsPerConn = cmp.Or(max(o.MaxStreamsPerConn, 0), 16)
	o.MaxSubscriptions = cmp.Or(max(o.MaxSubscriptions, 0), 1024)
	o.MaxPending = cmp.Or(max(o.MaxPending, 0), 1024)
	o.HandshakeTimeout = cmp.Or(max(o.HandshakeTimeout, 0), handshakeTimeout)
	o.WriteTimeout = cmp.Or(max(o.WriteTimeout, 0), writeTimeout)
	return o
}

// SpokeInfo is what a hub knows of one of its spokes.
type SpokeInfo struct {
	ID            NodeID    `json:"id"`
	Number        uint64    `json:"number"` // tells spokes of one NodeID apart; a hub uses none twice
	Since         time.Time `json:"since"`
	RemoteAddr    string    `json:"remote_addr"`   // where its connection's first packet came from; proves nothing
	Subscriptions int       `json:"subscriptions"` // topics
	WaitingBytes  int       `json:"waiting_bytes"` // of memory in its queue that the transport has not taken: frames, an eighth more, and 64 for each or for several in a row
	WaitingEvents int       `json:"waiting_events"`
	BytesIn       uint64    `json:"bytes_in"`  // read from its stream: frames with their lengths
	BytesOut      uint64    `json:"bytes_out"` // written to its stream
}

// Stats are a hub's figures: what there is now, and counts since NewHub.
type Stats struct {
	Spokes    int `json:"spokes"`
	Pending   int `json:"pending"`   // connections without a spoke yet
	Listeners int `json:"listeners"` // Subscriptions of the hub's own
	Topics    int `json:"topics"`    // with a subscriber

	Published uint64 `json:"published"` // events from Publish
	Received  uint64 `json:"received"`  // events from spokes
	Delivered uint64 `json:"delivered"` // events put into queues of spokes and Subscriptions
	Refused   uint64 `json:"refused"`   // events and requests of spokes, answered with an error
	Ignored   uint64 `json:"ignored"`   // control events of an unknown type
	Rejected  uint64 `json:"rejected"`  // connections and spokes for which there was no room, but not streams over MaxStreamsPerConn
	CutOff    uint64 `json:"cut_off"`   // spokes and Subscriptions that were too slow
	BytesIn   uint64 `json:"bytes_in"`  // read from the streams of all spokes: frames with their lengths
	BytesOut  uint64 `json:"bytes_out"` // written to the streams of all spokes
}

// A Hub accepts spokes from its endpoints and passes events on by topic. Its methods
// may be called from any goroutine.
type Hub struct {
	// Immutable.
	endpoints []Endpoint
	opts      HubOptions
	inbox     *inbox
	logs      *logging.Log

	served atomic.Bool
	ended  chan struct{} // closed by Serve as it returns

	// tasks are the goroutines that serve the network and call nothing of the
	// application, so that waiting for them is sure to end. Serve waits.
	tasks sync.WaitGroup
}

// NewHub makes a hub that serves one endpoint or several: their spokes share the topics and
// all limits, whichever endpoint they come by. The endpoints stay the caller's to close, after
// the hub. The hub holds a goroutine until Close or Shutdown; Publish and Subscribe work
// before Serve too. NewHub returns an error that wraps [ErrInvalid] if there is no endpoint, or
// if one is nil.
func NewHub(opts HubOptions, endpoints ...Endpoint) (*Hub, error) {
	if len(endpoints) == 0 {
		return nil, fmt.Errorf("%w hub: it needs an endpoint", ErrInvalid)
	}
	for i, ep := range endpoints {
		if isNil(ep) {
			return nil, fmt.Errorf("%w hub: endpoint %d of %d is nil", ErrInvalid, i+1, len(endpoints))
		}
	}
	h := &Hub{
		endpoints: slices.Clone(endpoints),
		opts:      opts.withDefaults(),
		inbox:     newInbox(),
		logs:      logging.New(opts.Logger),
		ended:     make(chan struct{}),
	}
	// The router's goroutine: ended by Close, Shutdown or Serve, which wait for
	// its done.
	go newRouter(h.inbox, h.opts, h.logs).loop()
	return h, nil
}

// Serve accepts spokes from all endpoints until ctx ends, Shutdown or Close is called, and
// then returns ErrHubClosed. If one endpoint accepts no more, Serve returns its error, with
// the endpoint's address: a hub that cannot be reached by one of its ways does not go on by
// the others unnoticed. In any case the hub is closed, and so are all its connections: the end
// of ctx is that of Close, so for a Shutdown ctx must go on. It may be called once.
func (h *Hub) Serve(ctx context.Context) error {
	if h.served.Swap(true) {
		return errors.New("irohub: Serve is called a second time")
	}
	defer close(h.ended)

	// Connections end by the hub's reasons alone; ctx merely ends accepting.
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	accepting, stop := context.WithCancel(ctx)
	accepted := make(chan error, len(h.endpoints))
	for _, ep := range h.endpoints {
		// The accepting goroutines: tasks of the hub, ended by stop, or by their endpoints.
		h.tasks.Go(func() {
			addr := ep.Addr() // as it is while the endpoint is open
			err := h.accept(accepting, base, ep)
			accepted <- fmt.Errorf("irohub: accepting at %s: %w", addr, err)
		})
	}

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
		return err
	}
	return ErrHubClosed
}

// Publish hands an event to the hub: to every spoke that is subscribed to its topic,
// though not to the hub's own Subscriptions. It returns as soon as the router has room
// for the event, and waits while that is busy. When ctx has ended, it publishes nothing; an
// event that is not allowed gets an error that wraps [ErrInvalid]. The payload may be
// changed afterwards.
func (h *Hub) Publish(ctx context.Context, ev Event) error {
	r, err := ev.encode(h.opts.MaxFrame)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	m := message{run: r, forward: true}
	if !h.inbox.enter() {
		return ErrHubClosed
	}
	defer h.inbox.gate.leave()
	select {
	case h.inbox.publish <- m: // most often there is room, and this is cheaper than the select below
		return nil
	default:
	}
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
	if len(topics) == 0 {
		topics = []string{allTopics}
	}
	// In parts, as many topics would hold up the router.
	for part := range slices.Chunk(topics, pageSize) {
		q := request[listening]{listening{sub, part}, make(chan error, 1)}
		err := post(ctx, h.inbox, h.inbox.listen, q)
		if err == nil {
			err = <-q.reply
		}
		if err != nil {
			sub.Close()
			return nil, err
		}
	}
	return sub, nil
}

// post sends to the router unless ctx ends or the hub closes first.
func post[T any](ctx context.Context, in *inbox, to chan<- T, v T) error {
	// Select alone would choose by chance, if there is room too.
	if err := ctx.Err(); err != nil {
		return err
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
// WriteTimeout; Shutdown then returns an error that wraps [ErrUndelivered] and says how
// much was lost. When ctx ends first, Shutdown closes the hub at once and returns ctx's
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
		if lost := h.inbox.lost; lost.spokes > 0 {
			return fmt.Errorf("%w: %d spokes did not take all that was for them, and %d events were not sent", ErrUndelivered, lost.spokes, lost.events)
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
// The list is made in parts, between which others have their turn: of spokes that come or
// go meanwhile, some may be in it.
func (h *Hub) Spokes() []SpokeInfo {
	seen := make(map[uint64]struct{})
	var list []SpokeInfo
	if !pages(h.inbox, h.inbox.spokes, func(info SpokeInfo) {
		if _, ok := seen[info.Number]; !ok {
			seen[info.Number] = struct{}{}
			list = append(list, info)
		}
	}) {
		return nil
	}
	return list
}

// Topics returns how many subscribers each topic has, patterns included; after the hub
// is closed, nil. It is made in parts as Spokes' list is, so that a million topics hold up
// nobody.
func (h *Hub) Topics() map[string]int {
	topics := make(map[string]int)
	if !pages(h.inbox, h.inbox.topics, func(t topicCount) { topics[t.name] = t.subs }) {
		return nil
	}
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

// A query asks the router for a page of a list. Pages are taken from the end of the list
// to its beginning: what leaves the list is replaced by its last item, which has been
// seen by then, so that what stays throughout is found, and at worst twice.
type query[T any] struct {
	below int // of the items before this place; negative: all
	reply chan page[T]
}

type page[T any] struct {
	items []T
	below int // for the next query; 0: this was the last page
}

// pageSize is how many items the router looks at for one query, so that a long list
// delays nobody.
const pageSize = 1024

// answer makes a page of list.
func answer[T, E any](q query[T], list []E, item func(E) T) {
	high := len(list)
	if q.below >= 0 {
		high = min(high, q.below)
	}
	low := max(0, high-pageSize)
	p := page[T]{items: make([]T, 0, high-low), below: low}
	for _, e := range list[low:high] {
		p.items = append(p.items, item(e))
	}
	q.reply <- p // has room
}

// pages asks for one page after the other, and yields their items. false: the router ended
// meanwhile.
func pages[T any](in *inbox, to chan<- query[T], yield func(T)) bool {
	q := query[T]{-1, make(chan page[T], 1)}
	for q.below != 0 {
		select {
		case to <- q:
		case <-in.done:
			return false
		}
		p := <-q.reply
		for _, item := range p.items {
			yield(item)
		}
		q.below = p.below
	}
	return true
}

// A topicCount is an item of Topics.
type topicCount struct {
	name string
	subs int
}

func countOf(t *topic) topicCount { return topicCount{t.name, len(t.subs)} }
