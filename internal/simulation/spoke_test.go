package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"irohub"
)

// A spoke is an honest spoke. Its worker does one thing after another.
type spoke struct {
	w        *world
	number   int
	endpoint *endpoint
	twin     bool   // shares its NodeID, and so may be replaced
	host     string // the hub's host
	hubID    irohub.NodeID
	jobs     chan func(*irohub.Spoke)

	dialling atomic.Bool
	spoke    atomic.Pointer[irohub.Spoke]
	ending   atomic.Bool  // the test is ending it
	others   atomic.Int64 // how many Flushes of callbacks have begun and have ended: odd while one runs
	ended    chan struct{}

	// Guarded by world.mu.
	feeds  []*feed
	doomed bool // it ended by itself, which was allowed
	told   bool // it reported that accepted events may be lost
}

// A promise records that the hub has taken events, at a time when its own listener had missed
// nothing.
type promise struct {
	what string
	keys []eventKey
	deaf int
	by   *spoke
}

func (w *world) newSpoke(host string, hubID irohub.NodeID) *spoke {
	s := &spoke{
		w: w, number: len(w.spokes) + 1, host: host, hubID: hubID,
		jobs: make(chan func(*irohub.Spoke), 64), ended: make(chan struct{}),
	}
	id := idOf(w.node())
	if w.plan.twins && len(w.spokes) > 0 && w.dice.IntN(4) == 0 {
		other := w.spokes[w.dice.IntN(len(w.spokes))]
		other.twin, s.twin = true, true
		id = other.endpoint.ID()
	}
	s.endpoint = w.net.endpoint(id, fmt.Sprintf("spoke-%d", s.number))
	w.mu.Lock()
	w.spokes = append(w.spokes, s)
	w.mu.Unlock()
	return s
}

func (w *world) everySpoke() []*spoke {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.spokes)
}

// honest reports whether the spoke's hub is honest.
func (s *spoke) honest() bool { return s.host == hubHost }

// alive reports whether the spoke must be connected when all is well.
func (s *spoke) alive() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.honest() && !s.doomed && !s.ending.Load() && !isClosed(s.endpoint.closed)
}

// wake dials unless there is a Spoke.
func (s *spoke) wake() {
	if s.spoke.Load() != nil || s.ending.Load() || isClosed(s.endpoint.closed) || s.dialling.Swap(true) {
		return
	}
	opts := s.w.plan.spoke
	opts.OnDisconnect = func(err error) { s.disconnected(err) }
	opts.OnReconnect = func() { s.callback("OnReconnect") }
	opts.OnRefused = func(error) { s.callback("OnRefused") }
	go func() {
		s.w.bounded(fmt.Sprintf("Dial of spoke %d", s.number), 15*time.Second, func(ctx context.Context) {
			sp, err := irohub.Dial(ctx, s.endpoint, irohub.Addr{ID: s.hubID, Hosts: []string{s.host}}, opts)
			s.w.logf("spoke %d has dialled: %v", s.number, err)
			if err == nil {
				s.spoke.Store(sp)
				go s.work(sp)
			}
		})
		s.dialling.Store(false)
	}()
}

func (s *spoke) work(sp *irohub.Spoke) {
	for {
		select {
		case job := <-s.jobs:
			job(sp)
		case <-s.ended:
			return
		}
	}
}

// job gives the worker something to do, unless its queue is full.
func (s *spoke) job(f func(*irohub.Spoke)) {
	select {
	case s.jobs <- f:
	default:
	}
}

// disconnected is OnDisconnect.
func (s *spoke) disconnected(err error) {
	s.w.logf("spoke %d is disconnected: %v", s.number, err)
	var end *irohub.CloseError
	if errors.As(err, &end) && s.honest() {
		switch end.Code {
		case irohub.CodeProtocol, irohub.CodeForbidden:
			s.w.violated("the hub has ended honest spoke %d: %v", s.number, err)
		case irohub.CodeTooMany:
			if !s.twin {
				s.w.violated("the hub has replaced spoke %d, which is the only one of its node: %v", s.number, err)
			}
			s.w.mu.Lock()
			s.doomed, s.told = true, true
			s.w.mu.Unlock()
		}
	}
	if end != nil && !s.honest() && (end.Code == irohub.CodeProtocol || end.Code == irohub.CodeForbidden || end.Code == irohub.CodeTooMany) {
		s.w.mu.Lock()
		s.doomed = true
		s.w.mu.Unlock()
	}
	s.callback("OnDisconnect")
}

