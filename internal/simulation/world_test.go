package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/internal/assert"
	"irohub/internal/simulation/yield"
)

// slack is how much longer than its time limit a call may take.
const slack = 2 * time.Second

// A world is a network, a hub that comes and goes, spokes, and attackers. One goroutine takes
// its steps; what they start runs concurrently.
type world struct {
	t    *testing.T
	seed uint64
	dice *rand.Rand // for the steps only
	net  *network
	plan plan

	hub    *hub // the newest; only for the steps, others use lastHub
	hubID  irohub.NodeID
	spokes []*spoke
	evil   []*hostile
	nodes  int

	mu       sync.Mutex
	chances  *rand.Rand // for everything but the steps
	trace    []string
	steps    int
	calm     bool
	release  chan struct{} // closed when blocked callbacks may continue
	calls    map[*call]struct{}
	sources  []*source
	deaf     int // how often the hub's own listener has missed something
	heard    map[eventKey]bool
	mustHear []promise
	handed   []func() // checks for each successful Shutdown
}

// A plan is what a seed chooses. Each world does a part of what is possible, often.
type plan struct {
	theme    int // of themes
	spokes   int
	steps    int
	hub      irohub.HubOptions
	spoke    irohub.SpokeOptions
	weather  weather
	single   float64 // probability that an endpoint's connections have one stream
	weights  []int   // of the actions
	sum      int
	every    int     // mean number of points between interruptions
	callback float64 // probability that a callback does something unusual
	twins    bool
	lazy     float64 // probability that a subscription is read slowly
}

// current is the world that routers report to.
var current atomic.Pointer[world]

func init() {
	assert.Round = func(check func() error) {
		if w := current.Load(); w != nil && w.look() {
			if err := check(); err != nil {
				w.violated("a router's state: %v", err)
			}
		}
	}
}

// look reports whether to check a router's round: all rounds, up to a limit for each step.
var rounds atomic.Int64

func (w *world) look() bool {
	n := rounds.Add(1)
	return n < 200 || n%16 == 0
}

// run is one simulation.
func run(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		key := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("irohub"), seed))
		stream := func(n uint64) *rand.Rand {
			return rand.New(rand.NewPCG(binary.BigEndian.Uint64(key[:]), n))
		}
		w := &world{
			t: t, seed: seed,
			dice: stream(1), chances: stream(2), net: newNetwork(stream(3)),
			release: make(chan struct{}), calls: make(map[*call]struct{}), heard: make(map[eventKey]bool),
		}
		w.plan = newPlan(w.dice)
		w.net.single = w.plan.single
		w.hubID = idOf(w.node())
		current.Store(w)
		w.logf("seed %d: theme %d, %d spokes, %d steps, %+v", seed, w.plan.theme, w.plan.spokes, w.plan.steps, w.plan.weather)
		o := w.plan.hub
		w.logf("the hub: MaxQueue %d, MaxSpokes %d, %d a node, %d streams, %d topics, %d pending, HandshakeTimeout %s, WriteTimeout %s", o.MaxQueue, o.MaxSpokes, o.MaxSpokesPerNode, o.MaxStreamsPerConn, o.MaxSubscriptions, o.MaxPending, o.HandshakeTimeout, o.WriteTimeout)
		w.interrupt()
		w.rest(func() { w.startHub(); w.wait(0) })
		for range storms {
			w.storm(w.plan.steps / storms)
			w.rest(func() { w.settle(); w.final() })
		}
		w.end()
		current.Store(nil)
		yield.Start(0, nil)
		w.net.mu.Lock()
		report.steps += w.steps
		report.digest ^= w.net.digest
		w.net.mu.Unlock()
	})
}

// begin allows interruptions, if this build can interrupt goroutines.
func (w *world) interrupt() {
	if interruptible {
		yield.Start(w.plan.every, rand.New(rand.NewPCG(w.seed, 4)))
	}
}

// rest calls do without interruptions, so that the world stays at rest.
func (w *world) rest(do func()) {
	if interruptible {
		yield.Start(0, nil)
		defer w.interrupt()
	}
	do()
}

// node is the number of a new node, which nobody else has: the world and hostile peers ask for
// such at the same time.
func (w *world) node() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes++
	return w.nodes
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := fmt.Sprintf("%10.6f %s", time.Since(epoch).Seconds(), fmt.Sprintf(format, args...))
	if interruptible || *traced { // always in that build: the command decides whether to show it, and nothing else changes
		fmt.Println(line)
		return
	}
	w.trace = append(w.trace, line)
	if n := len(w.trace); n > 60 {
		w.trace = w.trace[n-40:]
	}
}

// epoch is the start of simulated time.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// violated ends the process with a report.
func (w *world) violated(format string, args ...any) {
	w.mu.Lock()
	if len(w.trace) > 0 {
		fmt.Println(strings.Join(w.trace, "\n"))
	}
	fmt.Printf("violated: %s\nat step %d of seed %d\n", fmt.Sprintf(format, args...), w.steps, w.seed)
	os.Exit(3)
}

// chance and pick make random choices for everything but the steps.
func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chances.Float64() < p
}

func (w *world) pick(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chances.IntN(n)
}

func (w *world) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// block delays a callback, until the next calm at the latest.
func (w *world) block(most time.Duration) {
	w.mu.Lock()
	release, calm := w.release, w.calm
	d := time.Duration(w.chances.Int64N(int64(most)))
	w.mu.Unlock()
	if calm {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-release:
	}
}

// A call is a call of irohub that has not returned.
type call struct {
	name  string
	since time.Time
	limit time.Duration // 0: until the next calm
}

