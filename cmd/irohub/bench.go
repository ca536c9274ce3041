package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"irohub"
)

var benchCommand = command{
	name:     "bench",
	synopsis: "[flags]",
	short:    "Measure what a hub carries",
	text: `Measures how many events a hub on this machine carries: it connects spokes, publishes
events to them, and prints a table of throughput, latency, CPU time and memory.

By default the hub runs in this process. With --hub PEER, bench uses a running hub and
publishes to it as a spoke. That hub must forward events: irohub hub --forward --quiet.
The spokes run in this process too, or with --processes in processes of their own.

Event i goes to topic i modulo --topics, and each spoke subscribes to --subscriptions of
the topics. With --rate, each event has a time at which it is due. Its latency counts from
that time, even if it is published later. Without --rate, bench publishes as fast as all
spokes receive, with at most 1,024 events or 512 KiB undelivered. Latency then counts from
publishing, and is mostly time in queues. Latency ends when the application gets the
event; percentiles are at most 0.8% too high. CPU time and resident memory are those of
all processes that bench has started, not those of the hub at PEER. bench shows its
progress on a terminal, and with -v in the log.

SIGINT, SIGTERM and SIGHUP end it early: it prints the figures so far and exits 1. It also
exits 1 if an event was lost, a spoke was cut off, or the rate was not reached.`,
	setup: func(flags *pflag.FlagSet) action {
		var c benchConfig
		c.declare(flags)
		return c.run
	},
}

type benchConfig struct {
	network
	hub       string
	plan      benchPlan
	rate      float64
	duration  time.Duration
	processes int
	json      bool
}

func (c *benchConfig) declare(flags *pflag.FlagSet) {
	c.declareTransport(flags)
	c.declareRelays(flags)
	flags.StringVar(&c.hub, "hub", "", "use the hub at `PEER`, which must run with --forward; none: run one in this process")
	flags.IntVar(&c.plan.Spokes, "spokes", 64, "the `NUMBER` of spokes, each with its own connection")
	flags.IntVar(&c.plan.Topics, "topics", 1, "the `NUMBER` of topics")
	flags.IntVar(&c.plan.Subscriptions, "subscriptions", 1, "the number of `TOPICS` that each spoke subscribes to")
	flags.IntVar(&c.plan.Size, "size", 256, "the size of a payload in `BYTES`")
	flags.Float64Var(&c.rate, "rate", 0, "the number of `EVENTS` to publish per second; 0: as many as possible")
	durationVar(flags, &c.duration, "for", 10*time.Second, "publish events for this `TIME`")
	flags.IntVar(&c.processes, "processes", 0, "the `NUMBER` of processes for the spokes; 0: they run in this process")
	flags.BoolVar(&c.json, "json", false, "print JSON instead of a table")
}

const (
	maxBenchPayload = 16 << 20
	connectAtOnce   = 64 // spokes that connect at the same time; far below a hub's MaxPending
)

// check checks the flags and completes the plan.
func (c *benchConfig) check() error {
	p := &c.plan
	switch {
	case p.Spokes < 1:
		return usagef("--spokes: at least 1 is needed")
	case p.Topics < 1:
		return usagef("--topics: at least 1 is needed")
	case p.Subscriptions < 1 || p.Subscriptions > p.Topics:
		return usagef("--subscriptions: a number from 1 to the value of --topics is wanted")
	case p.Topics > p.Spokes*p.Subscriptions:
		return usagef("--topics: %d spokes with %d subscriptions each leave some of %d topics without a subscriber", p.Spokes, p.Subscriptions, p.Topics)
	case p.Size < minPayload || p.Size > maxBenchPayload:
		return usagef("--size: a number from %d to %d is wanted", minPayload, maxBenchPayload)
	case !(c.rate >= 0 && c.rate <= 1e9):
		return usagef("--rate: a number from 0 to 1e9 is wanted")
	case c.processes < 0 || c.processes > p.Spokes:
		return usagef("--processes: a number from 0 to the value of --spokes is wanted")
	case c.hub == "" && c.relays != "none":
		return usagef("--relays: this flag needs --hub")
	}
	p.Run = fmt.Sprintf("%08x", rand.Uint32())
	if c.rate == 0 {
		p.pace()
	}
	return nil
}

