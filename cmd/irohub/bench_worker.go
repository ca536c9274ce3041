package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
	"irohub/cmd/irohub/internal/histogram"
)

// A worker holds spokes of a bench, in a process of its own or in the bench's. It reads
// orders from its standard input and writes reports to its standard output, as JSON. It
// ends with its last order, or with its input, and so never outlives the bench.

// An order has one of these.
type order struct {
	Work    *work      `json:",omitempty"` // the first
	Connect bool       `json:",omitempty"`
	End     *lastOrder `json:",omitempty"` // the last
}

// lastOrder says how many events were published, and for how long to wait, if none comes, for
// those that are missing.
type lastOrder struct {
	Events   int
	Patience time.Duration
}

// work is what a worker is to do.
type work struct {
	Plan      benchPlan
	Transport string
	Relays    string
	Addr      string // for its endpoints; may be empty
	Hub       irohub.Addr
	Spokes    [2]int // from the first up to before the second
	AtOnce    int    // spokes that connect at a time
}

// A report tells how far a worker is.
type report struct {
	State      state         `json:",omitempty"` // where it has come to a new one
	Clock      time.Duration `json:",omitempty"` // with atWork
	Blocks     int           `json:",omitempty"` // that all its spokes are through with
	Deliveries int           `json:",omitempty"`
	Failed     string        `json:",omitempty"` // the bench is of no use any more
	Result     *result       `json:",omitempty"` // the last
}

// A state is what a worker comes to, in this order.
type state int

const (
	started   state = iota + 1
	atWork          // it has read what to do
	ready           // to connect
	connected       // and subscribed
	steady          // what connecting has left behind is cleared away
	finished        // with a result
)

// A result is what the spokes of a worker have come to.
type result struct {
	Latency    *histogram.Histogram
	Deliveries int
	Lost       int           // what should have come and did not
	CutOff     int           // spokes that were too slow
	Last       time.Duration // when the last event came, by the benchClock
	CPU        time.Duration // since it was steady
	Memory     int           // bytes at the end; 0: not known here
	Idle       int           // bytes that the spokes took, connected and quiet
}

const (
	connectTimeout = 30 * time.Second // for one spoke of many
	reportEvery    = 100 * time.Millisecond
)

type worker struct {
	*work
	clock  benchClock
	orders chan order // from the goroutine that reads them; capacity 0, never closed
	out    *json.Encoder

	spokes  []*benchSpoke
	latency []histogram.Histogram // several, so that processors do not meet in one
	failed  chan error            // from each spoke, once at most; has room for all

	// ring counts down how many spokes are not through with a block; that one's place
	// is its number modulo the ring's length.
	ring    []atomic.Int32
	blocks  atomic.Int64
	wake    chan struct{} // a block is done; capacity 1: one is enough for several
	running sync.WaitGroup
}

