package simulation

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"irohub"
)

// actions are the possible steps.
var actions = []struct {
	name string
	do   func(*world)
}{
	{"dial", func(w *world) {
		if len(w.spokes) < w.plan.spokes {
			w.newSpoke(hubHost, w.hubID)
		}
		for _, s := range w.spokes {
			s.wake()
		}
	}},
	{"subscribe", func(w *world) {
		if s := w.some(); s != nil {
			names := []string{topicName(w.dice.IntN(topics))}
			switch w.dice.IntN(6) {
			case 0:
				names = append(names, "t:*")
			case 1:
				names = append(names, topicName(w.dice.IntN(topics)), "other", "direct:"+s.endpoint.ID().String())
			case 2:
				names = []string{"forbidden:1", "panic:2"}[w.dice.IntN(2):]
			case 3:
				names = append(names, many(1+w.dice.IntN(40), 0)...)
			}
			s.subscribe(w.dice.Float64() < w.plan.lazy, names...)
		}
	}},
	{"unsubscribe", func(w *world) {
		if s := w.some(); s != nil {
			if open := s.open(); len(open) > 0 {
				f := open[w.dice.IntN(len(open))]
				go w.do("Subscription.Close", slack, f.sub.Close)
			}
		}
	}},
	{"publish", func(w *world) {
		if s := w.some(); s != nil {
			s.job(s.publish(w.source(nil, s), 1+w.dice.IntN(30), w.dice.IntN(400), w.dice.IntN(2) == 0))
		}
	}},
	{"publish one and flush, again and again", func(w *world) {
		if s := w.some(); s != nil {
			cut := w.dice.IntN(2) == 0
			for range 10 {
				s.job(func(*irohub.Spoke) {
					if cut && w.chance(0.5) {
						s.endpoint.cutSoon()
					}
				})
				s.job(s.publish(w.source(nil, s), 1, 0, true))
			}
		}
	}},
	{"publish what is refused", func(w *world) {
		if s := w.some(); s != nil {
			s.job(func(sp *irohub.Spoke) {
				alone := s.alone()
				w.bounded("refused", 10*time.Second, func(ctx ctx) {
					sp.Publish(ctx, irohub.Event{Type: "forbidden"})
					if err := sp.Flush(ctx); err == nil && s.honest() && alone() {
						w.violated("Flush of spoke %d returned nil behind a refused event", s.number)
					}
				})
			})
		}
	}},
	{"the hub publishes", func(w *world) {
		h := w.hub
		events, pad := 1+w.dice.IntN(100), w.dice.IntN(500)
		go h.publish(w.source(h, nil), events, pad)
	}},
	{"the hub listens", func(w *world) {
		h := w.hub
		d := time.Duration(w.dice.Int64N(int64(10 * time.Second)))
		go w.bounded("Hub.Subscribe", 10*time.Second, func(ctx ctx) {
			if sub, err := h.hub.Subscribe(ctx, "t:*", topicName(1)); err == nil {
				f := &feed{w: w, sub: sub, lazy: true}
				go f.listen()
				go func() {
					w.block(d + 1)
					sub.Close()
				}()
			}
		})
	}},
	{"a spoke closes", func(w *world) {
		if s := w.some(); s != nil {
			s.close(false)
		}
	}},
	{"a spoke closes beside publishers", func(w *world) {
		if s := w.some(); s != nil {
			s.closeBeside(1+w.dice.IntN(8), 1+w.dice.IntN(10))
		}
	}},
	{"an endpoint closes under its spoke", func(w *world) {
		if s := w.some(); s != nil && w.dice.IntN(3) == 0 {
			w.logf("the endpoint of spoke %d closes", s.number)
			s.endpoint.Close()
		}
	}},
	{"shutdown", func(w *world) {
		if h := w.hub; !h.down.Load() {
			limit := time.Duration(1 + w.dice.Int64N(int64(30*time.Second)))
			for range w.dice.IntN(17) { // while others publish
				go h.publish(w.source(h, nil), 1+w.dice.IntN(40), 0)
			}
			go h.stop(true, limit)
			if w.dice.IntN(4) == 0 {
				go h.stop(w.dice.IntN(2) == 0, limit)
			}
		}
	}},
	{"close", func(w *world) {
		if h := w.hub; !h.down.Load() && w.dice.IntN(3) == 0 {
			go h.stop(false, 0)
		}
	}},
	{"the hub's endpoint closes", func(w *world) {
		if h := w.hub; !h.down.Load() && w.dice.IntN(3) == 0 {
			w.logf("the hub's endpoint closes")
			h.down.Store(true)
			h.endpoint.Close()
		}
	}},
	{"restart", func(w *world) {
		if w.hub.down.Load() {
			w.hub.await()
			w.rest(w.startHub)
		}
	}},
	{"a connection is cut", func(w *world) { w.net.cutOne(w.dice) }},
	{"a stream stalls", func(w *world) { w.net.stallOne(w.dice) }},
	{"noise", func(w *world) { w.hostile("noise", noise) }},
	{"silent", func(w *world) { w.hostile("silent", silent) }},
	{"streams", func(w *world) { w.hostile("streams", streams) }},
	{"crowd", func(w *world) { w.hostile("crowd", crowd) }},
	{"restless", func(w *world) { w.hostile("restless", restless) }},
	{"dear", func(w *world) { w.hostile("dear", dear) }},
	{"flood", func(w *world) { w.hostile("flood", flood) }},
	{"a bad hub", func(w *world) {
		host := fmt.Sprintf("bad-%d", w.dice.IntN(4))
		id := idOf(1000 + len(host) + int(host[4]))
		w.net.mu.Lock()
		_, there := w.net.endpoints[host]
		w.net.mu.Unlock()
		if !there {
			w.hostile("a hub", badHub(host, id))
		}
		for _, s := range w.spokes {
			if s.host == host && !s.over() {
				s.wake()
				return
			}
		}
		w.newSpoke(host, id).wake()
	}},
}

