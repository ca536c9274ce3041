package siege

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/irohubtest"
)

// A brawl does everything at the same time, until the hub is ended: publishers, listeners,
// spokes that come and go, connections that break, peers that do not read or that break the
// protocol. In memory it runs in a synctest bubble, which detects deadlocks and waits for every
// goroutine. It is meant for the race detector.
type brawl struct {
	testing.TB
	ctx  context.Context
	bind func() endpoint
	most time.Duration // the longest wait until all callbacks have been called
	hub  *irohub.Hub

	closeServe context.CancelFunc
	calls      map[string]*atomic.Int64 // number of calls of each callback
	on         func(callback string)    // called in each callback; may be nil
	spokeOn    func(callback string, s *irohub.Spoke)
}

// The callbacks of hubs and of spokes.
var (
	hubCallbacks   = []string{"Admit", "AllowSubscribe", "AllowPublish", "Forward", "OnConnect", "OnBackpressure", "OnDisconnect"}
	spokeCallbacks = []string{"spoke's OnDisconnect", "spoke's OnReconnect", "spoke's OnRefused"}
)

// inEach runs a brawl in memory and over the first transport of the list. Over the others,
// tests only end the hub from outside, because the races of a brawl do not depend on the
// transport.
func inEach(t *testing.T, run func(b *brawl)) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			network := irohubtest.NewNetwork()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // simulated time
			defer cancel()
			run(&brawl{TB: t, ctx: ctx, most: time.Hour, bind: func() endpoint { return network.Endpoint() }})
		})
	})
	first := transports.Names()[0]
	t.Run(first, func(t *testing.T) { over(newSiege(t, first), run) })
}

func over(s *siege, run func(b *brawl)) {
	run(&brawl{TB: s.TB, ctx: s.ctx, most: 2 * time.Second, bind: s.bind})
}

func TestRace_EndedFromOutside(t *testing.T) {
	ends := map[string]func(b *brawl){
		"Close":    func(b *brawl) { b.hub.Close() },
		"Shutdown": func(b *brawl) { b.hub.Shutdown(b.ctx) },
		"context":  func(b *brawl) { b.closeServe() },
	}
	ends["all"] = func(b *brawl) {
		for _, end := range []string{"Close", "Shutdown", "context"} {
			go ends[end](b)
		}
	}
	for name, end := range ends {
		run := func(b *brawl) {
			b.fight(func() {
				start := time.Now()
				for _, n := range b.calls { // so that all callbacks have taken part; in memory, they must
					for n.Load() == 0 && time.Since(start) < b.most {
						time.Sleep(time.Millisecond)
					}
				}
				for range 3 {
					go end(b)
				}
			})
		}
		t.Run(name, func(t *testing.T) {
			inEach(t, run)
			for _, other := range transports.Names()[1:] {
				if name == "all" {
					t.Run(other, func(t *testing.T) { over(newSiege(t, other), run) })
				}
			}
		})
	}
}

func TestRace_EndedFromWithinACallback(t *testing.T) {
	for _, callback := range hubCallbacks {
		t.Run(callback, func(t *testing.T) {
			inEach(t, func(b *brawl) {
				b.on = func(name string) {
					if name != callback || b.calls[name].Load() < 3 {
						return
					}
					if rand.IntN(2) == 0 {
						b.hub.Shutdown(b.ctx)
					}
					b.hub.Close()
				}
				b.fight(func() {})
			})
		})
	}
}

func TestRace_SpokeEndedFromWithinItsCallback(t *testing.T) {
	for _, callback := range spokeCallbacks {
		t.Run(callback, func(t *testing.T) {
			inEach(t, func(b *brawl) {
				closed := make(chan struct{})
				var once sync.Once
				b.spokeOn = func(name string, s *irohub.Spoke) {
					if name == callback {
						s.Close()
						once.Do(func() { close(closed) })
					}
				}
				b.fight(func() {
					select {
					case <-closed:
					case <-b.ctx.Done():
					}
					b.hub.Close()
				})
			})
		})
	}
}