// runWorker ends when in does, if not before. A signal to all processes of a terminal is
// for the bench to act on.
func runWorker(in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &worker{clock: newBenchClock(), orders: make(chan order), out: json.NewEncoder(out), wake: make(chan struct{}, 1)}
	// Ended by the end of in, which is the bench's to close.
	go func() {
		defer cancel()
		for orders := json.NewDecoder(in); ; {
			var o order
			if orders.Decode(&o) != nil {
				return
			}
			select {
			case w.orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()
	w.report(report{State: started})
	first, err := w.order(ctx)
	if err != nil || first.Work == nil {
		return cmp.Or(err, errors.New("a worker is started by irohub bench alone"))
	}
	w.work = first.Work
	if err := w.run(ctx); err != nil {
		w.report(report{Failed: err.Error()})
	}
	return nil
}

func (w *worker) order(ctx context.Context) (order, error) {
	select {
	case o := <-w.orders:
		return o, nil
	case <-ctx.Done():
		return order{}, errors.New("the bench is gone")
	}
}

func (w *worker) report(r report) { w.out.Encode(r) } // if nobody reads it, nobody gives orders either

func (w *worker) run(ctx context.Context) error {
	w.report(report{State: atWork, Clock: w.clock.now()})
	w.prepare()
	// The first endpoint loads what all of them share.
	ep, err := w.bind(ctx)
	if err != nil {
		return err
	}
	ep.Close()
	before := settledMemory()
	w.report(report{State: ready})
	if _, err := w.order(ctx); err != nil {
		return err
	}
	defer w.close()
	if err := w.connect(ctx); err != nil {
		return err
	}
	w.report(report{State: connected})
	idle := settledMemory()
	cpu := cpuTime()
	w.report(report{State: steady})

	e, err := w.watch(ctx)
	if err == nil {
		err = w.drain(ctx, e)
	}
	if err != nil {
		return err
	}
	r := &result{CPU: cpuTime() - cpu, Memory: memory(), Idle: idle - before}
	w.sum(e.Events, r)
	w.report(report{State: finished, Result: r})
	return nil
}

// settledMemory is what the process holds on to.
func settledMemory() int {
	debug.FreeOSMemory()
	return memory()
}

// prepare makes what there is of each spoke before it connects.
func (w *worker) prepare() {
	n := w.Spokes[1] - w.Spokes[0]
	w.failed = make(chan error, n)
	w.latency = make([]histogram.Histogram, min(n, runtime.GOMAXPROCS(0)))
	if w.Plan.Blocks > 0 {
		// A spoke may be ahead of the events by what other topics have in a round.
		w.ring = make([]atomic.Int32, w.Plan.Blocks+w.Plan.Topics/w.Plan.Block+2)
		for i := range w.ring {
			w.ring[i].Store(int32(n))
		}
	}
	for i := range n {
		number := w.Spokes[0] + i
		w.spokes = append(w.spokes, &benchSpoke{worker: w, number: number, latency: &w.latency[i%len(w.latency)], next: w.Plan.next(number, 0)})
	}
}

func (w *worker) bind(ctx context.Context) (irohub.Endpoint, error) {
	n := network{transport: w.Transport, relays: w.Relays, addr: w.Addr}
	return n.bind(ctx)
}

// each runs f for every spoke, some of them at once, and returns one of its errors.
func (w *worker) each(f func(*benchSpoke) error) error {
	turns := make(chan struct{}, w.AtOnce)
	errs := make(chan error, 1)
	var running sync.WaitGroup
	for _, s := range w.spokes {
		turns <- struct{}{}
		if len(errs) > 0 {
			break
		}
		running.Go(func() {
			if err := f(s); err != nil {
				select {
				case errs <- err:
				default:
				}
			}
			<-turns
		})
	}
	running.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func (w *worker) connect(ctx context.Context) error {
	if err := w.each(func(s *benchSpoke) error { return s.connect(ctx) }); err != nil {
		return err
	}
	for _, s := range w.spokes {
		s.pass(s.next)
		w.running.Go(s.take)
	}
	return nil
}

// watch reports until the end is ordered.
func (w *worker) watch(ctx context.Context) (*lastOrder, error) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-w.orders:
			if o.End != nil {
				return o.End, nil
			}
		case err := <-w.failed:
			w.report(report{Failed: err.Error()})
		case <-w.wake:
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		w.reportProgress()
	}
}

func (w *worker) reportProgress() {
	r := report{Blocks: int(w.blocks.Load())}
	for _, s := range w.spokes {
		r.Deliveries += int(s.taken.Load())
	}
	w.report(r)
}

// drain waits for what is on its way, and ends all subscriptions.
func (w *worker) drain(ctx context.Context, e *lastOrder) error {
	tick := time.NewTicker(reportEvery / 10)
	defer tick.Stop()
	for last, since := -1, time.Now(); ; {
		missing := 0
		for _, s := range w.spokes {
			if !s.ended.Load() {
				missing += w.Plan.due(s.number, e.Events) - int(s.taken.Load())
			}
		}
		if missing != last {
			last, since = missing, time.Now()
		}
		if missing == 0 || time.Since(since) > e.Patience {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, s := range w.spokes {
		s.sub.Close()
	}
	w.running.Wait()
	return nil
}

// sum is for when no spoke takes anything any more.
func (w *worker) sum(events int, r *result) {
	r.Latency = new(histogram.Histogram)
	for i := range w.latency {
		r.Latency.Merge(&w.latency[i])
	}
	for _, s := range w.spokes {
		taken := int(s.taken.Load())
		r.Deliveries += taken
		r.Lost += w.Plan.due(s.number, events) - taken
		r.Last = max(r.Last, s.last)
		if end, ok := errors.AsType[*irohub.CloseError](s.err); ok && end.Code == irohub.CodeSlow {
			r.CutOff++
		}
	}
}

// close ends all spokes.
func (w *worker) close() {
	w.each(func(s *benchSpoke) error {
		s.close()
		return nil
	})
	w.running.Wait()
}

// A benchSpoke takes events, and checks that they are those that it is to get.
type benchSpoke struct {
	// Immutable, once it is connected.
	worker  *worker
	number  int
	latency *histogram.Histogram
	ep      irohub.Endpoint
	spoke   *irohub.Spoke
	sub     *irohub.Subscription

	// Owned by take's goroutine until it has ended.
	next   int // event
	passed int // blocks
	last   time.Duration
	err    error

	taken atomic.Int64
	ended atomic.Bool // take has
}

func (s *benchSpoke) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if s.ep, err = s.worker.bind(ctx); err != nil {
		return err
	}
	plan := &s.worker.Plan
	limits := plan.limits()
	s.spoke, err = irohub.Dial(ctx, s.ep, s.worker.Hub, irohub.SpokeOptions{
		MaxFrame:    limits.frame,
		MaxQueue:    limits.queue,
		NoReconnect: true, // what is published meanwhile would be lost
	})
	if err == nil {
		s.sub, err = s.spoke.Subscribe(ctx, plan.topics(s.number)...)
	}
	if err != nil {
		return fmt.Errorf("spoke %d does not connect: %w", s.number, err)
	}
	return nil
}

func (s *benchSpoke) close() {
	if s.spoke != nil {
		s.spoke.Close()
	}
	if s.ep != nil {
		s.ep.Close()
	}
}

// take is the goroutine of a spoke, ended by its subscription.
func (s *benchSpoke) take() {
	defer s.ended.Store(true)
	plan, clock := &s.worker.Plan, s.worker.clock
	for ev := range s.sub.Events() {
		n, due, err := plan.readPayload(ev.Payload)
		if err == nil && n != s.next {
			err = fmt.Errorf("event %d came, and not %d", n, s.next)
		}
		if err != nil {
			s.fail(err)
			return
		}
		s.last = clock.now()
		s.latency.Record(s.last - due)
		s.taken.Add(1)
		s.next = plan.next(s.number, n+1)
		s.pass(s.next)
	}
	if err := s.sub.Err(); err != nil {
		s.fail(err)
	}
}

func (s *benchSpoke) fail(err error) {
	s.err = fmt.Errorf("spoke %d: %w", s.number, err)
	s.worker.failed <- s.err
}

// pass says that the spoke is through with all events before n.
func (s *benchSpoke) pass(n int) {
	w := s.worker
	if len(w.ring) == 0 {
		return
	}
	for ; s.passed < n/w.Plan.Block; s.passed++ {
		left := &w.ring[s.passed%len(w.ring)]
		if left.Add(-1) > 0 {
			continue
		}
		// The block's place is used again only for one that the publisher begins later.
		left.Store(int32(len(w.spokes)))
		w.blocks.Add(1)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
