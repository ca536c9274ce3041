package transporttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"irohub"
)

// benchConnect measures many spokes that dial a hub at the same moment: once with a MaxPending
// that they exceed, and once with the default, which is large enough. An iteration ends once
// every call of Dial has returned. A spoke that loses its place to a later one fails and does
// not retry. The latencies are those of the spokes that connected; failed counts the others,
// per thousand.
func benchConnect(b *testing.B, transport Transport) {
	const spokes = 1000
	for _, pending := range []int{256, spokes} {
		b.Run(fmt.Sprintf("spokes=%d/pending=%d", spokes, pending), func(b *testing.B) {
			var failed, rejected int
			var spent time.Duration
			var took []time.Duration // of each spoke that connected, in all iterations
			for b.Loop() {
				in, wall, stats := connectAll(b, transport, spokes, pending)
				if stats.Spokes != len(in) {
					b.Fatalf("the hub has %d spokes, but %d got in", stats.Spokes, len(in))
				}
				failed += spokes - len(in)
				rejected += int(stats.Rejected)
				spent += wall
				took = append(took, in...)
			}
			if len(took) == 0 {
				b.Fatal("none got in")
			}
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/spent.Seconds(), "connects/s")
			for _, at := range []struct {
				what string
				i    int
			}{{"first-ms", 0}, {"median-ms", len(took) / 2}, {"last-ms", len(took) - 1}} {
				b.ReportMetric(took[at.i].Seconds()*1000, at.what)
			}
			b.ReportMetric(float64(failed)/float64(b.N), "failed")
			b.ReportMetric(float64(rejected)/float64(b.N), "rejected")
			b.ReportMetric(0, "ns/op") // it would mostly measure set-up and teardown
		})
	}
}

// connectAll returns the time that each successful Dial took, the time until the last call
// returned, and the hub's statistics then.
func connectAll(b *testing.B, transport Transport, spokes, pending int) (in []time.Duration, wall time.Duration, stats irohub.Stats) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	endpoint := transport(b, 0)
	defer endpoint.Close()
	hub, err := irohub.NewHub(irohub.HubOptions{MaxSpokesPerNode: spokes, MaxPending: pending}, endpoint)
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- hub.Serve(ctx) }()
	defer func() {
		hub.Close()
		<-served
	}()
	var from [8]irohub.Endpoint
	for i := range from {
		from[i] = transport(b, 0)
		defer from[i].Close()
	}

	addr := endpoint.Addr()
	dialled := make([]*irohub.Spoke, spokes)
	took := make([]time.Duration, spokes)
	var start time.Time
	ready := make(chan struct{})
	var running sync.WaitGroup
	for i := range spokes {
		running.Go(func() {
			<-ready
			s, err := irohub.Dial(ctx, from[i%len(from)], addr, irohub.SpokeOptions{NoReconnect: true})
			if err == nil {
				dialled[i], took[i] = s, time.Since(start)
			}
		})
	}
	start = time.Now()
	close(ready)
	running.Wait()
	wall, stats = time.Since(start), hub.Stats()
	for i, s := range dialled {
		if s != nil {
			in = append(in, took[i])
			running.Go(func() { s.Close() }) // in parallel, as each waits for the hub
		}
	}
	running.Wait()
	return in, wall, stats
}
