package transporttest

import (
	"slices"
	"testing"
	"time"

	"irohub"
)

// benchLatency publishes 200 events per second to an idle hub, and reports how long it takes
// until the subscribers have them. One iteration is one event.
func benchLatency(b *testing.B, transport Transport, spokes int) {
	const size, pause = 256, time.Second / 200
	x := newBench(b, transport, spokes)
	payload := payload(size)
	var all []time.Duration
	due := time.Now()
	for b.Loop() {
		time.Sleep(time.Until(due))
		start := time.Now()
		if err := x.hub.Publish(x.ctx, irohub.Event{Type: "n", ID: "last", Payload: payload}); err != nil {
			b.Fatal(err)
		}
		for range spokes {
			all = append(all, (<-x.taken).Sub(start))
		}
		due = start.Add(pause)
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op") // it would mostly measure the pause
}
