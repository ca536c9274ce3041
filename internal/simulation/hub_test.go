package simulation

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"irohub"
)

// A hub is the hub between one start and its end.
type hub struct {
	w        *world
	endpoint *endpoint
	hub      *irohub.Hub
	served   chan struct{}
	down     atomic.Bool // ending it has begun
	ear      *feed       // receives everything that spokes publish

	// Guarded by world.mu.
	published uint64 // events accepted by Publish
	stopping  int    // calls of Shutdown and Close that have not returned
}

const hubHost = "hub"

// startHub starts a hub at the same address. The network is calm there.
func (w *world) startHub() {
	w.logf("the hub starts")
	h := &hub{w: w, endpoint: w.net.endpoint(w.hubID, hubHost), served: make(chan struct{})}
	opts := w.plan.hub
	opts.Admit = func(ctx context.Context, id irohub.NodeID) error {
		if w.odd() {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(w.pick(int(20 * time.Second)))):
			}
		}
		return nil
	}
	opts.AllowSubscribe = func(id irohub.NodeID, topic string) error { return h.judge(topic) }
	opts.AllowPublish = func(id irohub.NodeID, topic string) error { return h.judge(topic) }
	opts.Forward = func(id irohub.NodeID, topic string) bool {
		if strings.HasPrefix(topic, "unforwarded") {
			panic("Forward panics")
		}
		return true
	}
	opts.OnConnect = func(irohub.SpokeInfo) { h.callback("OnConnect") }
	opts.OnDisconnect = func(irohub.SpokeInfo, error) { h.callback("OnDisconnect") }
	opts.OnBackpressure = func(irohub.SpokeInfo) { h.callback("OnBackpressure") }
	hub, err := irohub.NewHub(opts, h.endpoint)
	if err != nil {
		panic(err)
	}
	h.hub = hub
	w.mu.Lock()
	w.hub = h
	w.mu.Unlock()
	w.wait(0)
	h.listen()
	go func() {
		defer close(h.served)
		if err := h.hub.Serve(context.Background()); !errors.Is(err, irohub.ErrHubClosed) && !isClosed(h.endpoint.closed) {
			w.violated("Serve ended with %v", err)
		}
		h.down.Store(true)
		w.logf("the hub has ended")
	}()
}

func (w *world) lastHub() *hub {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hub
}

// odd reports whether a callback should do something unusual.
func (w *world) odd() bool { return !w.isCalm() && w.chance(w.plan.callback) }

var errNo = errors.New("not this one")

func (h *hub) judge(topic string) error {
	if h.w.odd() {
		h.w.block(300 * time.Millisecond)
	}
	switch {
	case strings.HasPrefix(topic, "forbidden"):
		return errNo
	case strings.HasPrefix(topic, "panic"):
		panic("a policy panics")
	}
	return nil
}

// callback does something that a callback is allowed to do.
func (h *hub) callback(name string) {
	w := h.w
	if !w.odd() {
		return
	}
	switch w.pick(8) {
	case 0:
		w.block(20 * time.Second)
	case 1:
		panic(name + " panics")
	case 2:
		h.publish(w.source(h, nil), 3, 10)
	case 3:
		w.bounded(name+": Hub.Subscribe", 10*time.Second, func(ctx context.Context) {
			if sub, err := h.hub.Subscribe(ctx, topicName(0), "t:*"); err == nil {
				sub.Close()
			}
		})
	case 4:
		w.do(name+": Hub.Stats", slack, func() { h.hub.Stats(); h.hub.Topics(); h.hub.Spokes() })
	case 5:
		if w.pick(10) == 0 {
			h.stop(true, 5*time.Second)
		}
	case 6:
		if w.pick(20) == 0 {
			h.stop(false, 0)
		}
	}
}

// listen adds a listener for all topics to the hub, and a new one when that is cut off.
func (h *hub) listen() {
	w := h.w
	v := w.watch(nil, "*")
	sub, err := h.hub.Subscribe(context.Background())
	if err != nil {
		return
	}
	f := &feed{w: w, sub: sub, watch: v, name: "the hub's own"}
	h.ear = f
	v.begin()
	go func() {
		f.listen()
		if err := sub.Err(); err != nil && !errors.Is(err, irohub.ErrHubClosed) {
			h.listen()
			w.mu.Lock()
			w.deaf++ // only now: what came before the new listener, nobody has heard
			w.mu.Unlock()
		}
	}()
}

// publish publishes numbered events. Refusals are allowed.
func (h *hub) publish(s *source, events, pad int) {
	w := h.w
	for i := range events {
		topic := i % topics
		if !w.isCalm() {
			topic = w.pick(topics)
		}
		ev, key := w.begin(s, topic, pad)
		w.bounded("Hub.Publish", 10*time.Second, func(ctx context.Context) {
			err := h.hub.Publish(ctx, ev)
			w.published(s, key, err)
			w.mu.Lock()
			defer w.mu.Unlock()
			if err == nil {
				h.published++
			}
		})
	}
}