// over reports whether the spoke has ended or is about to.
func (s *spoke) over() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.doomed || s.ending.Load()
}

// callback does something that a callback is allowed to do.
func (s *spoke) callback(name string) {
	w, sp := s.w, s.spoke.Load()
	if sp == nil || !w.odd() {
		return
	}
	name = fmt.Sprintf("spoke %d, in %s: ", s.number, name)
	ctx, limit := context.Background(), time.Duration(0)
	if !s.honest() { // a hostile hub need not answer
		var cancel func()
		limit = 10 * time.Second
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
		limit += slack
	}
	switch w.pick(8) {
	case 0:
		w.block(time.Minute)
	case 1:
		panic(name + "panics")
	case 2:
		w.logf("%sSubscribe", name)
		w.do(name+"Subscribe", limit, func() {
			if sub, err := sp.Subscribe(ctx, "t:*", "callback"); err == nil {
				sub.Close()
			}
		})
	case 3:
		w.logf("%sFlush", name)
		s.others.Add(1)
		w.do(name+"Flush", limit, func() { sp.Flush(ctx) })
		s.others.Add(1)
	case 4:
		w.logf("%s70 times Publish", name)
		w.do(name+"Publish", limit, func() {
			for range 70 {
				sp.Publish(ctx, irohub.Event{Type: "unforwarded"})
			}
		})
	case 5:
		if w.pick(4) == 0 {
			s.close(false)
		}
	}
}

// alone returns a function that reports whether the worker's Flush has been the only one since.
// Otherwise another may have returned the failure, which is reported once.
func (s *spoke) alone() func() bool {
	before := s.others.Load()
	return func() bool { return before%2 == 0 && s.others.Load() == before }
}

// publish makes the worker publish numbered events, and sometimes flush.
func (s *spoke) publish(src *source, events, pad int, flush bool) func(*irohub.Spoke) {
	w := s.w
	return func(sp *irohub.Spoke) {
		p, alone := promise{by: s, deaf: w.deafness()}, s.alone()
		for i := range events {
			topic := i % topics
			if !w.isCalm() {
				topic = w.pick(topics)
			}
			ev, key := w.begin(src, topic, pad)
			w.bounded(fmt.Sprintf("Publish of spoke %d", s.number), 10*time.Second, func(ctx context.Context) {
				err := sp.Publish(ctx, ev)
				w.published(src, key, err)
				if err == nil {
					p.keys = append(p.keys, key)
				}
			})
		}
		if flush {
			w.bounded(fmt.Sprintf("Flush of spoke %d", s.number), 20*time.Second, func(ctx context.Context) {
				err := sp.Flush(ctx)
				switch {
				case err == nil && s.honest() && alone():
					p.what = fmt.Sprintf("Flush of spoke %d returned nil", s.number)
					w.promised(p)
				case w.isCalm():
					w.logf("Flush of spoke %d in calm: %v", s.number, err)
				}
			})
		}
	}
}

func (w *world) deafness() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deaf
}

func (w *world) promised(p promise) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mustHear = append(w.mustHear, p)
}

// kept checks that the hub has received everything promised. The world is at rest.
func (w *world) kept() {
	w.mu.Lock()
	fault := ""
	for _, p := range w.mustHear {
		if p.deaf != w.deaf {
			continue // unknown
		}
		for _, key := range p.keys {
			if !w.heard[key] {
				fault = fmt.Sprintf("%s, and the hub has not had event %d of source %d on %s", p.what, key.n, key.source, topicName(key.topic))
			}
		}
	}
	w.mustHear = nil
	w.mu.Unlock()
	if fault != "" {
		w.violated("%s", fault)
	}
}

// lastWord makes the spoke publish to each topic in the calm, which must succeed.
func (s *spoke) lastWord() {
	src := s.w.source(nil, s)
	publish := s.publish(src, topics, 0, false)
	s.job(func(sp *irohub.Spoke) {
		s.w.bounded(fmt.Sprintf("Flush of spoke %d in calm", s.number), 5*time.Second, func(ctx context.Context) {
			sp.Flush(ctx) // this reports earlier losses
			publish(sp)
			if err := sp.Flush(ctx); err != nil && s.alive() {
				s.w.violated("Flush of spoke %d in calm: %v", s.number, err)
			}
		})
	})
}

// A feed is a Subscription with its reader.
type feed struct {
	w     *world
	name  string
	sub   *irohub.Subscription
	watch *watch
	lazy  bool
	ended atomic.Bool
}

