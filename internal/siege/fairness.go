package siege

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transports"
)

// These benchmarks measure how one spoke's bad behaviour affects the others: the ratio of their
// p99 latency with it to that without it. Each iteration measures both in turn. The figures
// cover all iterations, and a ratio is the median of the iterations' ratios.

const (
	rate     = 200             // events per second
	sampling = 2 * time.Second // the length of a measurement
)

// A meter collects latencies.
type meter struct {
	mu   sync.Mutex
	all  []time.Duration
	last int // where the current measurement begins
}

func (m *meter) add(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, d)
}

// lap ends a measurement and returns its sorted latencies.
func (m *meter) lap() []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	lap := slices.Sorted(slices.Values(m.all[m.last:]))
	m.last = len(m.all)
	return lap
}

func quantile[T any](sorted []T, q int) T { return sorted[len(sorted)*q/100] }

// A comparison compares two meters, by p99 and by p50. The noise of a busy machine disturbs p50
// less.
type comparison struct {
	quiet, loud meter
	p50, p99    []float64 // the ratios of each lap
}

func (c *comparison) lap() {
	quiet, loud := c.quiet.lap(), c.loud.lap()
	c.p50 = append(c.p50, float64(quantile(loud, 50))/float64(quantile(quiet, 50)))
	c.p99 = append(c.p99, float64(quantile(loud, 99))/float64(quantile(quiet, 99)))
}

func (c *comparison) report(b *testing.B) {
	for name, ratios := range map[string][]float64{"p50-ratio": c.p50, "p99-ratio": c.p99} {
		slices.Sort(ratios)
		b.ReportMetric(quantile(ratios, 50), name)
	}
	for name, m := range map[string]*meter{"quiet": &c.quiet, "loud": &c.loud} {
		m.last = 0
		b.ReportMetric(float64(quantile(m.lap(), 99).Microseconds()), name+"-p99-µs")
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}

// steadily calls publish at the rate, and passes the time at which each event was due. So the
// publisher's own delays count too.
func (s *siege) steadily(publish func(due time.Time) error) {
	s.Helper()
	start := time.Now()
	for i := range int(rate * sampling.Seconds()) {
		due := start.Add(time.Duration(i) * time.Second / rate)
		time.Sleep(time.Until(due))
		s.must(publish(due))
	}
}

// epoch is the origin of the due times in events. They are valid in this process only.
var epoch = time.Now()

func stamped(topic string, due time.Time) irohub.Event {
	return numbered(topic, int(due.Sub(epoch)))
}

func age(ev irohub.Event) time.Duration {
	n, _ := strconv.Atoi(string(ev.Payload))
	return time.Since(epoch) - time.Duration(n)
}

func benchEach(b *testing.B, bench func(s *siege, b *testing.B)) {
	for _, transport := range transports.Names() {
		b.Run(transport, func(b *testing.B) {
			transports.Need(b, transport)
			bench(newSiege(b, transport), b)
		})
	}
}

// BenchmarkFlood measures the latency between two spokes while a third publishes as fast as it
// can. The third runs in a separate process with low priority, in place of another machine: its
// own use of the processor should not count against the hub.
func BenchmarkFlood(b *testing.B) {
	benchEach(b, func(s *siege, b *testing.B) {
		s.serve(irohub.HubOptions{Forward: func(irohub.NodeID, string) bool { return true }})
		from := s.dial(irohub.SpokeOptions{NoReconnect: true})
		sub := s.subscribe(s.dial(irohub.SpokeOptions{NoReconnect: true}), "n")
		flooder := s.child("flooder", "nice", "-n", "19")
		var c comparison
		flooded, floods := uint64(0), time.Duration(0)
		for b.Loop() {
			s.measure(&c.quiet, sub, from)
			flooder.tell("flood")
			before, start := s.hub.Stats().Received, time.Now()
			s.measure(&c.loud, sub, from)
			flooded += s.hub.Stats().Received - before
			floods += time.Since(start)
			flooder.tell("rest")
			s.wantServed() // by then the hub has processed the rest of the flood
			c.lap()
		}
		c.report(b)
		b.ReportMetric(float64(flooded)/floods.Seconds(), "flood-events/s")
	})
}

// measure makes one spoke publish and another receive.
func (s *siege) measure(m *meter, sub *irohub.Subscription, from *irohub.Spoke) {
	s.Helper()
	received := make(chan struct{})
	go func() {
		defer close(received)
		n := int(rate * sampling.Seconds())
		for ev := range sub.Events() {
			m.add(age(ev))
			if n--; n == 0 {
				return
			}
		}
		s.Errorf("ended: %v", sub.Err())
	}()
	s.steadily(func(due time.Time) error { return from.Publish(s.ctx, stamped("n", due)) })
	<-received
}

// BenchmarkFrozen measures the latency from the hub to 63 spokes while a 64th reads nothing and
// its queue is full.
func BenchmarkFrozen(b *testing.B) {
	const others = 63
	benchEach(b, func(s *siege, b *testing.B) {
		gone := make(chan time.Time, 1)
		const deadline = 10 * time.Second
		s.serve(irohub.HubOptions{
			MaxQueue: 64 << 20, MaxSpokesPerNode: 1 + others, WriteTimeout: deadline,
			OnDisconnect: func(info irohub.SpokeInfo, err error) {
				select {
				case gone <- time.Now():
				default:
				}
			},
		})
		var now *meter
		var received sync.WaitGroup
		for range others {
			sub := s.subscribe(s.dial(irohub.SpokeOptions{NoReconnect: true}), "n")
			go func() {
				for ev := range sub.Events() {
					now.add(age(ev))
					received.Done()
				}
			}()
		}
		round := func(m *meter) {
			now = m
			received.Add(others * int(rate*sampling.Seconds()))
			s.steadily(func(due time.Time) error { return s.hub.Publish(s.ctx, stamped("n", due)) })
			received.Wait()
		}
		var c comparison
		var cut []time.Duration
		large := numbered("frozen", 0)
		large.Payload = []byte(`"` + strings.Repeat("x", 100_000) + `"`)
		for b.Loop() {
			round(&c.quiet)
			r := s.raw(s.bind())
			r.subscribe("frozen")
			for len(gone) > 0 {
				<-gone
			}
			start := time.Now()
			for range 20 { // more than a transport buffers, less than the limit
				s.must(s.hub.Publish(s.ctx, large))
			}
			round(&c.loud)
			c.lap()
			cut = append(cut, (<-gone).Sub(start))
			r.wantClosed(irohub.CodeTimeout)
		}
		c.report(b)
		slices.Sort(cut)
		b.ReportMetric(float64(quantile(cut, 50))/float64(deadline), "gone-after/deadline")
	})
}