// do makes a call that must return in time.
func (w *world) do(name string, limit time.Duration, f func()) {
	c := &call{name, time.Now(), limit}
	w.mu.Lock()
	w.calls[c] = struct{}{}
	w.mu.Unlock()
	f()
	w.mu.Lock()
	delete(w.calls, c)
	w.mu.Unlock()
}

// bounded calls f with a time limit, within which f must return.
func (w *world) bounded(name string, limit time.Duration, f func(ctx context.Context)) {
	w.do(name, limit+slack, func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		f(ctx)
	})
}

// late finds calls that should have returned. all: also those that may last until the calm.
func (w *world) late(all bool) {
	w.mu.Lock()
	var late *call
	for c := range w.calls {
		if age := time.Since(c.since); (c.limit > 0 && age > c.limit || c.limit == 0 && all) && (late == nil || c.name < late.name) {
			late = c
		}
	}
	w.mu.Unlock()
	if late != nil {
		w.violated("a call waits for ever: %s, for %s", late.name, time.Since(late.since))
	}
}

// wait lets simulated time pass and then waits until everything is at rest.
func (w *world) wait(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
	synctest.Wait()
}

const (
	// storms is how many storms a world has, each with a calm behind it.
	storms = 3

	// maxInterruptions is the number of interruptions after which a storm takes no further step.
	// Without it, a world with floods would take a hundred times as long as another.
	maxInterruptions = 30_000
)

// storm takes steps in bad weather.
func (w *world) storm(steps int) {
	began := yield.Count
	w.mu.Lock()
	w.calm, w.release = false, make(chan struct{})
	w.mu.Unlock()
	w.net.mu.Lock()
	w.net.weather = w.plan.weather
	w.net.mu.Unlock()
	for range steps {
		if yield.Count-began > maxInterruptions {
			break
		}
		w.steps++
		rounds.Store(0)
		w.act()
		if w.dice.IntN(4) == 0 { // steps also overlap
			continue
		}
		switch w.dice.IntN(4) {
		case 0:
			w.wait(0)
		case 1:
			w.wait(time.Duration(w.dice.Int64N(int64(100 * time.Millisecond))))
		case 2:
			w.wait(time.Duration(w.dice.Int64N(int64(2 * time.Second))))
		case 3:
			w.wait(time.Duration(w.dice.Int64N(int64(15 * time.Second))))
		}
		w.rest(func() { w.wait(20 * time.Millisecond); w.check() })
	}
}

// act takes one action.
func (w *world) act() {
	n := w.dice.IntN(w.plan.sum)
	for i, a := range actions {
		if n -= w.plan.weights[i]; n < 0 {
			a.do(w)
			return
		}
	}
}

// settle makes the weather calm and waits until every honest spoke must be connected.
func (w *world) settle() {
	w.logf("calm")
	w.mu.Lock()
	w.calm = true
	close(w.release)
	w.mu.Unlock()
	for _, e := range w.evil {
		e.stop()
	}
	w.evil = nil
	w.net.heal()
	for range 10 {
		if w.hub.down.Load() {
			w.hub.await()
			w.startHub()
		}
		for _, s := range w.spokes {
			s.wake()
		}
		w.wait(10 * time.Second)
		w.check()
	}
	w.late(true)
	listed := make(map[irohub.NodeID]int)
	for _, info := range w.hub.hub.Spokes() {
		listed[info.ID]++
	}
	for _, s := range w.spokes {
		switch {
		case !s.alive():
		case s.endpoint.link() == nil:
			w.violated("spoke %d is not connected after 100 s of calm, with a hub that is up", s.number)
		case listed[s.endpoint.ID()] == 0:
			w.violated("spoke %d is connected and the hub does not know", s.number)
		}
	}
}

// final makes everyone publish, and checks that everyone receives it.
func (w *world) final() {
	w.hub.publish(w.source(w.hub, nil), topics, 0)
	for _, s := range w.spokes {
		if s.alive() {
			s.lastWord()
			w.wait(10 * time.Millisecond) // otherwise all of them together could overflow a queue
		}
	}
	w.wait(5 * time.Second)
	w.late(true)
	w.check()
	for _, s := range w.spokes {
		if !s.alive() {
			continue
		}
		_, losses := s.endpoint.lost()
		for _, f := range s.open() {
			if fault := f.watch.missing(nil, losses); fault != "" {
				w.violated("%s has not come to a subscription of spoke %d, and all is at rest", fault, s.number)
			}
		}
	}
	if ear := w.hub.ear; ear != nil && !ear.ended.Load() {
		if fault := ear.watch.missing(nil, 0); fault != "" {
			w.violated("%s has not come to the hub, and all is at rest", fault)
		}
	}
}

// end closes everything and checks that nothing is left.
func (w *world) end() {
	if interruptible {
		yield.Start(0, nil)
	}
	for _, s := range w.spokes {
		if s.alive() && w.dice.IntN(2) == 0 {
			s.close(true)
		}
	}
	w.wait(5 * time.Second)
	w.late(true)
	w.hub.stop(true, time.Minute)
	w.wait(time.Minute)
	w.hub.await()
	w.late(true)
	if s := w.hub.hub.Stats(); s.Spokes != 0 || s.Pending != 0 || s.Listeners != 0 || s.Topics != 0 {
		w.violated("the hub is closed, and there is left: %+v", s)
	}
	for _, s := range w.spokes {
		s.close(false)
	}
	w.wait(time.Minute)
	w.late(true)
	for _, s := range w.spokes {
		s.end()
	}
	w.net.closeAll()
	w.wait(time.Minute)
}