// listen reads all events.
func (f *feed) listen() {
	for ev := range f.sub.Events() {
		if f.watch != nil && ev.Type == "t" {
			if fault := f.watch.see(ev); fault != "" {
				f.w.violated("%s subscription: %s", f.name, fault)
			}
			if f.watch.spoke == nil {
				f.w.hear(ev)
			}
		}
		if f.lazy {
			f.w.block(time.Second)
		}
	}
	f.ended.Store(true)
}

// hear records an event that the hub received.
func (w *world) hear(ev irohub.Event) {
	key, ok := keyOf(ev)
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok {
		w.heard[key] = true
	}
}

// open returns the spoke's subscriptions that have not ended.
func (s *spoke) open() (open []*feed) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, f := range s.feeds {
		if !f.ended.Load() {
			open = append(open, f)
		}
	}
	return open
}

// subscribe makes a subscription in a separate goroutine.
func (s *spoke) subscribe(lazy bool, names ...string) {
	sp, w := s.spoke.Load(), s.w
	if sp == nil {
		return
	}
	go w.bounded(fmt.Sprintf("Subscribe of spoke %d", s.number), time.Duration(1+w.pick(int(20*time.Second))), func(ctx context.Context) {
		v := w.watch(s, names...)
		sub, err := sp.Subscribe(ctx, names...)
		w.logf("spoke %d has subscribed to %d topics, %s: %v", s.number, len(names), names[0], err)
		if err != nil {
			return
		}
		v.begin()
		f := &feed{w: w, sub: sub, watch: v, lazy: lazy, name: fmt.Sprintf("spoke %d's", s.number)}
		if !s.honest() {
			f.watch = nil
		}
		w.mu.Lock()
		s.feeds = append(s.feeds, f)
		w.mu.Unlock()
		go f.listen()
	})
}

// close closes the Spoke. sound: closing must succeed.
func (s *spoke) close(sound bool) {
	w, sp := s.w, s.spoke.Load()
	if s.ending.Swap(true) && sound || sp == nil {
		return
	}
	w.logf("spoke %d closes", s.number)
	run := func() {
		var err error
		w.do(fmt.Sprintf("Close of spoke %d", s.number), 2*time.Minute, func() { err = sp.Close() })
		s.closed(err)
		if sound && err != nil {
			w.violated("Close of spoke %d in calm: %v", s.number, err)
		}
	}
	if sound {
		run()
	} else {
		go run()
	}
}

func (s *spoke) closed(err error) {
	s.w.logf("spoke %d has closed: %v", s.number, err)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.told = s.told || err != nil
}

// closeBeside closes the Spoke while others publish, and checks that no accepted event is lost.
func (s *spoke) closeBeside(publishers, events int) {
	w, sp := s.w, s.spoke.Load()
	if sp == nil || !s.honest() || s.ending.Swap(true) {
		return
	}
	w.logf("spoke %d closes, beside %d publishers", s.number, publishers)
	go func() {
		p := promise{what: fmt.Sprintf("Close of spoke %d returned nil", s.number), by: s, deaf: w.deafness()}
		link := s.endpoint.link()
		_, losses := s.endpoint.lost()
		done := make(chan []eventKey, publishers)
		for range publishers {
			src := w.source(nil, s)
			go func() {
				var keys []eventKey
				for range events {
					ev, key := w.begin(src, w.pick(topics), 0)
					w.bounded(fmt.Sprintf("Publish of spoke %d beside Close", s.number), 10*time.Second, func(ctx context.Context) {
						err := sp.Publish(ctx, ev)
						w.published(src, key, err)
						if err == nil {
							keys = append(keys, key)
						}
					})
				}
				done <- keys
			}()
		}
		var err error
		w.do(fmt.Sprintf("Close of spoke %d", s.number), 2*time.Minute, func() { err = sp.Close() })
		s.closed(err)
		for range publishers {
			p.keys = append(p.keys, <-done...)
		}
		if _, now := s.endpoint.lost(); err != nil || link == nil || now > losses+1 {
			return
		}
		w.net.mu.Lock()
		sound := link.ended && !link.faulty && link.code == 0 && link.sides[1].code() == 0
		w.net.mu.Unlock()

		if sound {
			w.promised(p)
		}
	}()
}

// end ends everything that belongs to the spoke except its Spoke.
func (s *spoke) end() {
	close(s.ended)
	s.endpoint.Close()
}