// some returns a random spoke.
func (w *world) some() *spoke {
	if len(w.spokes) == 0 {
		return nil
	}
	s := w.spokes[w.dice.IntN(len(w.spokes))]
	if s.over() { // a second call is useless, but must do no harm
		s = w.spokes[w.dice.IntN(len(w.spokes))]
	}
	return s
}

func newPlan(r *rand.Rand) (p plan) {
	some := func(of ...int) int { return of[r.IntN(len(of))] }
	seconds := func(of ...int) time.Duration { return time.Duration(some(of...)) * time.Second }
	p.spokes, p.steps = some(2, 4, 8, 12), some(60, 120)
	p.hub = irohub.HubOptions{
		MaxFrame:          some(64<<10, 1<<20),
		MaxQueue:          some(2<<10, 8<<10, 64<<10, 1<<20),
		MaxSpokes:         p.spokes + some(0, 1, 2, 8),
		MaxSpokesPerNode:  some(1, 2, 8),
		MaxStreamsPerConn: some(1, 2, 4, 16),
		MaxSubscriptions:  some(64, 1024),
		MaxPending:        some(1, 2, 4, 64),
		HandshakeTimeout:  seconds(2, 5, 10),
		WriteTimeout:      seconds(1, 5, 10),
	}
	p.spoke = irohub.SpokeOptions{
		MaxQueue:         some(2<<10, 64<<10, 1<<20),
		HandshakeTimeout: seconds(2, 10),
		WriteTimeout:     seconds(1, 10),
		MinBackoff:       time.Duration(some(10, 250)) * time.Millisecond,
		MaxBackoff:       seconds(1, 5),
	}
	p.weather = weather{
		latency:   time.Duration(some(0, 1, 20, 500, 3000)) * time.Millisecond,
		split:     some(0, 1, 7, 100, 1000),
		window:    some(0, 300, 1000, 20000),
		cut:       []float64{0, 0, 0.2, 0.8}[r.IntN(4)],
		cutBytes:  some(50, 1000, 20000),
		silent:    []float64{0, 0.5}[r.IntN(2)],
		unreached: []float64{0, 0, 0.2}[r.IntN(3)],
	}
	p.single = 0.4
	p.theme = r.IntN(len(themes))
	theme := themes[p.theme]
	for _, a := range actions {
		n := 0
		if theme.weights == nil && r.IntN(5) < 3 {
			n = 1 + r.IntN(10)
		}
		switch a.name {
		case "dial", "subscribe", "restart": // needed for anything to happen
			n = max(n, 4)
		}
		p.weights = append(p.weights, max(n, theme.weights[a.name]))
	}
	for _, n := range p.weights {
		p.sum += n
	}
	p.every = some(0, 4, 10, 30, 100, 1000)
	p.callback = []float64{0, 0.1, 0.5}[r.IntN(3)]
	p.twins = r.IntN(4) == 0
	p.lazy = []float64{0, 0.3}[r.IntN(2)]
	if theme.change != nil {
		theme.change(&p)
		p.steps, p.every = some(40, 80), some(4, 4, 10, 30)
	}
	return p
}

