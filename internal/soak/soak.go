package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/key"
)

// A config holds the parameters of a soak.
type config struct {
	transport string
	length    time.Duration
	spokes    int
	topics    int           // in addition to the one for large events
	rate      int           // the hub's events per second; a publishing spoke sends a twentieth of that
	pace      time.Duration // time between changes of a spoke's subscriptions; its connections last ten times as long
	out       io.Writer
}

// A soak is one run: a hub and many spokes, each an actor.
type soak struct {
	// Immutable.
	config
	ledger *ledger
	hub    *irohub.Hub
	own    *source // the hub's source
	addr   irohub.Addr

	// The steps of the end, which all actors take together. run closes each channel.
	rest  chan struct{} // make no more changes, and be connected
	last  chan struct{} // publish a last event on each topic
	check chan struct{} // check that everything has arrived, and leave

	resting    sync.WaitGroup // actors that are not at rest yet
	publishing sync.WaitGroup // actors that have not published their last event yet
	actors     sync.WaitGroup

	frozen sync.Map // from the irohub.NodeID of a spoke that does not read to a channel that reports its cut

	// Counts.
	checked   atomic.Int64 // events checked
	connects  atomic.Int64
	returns   atomic.Int64 // reconnections of Spokes
	cuts      atomic.Int64 // spokes cut off that did not read, as intended
	dozes     atomic.Int64 // Subscriptions that ended as too slow, as intended
	unplanned atomic.Int64 // spokes cut off that read, but too slowly on this machine
	redials   atomic.Int64 // dials that failed because the hub or the machine was too busy
	unheard   atomic.Int64 // connections that ended without the peer's close code
	faults    atomic.Int64
}

// fail reports a violation.
func (s *soak) fail(format string, args ...any) {
	if n := s.faults.Add(1); n <= 20 {
		fmt.Fprintf(s.out, "VIOLATION: "+format+"\n", args...)
	} else if n == 21 {
		fmt.Fprintln(s.out, "VIOLATION: and more")
	}
}

// patience limits every wait for something that must happen. It does not measure speed.
const patience = 5 * time.Minute

// run runs a soak. It returns an error if there was a violation or if the soak could not run.
func run(ctx context.Context, c config) error {
	s := &soak{
		config: c,
		ledger: &ledger{topics: c.topics + 1},
		rest:   make(chan struct{}),
		last:   make(chan struct{}),
		check:  make(chan struct{}),
	}
	s.own = s.ledger.open(irohub.NodeID{})
	if err := transports.Start(ctx, c.transport); err != nil {
		return err
	}
	base := measure()
	fmt.Fprintln(s.out, "before:", base)

	ep, err := transports.Bind(ctx, c.transport, key.Secret{}, transports.Loopback)
	if err != nil {
		return err
	}
	s.addr = ep.Addr()
	if s.hub, err = irohub.NewHub(irohub.HubOptions{
		Forward:      func(irohub.NodeID, string) bool { return true },
		OnDisconnect: s.disconnected,
	}, ep); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.hub.Serve(context.WithoutCancel(ctx)) }()

	samples := s.live(ctx)
	if stats := emptied(s.hub); stats.Spokes+stats.Pending+stats.Topics+stats.Listeners > 0 {
		s.fail("all have left, and the hub still has %+v", stats)
	}
	stats := s.hub.Stats()
	s.hub.Close()
	if err := <-served; !errors.Is(err, irohub.ErrHubClosed) {
		s.fail("Serve: %v", err)
	}
	ep.Close()

	if s.length >= time.Minute { // a shorter soak mostly warms up
		s.flat(samples)
	}
	// The runtime keeps some hundred bytes for each goroutine of the highest number that ever ran; malloc
	// and the runtime keep freed memory for reuse.
	peak := 0
	for _, u := range samples {
		peak = max(peak, u.goroutines)
	}
	after, over := settled(base, usage{heap: 1<<20 + int64(peak)<<11, resident: 1 << 40})
	if over != "" {
		s.fail("after the end: %s", over)
	}
	s.summarize(stats, after)
	if n := s.faults.Load(); n > 0 {
		return fmt.Errorf("%d violations", n)
	}
	return ctx.Err()
}

// live runs the soak from the first spoke to the last, and returns samples of the usage.
func (s *soak) live(ctx context.Context) []usage {
	all := make([]int, s.ledger.topics)
	for t := range all {
		all[t] = t
	}
	s.publishing.Add(1)
	s.actors.Go(s.publishAsHub)
	s.resting.Add(1 + s.spokes)
	s.actors.Go(func() { s.listenAsHub(all) })
	for i := range s.spokes {
		s.actors.Go(func() { s.actor(i, all) })
	}
	samples := s.watchUsage(ctx)
	close(s.rest)
	s.resting.Wait()
	close(s.last)
	s.publishing.Wait()
	close(s.check)
	s.actors.Wait()
	return samples
}