// fight runs the brawl until end or a callback has ended the hub.
func (b *brawl) fight(end func()) {
	b.calls = make(map[string]*atomic.Int64)
	for _, name := range append(hubCallbacks, spokeCallbacks...) {
		b.calls[name] = new(atomic.Int64)
	}
	ep := b.bind()
	var err error
	if b.hub, err = irohub.NewHub(b.options(), ep); err != nil {
		b.Fatal(err)
	}
	serving, cancel := context.WithCancel(b.ctx)
	b.closeServe = cancel
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- b.hub.Serve(serving) }()

	var all sync.WaitGroup
	many := func(n int, act func()) {
		for range n {
			all.Go(func() {
				for b.alive() {
					act()
					pause()
				}
			})
		}
	}
	many(3, b.publish)
	many(3, b.listen)
	many(4, func() { b.spoke(ep.Addr()) })
	many(2, func() { b.frozen(ep.Addr()) })
	many(1, func() { b.offender(ep.Addr()) })
	many(1, func() { b.hub.Stats(); b.hub.Spokes(); b.hub.Topics() })
	all.Go(end)
	all.Wait()

	for range 2 { // twice concurrently
		all.Go(func() { b.hub.Close() })
		all.Go(func() { b.hub.Shutdown(b.ctx) })
	}
	all.Wait()
	if err := <-served; !errors.Is(err, irohub.ErrHubClosed) {
		b.Errorf("Serve: %v", err)
	}
	if b.ctx.Err() != nil {
		b.Errorf("nobody has ended the hub; calls: %v", b.counts())
	}
	if stats := b.hub.Stats(); stats.Spokes != 0 || stats.Listeners != 0 || stats.Pending != 0 || stats.Topics != 0 {
		b.Errorf("left behind: %+v", stats)
	}
	ep.Close()
}

func (b *brawl) counts() map[string]int64 {
	counts := make(map[string]int64)
	for name, n := range b.calls {
		counts[name] = n.Load()
	}
	return counts
}

func (b *brawl) alive() bool {
	return b.ctx.Err() == nil && !errors.Is(b.hub.Publish(b.ctx, numbered("quiet", 0)), irohub.ErrHubClosed)
}

func pause() { time.Sleep(rand.N(2 * time.Millisecond)) }

// options makes every callback use the hub, and then call b.on.
func (b *brawl) options() irohub.HubOptions {
	call := func(name string) {
		b.calls[name].Add(1)
		switch rand.IntN(8) { // not always, otherwise nothing else would happen
		case 0:
			b.publish()
		case 1:
			if sub, err := b.hub.Subscribe(b.ctx, "n:*"); err == nil {
				sub.Close()
			}
		case 2:
			b.hub.Stats()
			b.hub.Spokes()
			b.hub.Topics()
		}
		if b.on != nil {
			b.on(name)
		}
	}
	return irohub.HubOptions{
		MaxQueue: 20_000, MaxSpokes: 12, MaxPending: 8,
		Admit:          func(context.Context, irohub.NodeID) error { call("Admit"); return nil },
		AllowSubscribe: func(irohub.NodeID, string) error { call("AllowSubscribe"); return nil },
		AllowPublish: func(_ irohub.NodeID, topic string) error {
			call("AllowPublish")
			if topic == "refused" {
				return errors.New("no")
			}
			return nil
		},
		Forward:        func(irohub.NodeID, string) bool { call("Forward"); return true },
		OnConnect:      func(irohub.SpokeInfo) { call("OnConnect") },
		OnBackpressure: func(irohub.SpokeInfo) { call("OnBackpressure") },
		OnDisconnect:   func(irohub.SpokeInfo, error) { call("OnDisconnect") },
	}
}

var large = []byte(`"` + strings.Repeat("x", 4000) + `"`)