// themes are the kinds of worlds. About a quarter of the worlds may do anything. In the others, a few
// kinds of actions occur, so that they meet more often.
var themes = []struct {
	weights map[string]int // of the actions; nil: random
	change  func(*plan)
}{
	{}, {}, {},
	{ // spokes that are cut off keep sending requests
		map[string]int{"restless": 8, "the hub publishes": 8, "publish": 2},
		func(p *plan) {
			p.hub.MaxQueue, p.hub.MaxSpokes, p.callback = 4<<10, p.spokes+16, 0
			p.weather = weather{latency: 20 * time.Millisecond, window: 300}
		},
	},
	{ // spokes without a place stay connected
		map[string]int{"crowd": 4, "streams": 8, "silent": 2, "noise": 2},
		func(p *plan) {
			p.spokes, p.hub.MaxSpokes, p.hub.MaxPending, p.hub.MaxStreamsPerConn, p.single = 1, 2, 64, 16, 0
			p.hub.HandshakeTimeout, p.callback = 2*time.Second, 0
			p.weather.latency, p.weather.cut, p.weather.unreached = 20*time.Millisecond, 0, 0
		},
	},
	{ // expensive requests
		map[string]int{"dear": 12, "the hub publishes": 4},
		func(p *plan) { p.spokes, p.callback, p.weather = 2, 0, weather{} },
	},
	{ // hostile hubs
		map[string]int{"a bad hub": 12, "subscribe": 8, "publish": 1},
		func(p *plan) {
			p.spokes, p.callback, p.weather = 0, 0, weather{}
			p.spoke.MinBackoff, p.spoke.MaxBackoff = 10*time.Millisecond, 100*time.Millisecond
		},
	},
	{ // ends, concurrent with everything else
		map[string]int{"shutdown": 5, "the hub publishes": 5, "a spoke closes beside publishers": 3, "restart": 8, "dial": 8, "subscribe": 12},
		func(p *plan) { p.weather.cut, p.hub.MaxQueue, p.spoke.MaxQueue, p.lazy = 0, 64<<10, 64<<10, 0 },
	},
	{ // a hub ends while it publishes
		map[string]int{"shutdown": 16, "restart": 16, "dial": 16, "subscribe": 48},
		func(p *plan) {
			p.spokes, p.hub.MaxSpokes, p.callback, p.lazy = 12, 32, 0, 0
			p.hub.MaxQueue, p.spoke.MaxQueue = 1<<20, 1<<20
			p.spoke.MinBackoff, p.spoke.MaxBackoff = 10*time.Millisecond, 100*time.Millisecond
			p.weather = weather{latency: p.weather.latency % (50 * time.Millisecond)}
		},
	},
	{ // a spoke ends while it publishes
		map[string]int{"a spoke closes beside publishers": 16, "dial": 16},
		func(p *plan) {
			p.spokes, p.hub.MaxSpokes, p.callback, p.lazy = 40, 64, 0, 0
			p.hub.MaxQueue = 1 << 20 // otherwise the hub's own listener could miss events, and nothing could be checked
			p.weather = weather{latency: p.weather.latency % (50 * time.Millisecond)}
		},
	},
	{ // connections lost between a Publish and its Flush
		map[string]int{"publish one and flush, again and again": 12, "a connection is cut": 3},
		func(p *plan) {
			p.callback, p.weather.cut, p.weather.silent = 0, 0, 0
			p.spokes, p.hub.MaxSpokes = 4, 12
		},
	},
}

// keyOf returns the key of a numbered event.
func keyOf(ev irohub.Event) (key eventKey, ok bool) {
	var b body
	topic, err := strconv.Atoi(ev.ID)
	if err != nil || json.Unmarshal(ev.Payload, &b) != nil {
		return key, false
	}
	return eventKey{b.Source, topic, b.N}, true
}

// check checks the invariants that hold when everything is at rest.
func (w *world) check() {
	w.late(false)
	w.hub.check()
	w.kept()
	w.handedOver()
}

// running returns the calls with a name that have not returned.
func (w *world) running(name string) (running []*call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.calls {
		if c.name == name {
			running = append(running, c)
		}
	}
	return running
}