// stop ends the hub and checks that a successful Shutdown has lost nothing.
func (h *hub) stop(gently bool, limit time.Duration) {
	w := h.w
	w.mu.Lock()
	h.stopping++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		h.stopping--
		w.mu.Unlock()
	}()
	first := !h.down.Swap(true)
	if !gently {
		w.logf("the hub is closed")
		w.do("Hub.Close", slack, func() { h.hub.Close() })
		return
	}
	w.logf("the hub shuts down, within %s", limit)
	type attended struct {
		feed   *feed
		link   *pair
		losses int
	}
	var all []attended
	for _, s := range w.everySpoke() {
		if link := s.endpoint.link(); link != nil && link.sides[1].endpoint == h.endpoint {
			_, losses := s.endpoint.lost()
			for _, f := range s.open() {
				all = append(all, attended{f, link, losses})
			}
		}
	}
	var err error
	w.bounded("Hub.Shutdown", limit, func(ctx context.Context) { err = h.hub.Shutdown(ctx) })
	w.logf("the hub has shut down: %v", err)
	if err != nil || !first {
		return
	}
	w.mu.Lock()
	w.handed = append(w.handed, func() {
		for _, a := range all {
			w.net.mu.Lock()
			told := a.link.ended && !a.link.faulty && a.link.by == 1 && a.link.code == irohub.CodeShutdown && a.link.drained
			w.net.mu.Unlock()
			if told && !a.feed.ended.Load() && !a.feed.lazy {
				if fault := a.feed.watch.missing(h, a.losses); fault != "" {
					w.violated("Shutdown returned nil, and %s has not come to a subscription of spoke %d", fault, a.feed.watch.spoke.number)
				}
			}
		}
	})
	w.mu.Unlock()
}

// handedOver checks that everything a Shutdown handed over has arrived. The world is at rest,
// so the subscriptions now have what the spokes' transports had then.
func (w *world) handedOver() {
	w.mu.Lock()
	checks := w.handed
	w.handed = nil
	w.mu.Unlock()
	for _, check := range checks {
		check()
	}
}

// await waits until the hub has ended.
func (h *hub) await() {
	for range 200 {
		h.w.mu.Lock()
		busy := h.stopping > 0
		h.w.mu.Unlock()
		if !busy && isClosed(h.served) {
			h.endpoint.Close()
			return
		}
		h.w.wait(time.Second)
	}
	h.w.violated("the hub does not end")
}

// check compares the hub's statistics with the world, which is at rest.
func (h *hub) check() {
	w := h.w
	if h.down.Load() {
		return
	}
	var stats irohub.Stats
	var spokes []irohub.SpokeInfo
	var names map[string]int
	w.do("Hub.Stats", slack, func() { stats, spokes, names = h.hub.Stats(), h.hub.Spokes(), h.hub.Topics() })
	if h.down.Load() {
		return
	}
	if stats.Spokes != len(spokes) || stats.Topics != len(names) {
		w.violated("%+v, but %d spokes and %d topics", stats, len(spokes), len(names))
	}
	opts := w.plan.hub
	if stats.Spokes > opts.MaxSpokes || stats.Pending > opts.MaxPending {
		w.violated("%+v, the limits are %d and %d", stats, opts.MaxSpokes, opts.MaxPending)
	}
	w.mu.Lock()
	taken := h.published
	w.mu.Unlock()
	if interruptible && taken != stats.Published && len(w.running("Hub.Publish")) == 0 {
		w.violated("the hub has counted %d published events of %d", stats.Published, taken)
	}
	listed := make(map[irohub.NodeID]int)
	subscribed, numbers := 0, make(map[uint64]bool)
	for _, info := range spokes {
		listed[info.ID]++
		subscribed += info.Subscriptions
		if numbers[info.Number] {
			w.violated("two spokes have number %d", info.Number)
		}
		numbers[info.Number] = true
	}
	inTable := 0
	for name, n := range names {
		inTable += n
		if n <= 0 {
			w.violated("topic %q has %d subscribers", name, n)
		}
	}
	if inTable < subscribed || stats.Listeners <= 1 && inTable != subscribed {
		w.violated("%d subscriptions of spokes, and %d subscribers of all topics", subscribed, inTable)
	}
	// A connection older than the limit for a first frame must have a spoke.
	for id, n := range h.endpoint.incoming(opts.HandshakeTimeout + time.Second) {
		if n > listed[id] {
			w.violated("%d connections of one node are in their places for longer than HandshakeTimeout, with %d spokes", n, listed[id])
		}
	}
}