func (b *brawl) publish() {
	for range 4 {
		b.hub.Publish(b.ctx, irohub.Event{Type: "n", ID: "x", Payload: large})
	}
}

func (b *brawl) listen() {
	sub, err := b.hub.Subscribe(b.ctx, "n:*", "more")
	if err != nil {
		return
	}
	go sub.Close() // concurrently with reading
	for range sub.Events() {
	}
}

// spoke connects a spoke, uses all of its methods, and closes it, while its connection breaks.
func (b *brawl) spoke(hub irohub.Addr) {
	ep := fragile{b.bind()}
	defer ep.Close()
	var own atomic.Pointer[irohub.Spoke]
	call := func(name string) {
		s := own.Load()
		if s == nil { // Dial has not returned yet
			return
		}
		b.calls[name].Add(1)
		b.use(s)
		if b.spokeOn != nil {
			b.spokeOn(name, s)
		}
	}
	// If the hub has ended, nobody answers.
	dialling, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	s, err := irohub.Dial(dialling, ep, hub, irohub.SpokeOptions{
		MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
		OnDisconnect: func(error) { call("spoke's OnDisconnect") },
		OnReconnect:  func() { call("spoke's OnReconnect") },
		OnRefused:    func(error) { call("spoke's OnRefused") },
	})
	if err != nil {
		return
	}
	own.Store(s)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 30 {
				b.use(s)
				pause()
			}
		})
	}
	if rand.IntN(2) == 0 {
		all.Go(func() { s.Close() }) // concurrently with the others
	}
	all.Wait()
	s.Close()
	s.Close()
}

// use calls one of a spoke's methods, for a while.
func (b *brawl) use(s *irohub.Spoke) {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Millisecond)
	defer cancel()
	switch rand.IntN(4) {
	case 0:
		s.Publish(ctx, irohub.Event{Type: "refused"})
	case 1:
		s.Publish(ctx, irohub.Event{Type: "n", ID: "x", Payload: large})
	case 2:
		s.Flush(ctx)
	case 3:
		if sub, err := s.Subscribe(ctx, "n:*", "more"); err == nil {
			go sub.Close()
			for range sub.Events() {
			}
		}
	}
}

// A fragile endpoint has connections that break after a while.
type fragile struct{ endpoint }

func (f fragile) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	c, err := f.endpoint.Dial(ctx, addr)
	if err == nil {
		time.AfterFunc(rand.N(100*time.Millisecond), func() { c.Close(irohub.CodeTimeout, "broken") })
	}
	return c, err
}

// frozen subscribes and does not read until it is cut off.
func (b *brawl) frozen(hub irohub.Addr) {
	b.byHand(hub, func(ctx context.Context, c irohub.Conn, s irohub.Stream) {
		s.Write(ctx, frame(`{"type":"__subscribe","payload":{"topics":["n:*","more"]}}`))
		c.Wait(ctx)
	})
}

// offender breaks the protocol at some point, or just leaves.
func (b *brawl) offender(hub irohub.Addr) {
	b.byHand(hub, func(ctx context.Context, c irohub.Conn, s irohub.Stream) {
		s.Write(ctx, frame(`{"type":"__subscribe","payload":{"topic":"n:*"}}`))
		s.Write(ctx, frame(`{"type":"n","id":"x"}`))
		pause()
		switch rand.IntN(4) {
		case 0:
			s.Write(ctx, make([]byte, 4))
			c.Wait(ctx)
		case 1:
			s.Abort(9)
		case 2:
			s.CloseWrite(ctx)
		}
	})
}

func (b *brawl) byHand(hub irohub.Addr, act func(context.Context, irohub.Conn, irohub.Stream)) {
	ep := b.bind()
	defer ep.Close()
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	c, err := ep.Dial(ctx, hub)
	if err != nil {
		return
	}
	defer c.Close(0, "")
	if s, err := c.OpenStream(ctx); err == nil {
		act(ctx, c, s)
	}
}
