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

// A worker runs some spokes of a bench, in its own process or in the bench's. It reads orders
// from its standard input and writes reports to its standard output, both as JSON. It ends with
// the last order or with its input. So it never outlives the bench.

// An order is an instruction to a worker. Exactly one field is set.
type order struct {
	Work    *work      `json:",omitempty"` // the first order
	Connect bool       `json:",omitempty"`
	End     *lastOrder `json:",omitempty"` // the last order
}

// A lastOrder says how many events were published. The worker waits for those that are missing,
// until none arrives for the time Patience.
type lastOrder struct {
	Events   int
	Patience time.Duration
}

// work is the part of the run that one worker does.
type work struct {
	Plan      benchPlan
	Transport string
	Relays    string
	Addr      string // for its endpoints; may be empty
	Hub       irohub.Addr
	Spokes    [2]int // numbers of its spokes: from the first, up to but not including the second
	AtOnce    int    // number of spokes that connect at the same time
}

// A report tells the bench a worker's new state, its progress, or its failure.
type report struct {
	State      state         `json:",omitempty"` // set when it changes
	Clock      time.Duration `json:",omitempty"` // the worker's benchClock; set with atWork
	Blocks     int           `json:",omitempty"` // number of blocks that all its spokes have received
	Deliveries int           `json:",omitempty"`
	Failed     string        `json:",omitempty"` // the error that makes the run fail
	Result     *result       `json:",omitempty"` // set with finished
}

// A state is a stage of a worker's life. A worker passes them in this order.
type state int

const (
	started   state = iota + 1
	atWork          // it has read its work
	ready           // to connect
	connected       // its spokes are connected and subscribed
	steady          // it has freed the garbage of connecting
	finished        // it has a result
)

// A result has the figures of a worker's spokes.
type result struct {
	Latency    *histogram.Histogram
	Deliveries int
	Lost       int           // events that should have arrived and did not
	CutOff     int           // spokes that the hub cut off because they were too slow
	Last       time.Duration // when the last event arrived, by the benchClock
	CPU        time.Duration // used since the state steady
	Memory     int           // bytes at the end; 0: not known on this system
	Idle       int           // bytes that the connected spokes took before the first event
}

const (
	connectTimeout = 30 * time.Second // for each spoke
	reportEvery    = 100 * time.Millisecond
)

type worker struct {
	*work
	clock  benchClock
	orders chan order // from the goroutine that reads them; capacity 0, never closed
	out    *json.Encoder

	spokes  []*benchSpoke
	latency []histogram.Histogram // several, so that processors do not contend for one
	failed  chan error            // each spoke sends one error at most; capacity: one for each spoke

	// ring[i] is the number of spokes that have not received a whole block yet. i is the
	// block's number modulo the ring's length.
	ring    []atomic.Int32
	blocks  atomic.Int64  // number of blocks that all spokes have received
	wake    chan struct{} // signals that blocks has changed; capacity 1, so signals merge; never closed
	running sync.WaitGroup
}

// runWorker is a worker's main function. It ends when in ends, if not before. It does not end at
// a signal: a terminal sends signals to all processes, and the bench then ends its workers.
func runWorker(in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &worker{clock: newBenchClock(), orders: make(chan order), out: json.NewEncoder(out), wake: make(chan struct{}, 1)}
	go func() { // ends with in, which the bench closes, or with ctx
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
		return cmp.Or(err, errors.New("only irohub bench starts workers"))
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

// report ignores errors: if the bench has ended, w.orders ends too.
func (w *worker) report(r report) { w.out.Encode(r) }

func (w *worker) run(ctx context.Context) error {
	w.report(report{State: atWork, Clock: w.clock.now()})
	w.prepare()
	// Binding once loads what all endpoints share, so that it does not count as idle memory.
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

// settledMemory frees garbage, and returns the memory that the process still holds.
func settledMemory() int {
	debug.FreeOSMemory()
	return memory()
}

// prepare makes the benchSpokes and what they share.
func (w *worker) prepare() {
	n := w.Spokes[1] - w.Spokes[0]
	w.failed = make(chan error, n)
	w.latency = make([]histogram.Histogram, min(n, runtime.GOMAXPROCS(0)))
	if w.Plan.Blocks > 0 {
		// A spoke may be ahead by up to one round of topics: it skips the events of others.
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

// each calls f for every spoke, for AtOnce of them at the same time. After an error it begins
// no more calls. It returns one of the errors.
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

// watch reports the progress until the last order comes.
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

// drain waits for the missing events, and then closes all subscriptions.
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

// sum adds up the figures of all spokes. drain must have returned.
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

// close closes all spokes.
func (w *worker) close() {
	w.each(func(s *benchSpoke) error {
		s.close()
		return nil
	})
	w.running.Wait()
}

// A benchSpoke receives events and checks that none is missing, repeated or out of order.
type benchSpoke struct {
	// Immutable after connect.
	worker  *worker
	number  int
	latency *histogram.Histogram
	ep      irohub.Endpoint
	spoke   *irohub.Spoke
	sub     *irohub.Subscription

	// Owned by take's goroutine, and after its end by the worker.
	next   int           // the event that must come next
	passed int           // number of blocks that are complete for this spoke
	last   time.Duration // when the last event arrived
	err    error

	taken atomic.Int64 // number of events received
	ended atomic.Bool  // take has returned
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
		NoReconnect: true, // a reconnect would hide that events were lost
	})
	if err == nil {
		s.sub, err = s.spoke.Subscribe(ctx, plan.topics(s.number)...)
	}
	if err != nil {
		return fmt.Errorf("connecting spoke %d: %w", s.number, err)
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

// take is the goroutine that receives a spoke's events. It ends with the subscription.
func (s *benchSpoke) take() {
	defer s.ended.Store(true)
	plan, clock := &s.worker.Plan, s.worker.clock
	for ev := range s.sub.Events() {
		n, due, err := plan.readPayload(ev.Payload)
		if err == nil && n != s.next {
			err = fmt.Errorf("event %d arrived instead of %d", n, s.next)
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

// pass records that the spoke has received all its events before n.
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
		// The next block with this index is one that the publisher has not begun yet.
		left.Store(int32(len(w.spokes)))
		w.blocks.Add(1)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
