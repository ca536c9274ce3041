package irohub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"irohub/internal/logging"
)

// ErrHubClosed is returned by Serve and by other methods of a Hub after Shutdown or
// Close.
var ErrHubClosed = errors.New("irohub: hub closed")

// ErrUndelivered is wrapped by Shutdown's error when some spokes did not take all events
// that were published before.
var ErrUndelivered = errors.New("irohub: not everything was handed over")

// HubOptions are a Hub's settings. The zero value is safe to use. A field that is zero or
// negative has the default in its comment.
type HubOptions struct {
	// Policy. Each function is called on a goroutine of the spoke or connection that it
	// decides about, and delays no other. A panic counts as a refusal.

	// Admit decides whether a node may connect. On an error, the hub closes the connection
	// with CodeForbidden and the error's text as the reason. ctx ends after the
	// HandshakeTimeout. Admit should then return; the hub turns the node away in any case.
	// Nil: every node is admitted.
	Admit func(ctx context.Context, id NodeID) error

	// AllowSubscribe decides whether a spoke may subscribe to a topic or to a pattern T:*.
	// The hub sends the error's text to the spoke. Nil: every topic is allowed. Regardless of
	// AllowSubscribe, only spokes of a NodeID may subscribe to its mailbox direct:<NodeID>.
	AllowSubscribe func(id NodeID, topic string) error

	// AllowPublish decides whether the hub accepts a spoke's event. The hub sends the
	// error's text to the spoke. Nil: every event is accepted.
	AllowPublish func(id NodeID, topic string) error

	// Forward decides whether a spoke's event goes to other spokes too. The hub's own
	// Subscriptions get it in any case. Nil: no event is forwarded.
	Forward func(from NodeID, topic string) bool

	// Limits.

	// MaxFrame is the size limit of one frame in bytes, in both directions. Its maximum is
	// 1 GiB. A spoke's first frame has at most 32 KiB. 0: 1 MiB.
	MaxFrame int

	// MaxQueue is how many bytes of memory may be queued for one spoke or Subscription. One
	// that exceeds it is closed with CodeSlow. 0: 1 MiB.
	MaxQueue int

	// MaxSpokes is the number of all spokes. Further ones are closed with CodeTooMany.
	// 0: 4,096.
	MaxSpokes int

	// MaxSpokesPerNode is the number of spokes of one NodeID. A further one replaces the
	// oldest, which is closed with CodeTooMany. 0: 8.
	MaxSpokesPerNode int

	// MaxStreamsPerConn is the number of streams of one connection. At most one of them may
	// not be a spoke yet. Further streams are aborted with CodeTooMany. 0: 16.
	MaxStreamsPerConn int

	// MaxSubscriptions is the number of topics of one spoke. It also limits the topics of
	// one request, repetitions included. 0: 1,024.
	MaxSubscriptions int

	// MaxPending is the number of connections that have no spoke yet. A further one replaces
	// the oldest, which is closed with CodeTooMany. 0: 1,024.
	MaxPending int

	// Rates limit what one spoke may send; events and requests count alike. The hub reads
	// more slowly from a spoke that sends more, which the spoke feels as back-pressure. The
	// spoke may send one second's allowance at once. A frame that exceeds the allowance
	// delays the next one.

	MaxEventRate int // frames per second; 0: no limit
	MaxByteRate  int // bytes per second; 0: no limit

	// Timeouts. When one expires, the hub closes with CodeTimeout.

	HandshakeTimeout time.Duration // from a connection's first packet to its first spoke; 0: 10 s
	WriteTimeout     time.Duration // for the transport to take 64 KiB, or the remainder at the end; 0: 10 s

	// Callbacks. Those of one spoke are called one after the other on a goroutine
	// of that spoke. They may call any method of the Hub.

	// OnConnect is called before the hub acts on the spoke's first frame.
	OnConnect func(SpokeInfo)

	// OnBackpressure is called after a spoke was disconnected as too slow. SpokeInfo says how
	// much was queued at that moment. OnDisconnect follows.
	OnBackpressure func(SpokeInfo)

	// OnDisconnect is called after the spoke's stream was closed. The error is a *CloseError
	// if either side closed it.
	OnDisconnect func(SpokeInfo, error)

	// Logger gets a line for each spoke that connects or disconnects. Events that can be
	// frequent are summed up in one line. Nothing waits for the Logger's handler: lines that
	// come too fast for it are dropped, and the next line says how many. Nil: no log.
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

// SpokeInfo describes one spoke of a hub.
type SpokeInfo struct {
	ID            NodeID    `json:"id"`
	Number        uint64    `json:"number"` // unique within the hub; distinguishes spokes of one NodeID
	Since         time.Time `json:"since"`
	RemoteAddr    string    `json:"remote_addr"`   // source of its connection's first packet; not verified
	Subscriptions int       `json:"subscriptions"` // topics

	// WaitingBytes is the memory of its queue that the transport has not taken yet, as an
	// upper estimate. Each entry counts its frames' bytes, an eighth more, and 64. An entry is
	// one frame, or several events that the hub queued together.
	WaitingBytes  int    `json:"waiting_bytes"`
	WaitingEvents int    `json:"waiting_events"`
	BytesIn       uint64 `json:"bytes_in"`  // read from its stream, including length headers
	BytesOut      uint64 `json:"bytes_out"` // written to its stream, including length headers
}

// Stats are a hub's statistics: current numbers, and totals since NewHub.
type Stats struct {
	Spokes    int `json:"spokes"`
	Pending   int `json:"pending"`   // connections without a spoke yet
	Listeners int `json:"listeners"` // the hub's own Subscriptions
	Topics    int `json:"topics"`    // that have a subscriber

	Published uint64 `json:"published"` // events from Publish
	Received  uint64 `json:"received"`  // events from spokes
	Delivered uint64 `json:"delivered"` // events put into queues of spokes and Subscriptions
	Refused   uint64 `json:"refused"`   // events and requests of spokes that got an error
	Ignored   uint64 `json:"ignored"`   // control events of an unknown type
	Rejected  uint64 `json:"rejected"`  // connections and spokes over a limit; not streams over MaxStreamsPerConn
	CutOff    uint64 `json:"cut_off"`   // spokes and Subscriptions closed as too slow
	BytesIn   uint64 `json:"bytes_in"`  // read from the streams of all spokes, including length headers
	BytesOut  uint64 `json:"bytes_out"` // written to the streams of all spokes, including length headers
}

// A Hub accepts spokes from its endpoints and distributes events by topic. Its methods
// may be called from any goroutine.
type Hub struct {
	// Immutable.
	endpoints []Endpoint
	opts      HubOptions
	inbox     *inbox
	logs      *logging.Log

	served atomic.Bool
	ended  chan struct{} // closed by Serve as it returns

	// tasks are the goroutines that serve the network. They make no callback to the
	// application, so they always end. Serve waits for them.
	tasks sync.WaitGroup
}

// NewHub makes a hub that serves one endpoint or several. The spokes of all endpoints share
// the topics and the limits. The caller closes the endpoints, after the hub. The hub runs a
// goroutine until Close, Shutdown or the end of Serve. Publish and Subscribe work before Serve
// too. NewHub returns an error that wraps [ErrInvalid] if there is no endpoint or if one is nil.
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
	// The router's goroutine. Close, Shutdown or Serve ends it and waits for its
	// done channel.
	go newRouter(h.inbox, h.opts, h.logs).loop()
	return h, nil
}