func (c *benchConfig) run(ctx context.Context, args []string, std stdio) error {
	if len(args) == 1 && args[0] == workerArgument {
		return runWorker(std.in, std.out)
	}
	if err := unexpected(args); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	b := &bench{benchConfig: c, log: std.log, clock: newBenchClock(), progress: progress{screen: std.screen}}
	failed := b.measure(ctx)
	b.progress.clear()
	if b.results == nil { // it ended before there were figures
		return interrupted(ctx, failed)
	}
	f := b.figures()
	printFigures := f.table
	if c.json {
		printFigures = f.json
	}
	return cmp.Or(printFigures(std.out), failed, f.shortcoming(), b.early(ctx))
}

// A bench is one run of the benchmark.
type bench struct {
	*benchConfig
	log      *slog.Logger
	clock    benchClock
	source   source
	crew     *crew
	progress progress

	published atomic.Int64 // number of events published so far; written by the publisher

	// Figures to print.
	start   time.Duration // when publishing began
	events  int
	results []*result
	connect time.Duration // until all spokes were connected
	cpu     time.Duration // of this process; so are memory and idle
	memory  int
	idle    int
}

// measure sets up the run, does it, and ends everything that it has started.
func (b *bench) measure(ctx context.Context) (err error) {
	end, cancel := untilEnd(ctx)
	defer cancel()
	if b.hub == "" {
		err = b.serve(ctx)
	} else {
		err = b.dialHub(ctx, end)
	}
	if err != nil {
		return err
	}
	defer await(end, b.source.close)
	w := work{Plan: b.plan, Transport: b.transport, Relays: b.relays, Hub: b.source.addr, AtOnce: connectAtOnce}
	if b.hub == "" && b.transport == overIroh {
		w.Addr = loopback // iroh would otherwise use other interfaces too
	}
	if b.crew, err = hire(b.processes, w, b.clock, b.log); err != nil {
		return err
	}
	defer b.crew.stop(end)

	if err := b.crew.wait(ctx, ready); err != nil {
		return err
	}
	b.log.Debug("connecting", "spokes", b.plan.Spokes)
	b.progress.show(fmt.Sprintf("connecting %s spokes", thousands(b.plan.Spokes)))
	before, begin := settledMemory(), time.Now()
	b.crew.order(order{Connect: true})
	if err := b.crew.wait(ctx, connected); err != nil {
		return err
	}
	b.connect = time.Since(begin)
	b.log.Debug("connected", "after", b.connect)
	if err := b.crew.wait(ctx, steady); err != nil {
		return err
	}
	b.idle = settledMemory() - before

	cpu := cpuTime()
	failed := b.load(ctx)
	last := lastOrder{b.events, stallTimeout}
	switch {
	case ctx.Err() != nil:
		last.Patience = endTime / 2
	case failed != nil:
		last.Patience = time.Second
	}
	b.results, err = b.crew.end(last)
	b.cpu, b.memory = cpuTime()-cpu, memory()
	return cmp.Or(failed, err)
}

// If no event arrives for the stallTimeout although some are missing, the run fails.
const stallTimeout = 10 * time.Second

// load publishes until the time is up, ctx ends or something fails. It shows the progress once
// per second.
func (b *bench) load(ctx context.Context) (failed error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	b.start = b.clock.now()
	done := make(chan error, 1)
	go func() { done <- b.publish(ctx) }() // ends with ctx at the latest; the loop waits for it
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	stall := stalling{bench: b, since: time.Now()}
	var events, deliveries int
	for last := time.Now(); ; {
		var err error
		select {
		case err := <-done:
			b.events = int(b.published.Load())
			return cmp.Or(failed, err)
		case t := <-b.crew.told:
			err = b.crew.note(t)
		case err = <-b.source.failed:
		case now := <-tick.C:
			e, d, s := int(b.published.Load()), b.crew.deliveries(), now.Sub(last).Seconds()
			eventsPerS, deliveriesPerS := perSecond(e-events, s), perSecond(d-deliveries, s)
			b.log.Debug("running", "events_per_s", eventsPerS, "deliveries_per_s", deliveriesPerS)
			b.progress.show(running(b.clock.now()-b.start, b.duration, eventsPerS, deliveriesPerS))
			events, deliveries, last = e, d, now
			err = stall.check(now, e, d)
		}
		if err != nil {
			failed = cmp.Or(failed, err)
			stop()
		}
	}
}

func perSecond(n int, seconds float64) int { return int(math.Round(float64(n) / seconds)) }

// stalling detects that no more events arrive.
type stalling struct {
	*bench
	deliveries int
	since      time.Time // when an event last arrived or none was missing
}