func (s *soak) disconnected(info irohub.SpokeInfo, err error) {
	cut, frozen := s.frozen.Load(info.ID)
	switch code, ok := closedWith(err); {
	case frozen && ok && tooSlow(code):
		s.cuts.Add(1)
		select {
		case cut.(chan struct{}) <- struct{}{}:
		default: // the spoke has stopped waiting
		}
	case ok && tooSlow(code):
		s.unplanned.Add(1)
	case !ok && errors.Is(err, net.ErrClosed):
		s.unheard.Add(1)
	case !ok || code != 0:
		s.fail("spoke %s of the hub ended with %v", info.ID, err)
	}
}

// tooSlow reports whether a code is for a peer that does not read: too much is queued, or the transport
// makes no progress.
func tooSlow(code uint64) bool { return code == irohub.CodeSlow || code == irohub.CodeTimeout }

// emptied waits until the hub has noticed that all have left.
func emptied(hub *irohub.Hub) (stats irohub.Stats) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if stats = hub.Stats(); stats.Spokes+stats.Pending+stats.Topics+stats.Listeners == 0 {
			break
		}
	}
	return stats
}

// watchUsage shows progress and takes samples until the soak's time is over.
func (s *soak) watchUsage(ctx context.Context) (samples []usage) {
	timer := time.NewTimer(s.length)
	defer timer.Stop()
	ticker := time.NewTicker(min(s.length/12, 5*time.Second))
	defer ticker.Stop()
	begin := time.Now()
	for {
		select {
		case <-ticker.C:
			u := measure()
			samples = append(samples, u)
			fmt.Fprintf(s.out, "%4.0f s: %d spokes, %d deliveries checked, %d cuts, %d reconnects; %s\n",
				time.Since(begin).Seconds(), s.hub.Stats().Spokes, s.checked.Load(), s.cuts.Load(), s.returns.Load(), u)
		case <-timer.C:
			return samples
		case <-ctx.Done():
			fmt.Fprintln(s.out, "interrupted; coming to the end")
			return samples
		}
	}
}

// flat compares the last third of the samples with the second. The first third is for warming up.
func (s *soak) flat(samples []usage) {
	third := len(samples) / 3
	if third == 0 {
		return
	}
	before, after := typical(samples[third:2*third]), typical(samples[2*third:])
	// Spokes come and go at random, so the usage varies.
	slack := usage{
		goroutines: before.goroutines/10 + 20,
		files:      before.files/10 + 10,
		heap:       before.heap/5 + 4<<20,
		resident:   before.resident/10 + 32<<20,
	}
	if over := after.over(before, slack); over != "" {
		s.fail("it grows: in the last third, against the one before: %s", over)
	}
	fmt.Fprintf(s.out, "middle third: %s\nlast third:   %s\n", before, after)
}

func (s *soak) summarize(stats irohub.Stats, after usage) {
	events := uint64(0)
	for _, src := range s.ledger.all() {
		for t := range src.next {
			events += src.next[t].Load()
		}
	}
	fmt.Fprintf(s.out, `after:        %s
over %s: %d events of %d sources, %d delivered by the hub, %d deliveries checked
%d connections, %d reconnects; cut off on purpose: %d spokes, %d Subscriptions; cut off besides: %d
%d connections ended without a code, %d attempts to connect failed; %d violations
`, after, s.transport, events, len(s.ledger.all()), stats.Delivered, s.checked.Load(),
		s.connects.Load(), s.returns.Load(), s.cuts.Load(), s.dozes.Load(), s.unplanned.Load(),
		s.unheard.Load(), s.redials.Load(), s.faults.Load())
}

// around returns a random duration with the mean d.
func around(d time.Duration) time.Duration { return d/2 + rand.N(d) }

const (
	smallPad = 400      // bytes; most small events have half of this on average
	largePad = 32 << 10 // bytes; large, so that a spoke that does not read is soon too slow
	tick     = 20 * time.Millisecond
)

// publishAsHub publishes on every topic until the end.
func (s *soak) publishAsHub() {
	publish := func(topic, pad int) {
		if err := s.hub.Publish(context.Background(), s.own.event(topic, pad)); err != nil {
			s.fail("the hub publishes: %v", err)
		}
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	owed := 0.0
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
		case <-s.last:
			for t := range s.ledger.topics {
				publish(t, 0)
			}
			s.own.state.Store(final)
			s.publishing.Done()
			return
		}
		for owed += float64(s.rate) * tick.Seconds(); owed >= 1; owed-- {
			publish(rand.IntN(s.topics), rand.IntN(smallPad))
		}
		if n%4 == 0 {
			publish(s.topics, largePad)
		}
	}
}

// listenAsHub checks that the hub's own Subscriptions receive everything that spokes publish.
func (s *soak) listenAsHub(all []int) {
	w := s.ledger.newWatch(s.own, nil, all...)
	sub, err := s.hub.Subscribe(context.Background())
	if err != nil {
		s.fail("the hub subscribes: %v", err)
		s.resting.Done()
		return
	}
	w.begin()
	l := s.listen("the hub", sub, w)
	<-s.rest
	s.resting.Done()
	<-s.check
	l.wantAll(func() bool { return false })
	l.close()
}