// Serve accepts spokes from all endpoints. It returns ErrHubClosed when ctx ends or after
// Shutdown or Close. If one endpoint fails, Serve returns its error with the endpoint's
// address: a hub that is unreachable over one endpoint does not go on unnoticed. When Serve
// returns, the hub and all its connections are closed. The end of ctx has the effect of
// Close, so keep ctx alive during a Shutdown. Serve may be called once.
func (h *Hub) Serve(ctx context.Context) error {
	if h.served.Swap(true) {
		return errors.New("irohub: Serve was called a second time")
	}
	defer close(h.ended)

	// base gives connections the hub's reason for their end. The end of ctx only stops
	// accepting.
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	accepting, stop := context.WithCancel(ctx)
	accepted := make(chan error, len(h.endpoints))
	for _, ep := range h.endpoints {
		// The accepting goroutines are tasks of the hub. stop or an endpoint's error ends them.
		h.tasks.Go(func() {
			addr := ep.Addr() // read now, while the endpoint is open
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

// Publish sends an event to every spoke that is subscribed to its topic, but not to the
// hub's own Subscriptions. It waits until the router's queue has room and returns once the
// event is queued. If ctx has ended, it publishes nothing. For an event that the protocol
// does not allow, it returns an error that wraps [ErrInvalid]. The caller may change the
// payload after Publish has returned.
func (h *Hub) Publish(ctx context.Context, ev Event) error {
	r, err := ev.encode(h.opts.MaxFrame)
	if err != nil {
		return err
	}
	return pass(ctx, &h.inbox.gate, h.inbox.publish, message{run: r, forward: true})
}

// Subscribe listens to the events that spokes publish on the given topics or patterns T:*.
// Without topics, it listens to all events of spokes. ctx bounds the call, not the
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
	// In parts, because one long list would block the router.
	for part := range slices.Chunk(topics, pageSize) {
		q := request[listening]{listening{sub, part}, make(chan error, 1)}
		err := pass(ctx, &h.inbox.gate, h.inbox.listen, q)
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

// Shutdown closes the hub gracefully. It accepts nothing new, sends all events that were
// published before, waits until each spoke has acknowledged them, and closes with
// CodeShutdown. It gives up a spoke that takes nothing for the WriteTimeout, and then returns
// an error that wraps [ErrUndelivered] and says how much was lost. If ctx ends first, Shutdown
// closes the hub at once and returns ctx's error. If Close or the end of Serve's context
// interrupts it, it returns ErrHubClosed. It does not wait for callbacks.
func (h *Hub) Shutdown(ctx context.Context) error {
	select {
	case h.inbox.shutdown <- struct{}{}:
	case <-h.inbox.done:
	case <-ctx.Done(): // the router may be busy
	}
	select {
	case <-h.inbox.done:
		h.wait()
		if h.inbox.cut {
			return ErrHubClosed
		}
		if lost := h.inbox.lost; lost.spokes > 0 {
			return fmt.Errorf("%w: %d spokes did not take all their events, and %d events were not sent", ErrUndelivered, lost.spokes, lost.events)
		}
		return nil
	case <-ctx.Done():
		h.Close()
		return ctx.Err()
	}
}

// Close closes the hub at once. Events that are queued are lost, and spokes see
// CodeShutdown. Close does not wait for callbacks.
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

// Stats returns the hub's statistics. After the hub is closed, it returns the last ones.
func (h *Hub) Stats() Stats {
	if stats, ok := ask(h.inbox, h.inbox.stats); ok {
		return stats
	}
	return h.inbox.final
}

// Spokes lists the connected spokes in no particular order. After the hub is closed, it
// returns nil. The router makes the list in parts and does other work between them. The list
// may or may not have spokes that connect or disconnect meanwhile.
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

// Topics returns how many subscribers each topic and each pattern has. After the hub is
// closed, it returns nil. Like the list of Spokes, the map is made in parts, so that even a
// million topics do not block the router.
func (h *Hub) Topics() map[string]int {
	topics := make(map[string]int)
	if !pages(h.inbox, h.inbox.topics, func(t topicCount) { topics[t.name] = t.subs }) {
		return nil
	}
	return topics
}

// ask sends the router a channel for its answer. ok is false if the router has ended.
func ask[T any](in *inbox, to chan<- chan T) (answer T, ok bool) {
	c := make(chan T, 1)
	select {
	case to <- c:
		return <-c, true
	case <-in.done:
		return answer, false
	}
}

// A query asks the router for one page of a list. The pages run from the list's end to its
// beginning. When an item leaves the list, the last item takes its place. An earlier page
// already had that last item. So an item that stays throughout is found once or twice.
type query[T any] struct {
	below int // only items before this index; negative: all
	reply chan page[T]
}

type page[T any] struct {
	items []T
	below int // for the next query; 0: this is the last page
}

// pageSize is how many items the router visits for one query, so that a long list
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

// pages asks for one page after the other and yields their items. It returns false if the
// router ended meanwhile.
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

// A topicCount is one entry of Topics.
type topicCount struct {
	name string
	subs int
}

func countOf(t *topic) topicCount { return topicCount{t.name, len(t.subs)} }