func (s *stalling) check(now time.Time, events, deliveries int) error {
	missing := -deliveries
	for spoke := range s.plan.Spokes {
		missing += s.plan.due(spoke, events)
	}
	switch {
	case deliveries != s.deliveries || missing <= 0:
		s.deliveries, s.since = deliveries, now
		return nil
	case now.Sub(s.since) < stallTimeout:
		return nil
	case deliveries == 0 && s.hub != "":
		return errNotForwarded
	}
	return fmt.Errorf("no event has arrived for %v, and %d deliveries are missing", stallTimeout, missing)
}

var errNotForwarded = errors.New("no event has come back: the hub does not seem to forward events between spokes; start it with: irohub hub --forward --quiet")

// late is how long after its time the publisher may still publish events that were due before.
const late = 10 * time.Second

// publish is the publisher's goroutine.
func (b *bench) publish(ctx context.Context) error {
	payload, ids := newPayload(b.plan.Size), b.plan.ids()
	for i := 0; ; i++ {
		due, err := b.turn(ctx, i)
		if err == nil {
			err = b.source.publish(ctx, b.plan.event(i, due, payload, ids))
		}
		switch {
		case err == errTimeUp || err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("publishing event %d: %w", i, err)
		}
		b.published.Add(1)
	}
}

var (
	errTimeUp = errors.New("time is up")
	errLate   = errors.New("it was due long ago: the rate is too high")
)

// turn waits until event i may be published, and returns the time at which it was due.
func (b *bench) turn(ctx context.Context, i int) (due time.Duration, err error) {
	end := b.start + b.duration
	if b.rate == 0 {
		if i%b.plan.Block == 0 && !b.crew.allows(ctx, i/b.plan.Block) {
			return 0, ctx.Err()
		}
		if due = b.clock.now(); due >= end {
			err = errTimeUp
		}
		return due, err
	}
	due = b.start + time.Duration(float64(i)/b.rate*float64(time.Second))
	now := b.clock.now()
	switch {
	case i >= b.wanted():
		return 0, errTimeUp
	case now > end+late:
		return 0, errLate
	case due <= now:
		return due, nil
	}
	select {
	case <-time.After(due - now):
		return due, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// wanted returns the number of events that the rate asks for.
func (c *benchConfig) wanted() int {
	return max(int(math.Round(c.rate*c.duration.Seconds())), 1)
}

// early returns an error if a signal has ended the run early.
func (b *bench) early(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w after %d events", errInterrupted, b.events)
}

// A source is the hub or the spoke through which the bench publishes.
type source struct {
	addr    irohub.Addr
	publish func(context.Context, irohub.Event) error
	failed  chan error // capacity 1: only the first error counts; never closed
	close   func() error
}

const loopback = "127.0.0.1:0"

// serve starts a hub in this process.
func (b *bench) serve(ctx context.Context) error {
	n := network{transport: b.transport, relays: b.relays, addr: loopback}
	ep, err := n.listen(ctx, nil)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if b.log.Enabled(ctx, slog.LevelDebug) {
		log = b.log // it has two lines for each spoke
	}
	limits := b.plan.limits()
	hub, err := irohub.NewHub(irohub.HubOptions{
		MaxFrame:         limits.frame,
		MaxQueue:         limits.queue,
		MaxSpokes:        b.plan.Spokes,
		MaxSubscriptions: b.plan.Subscriptions,
		Logger:           log,
	}, ep)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { // until hub is closed
		if err := hub.Serve(context.WithoutCancel(ctx)); !errors.Is(err, irohub.ErrHubClosed) {
			failed <- err
		}
	}()
	b.source = source{ep.Addr(), hub.Publish, failed, func() error { return cmp.Or(hub.Close(), ep.Close()) }}
	return nil
}

const hubTimeout = 10 * time.Second

// dialHub connects to the hub of --hub.
func (b *bench) dialHub(ctx, end context.Context) error {
	addr, err := b.parsePeer(b.hub)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	c := spokeConfig{network: b.network, maxFrame: b.plan.limits().frame}
	start, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	spoke, ep, err := c.dial(start, end, addr, irohub.SpokeOptions{
		NoReconnect:  true,
		OnRefused:    fail,
		OnDisconnect: fail,
	})
	if err != nil {
		return err
	}
	b.source = source{addr, spoke.Publish, failed, func() error { return cmp.Or(spoke.Close(), ep.Close()) }}
	return nil
}
