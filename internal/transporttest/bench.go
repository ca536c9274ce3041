package transporttest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"irohub"
)

// Bench runs the benchmarks of a hub and its spokes over a transport. Each reports
// deliveries/s: decoded events that a subscriber has taken from its Subscription.
//
// Bare measures the transport alone: the same frames are written to as many streams, 64 at a
// time, and read again, without a hub. Ratio runs both in turns. It reports the hub's
// throughput relative to Bare, and the relative CPU time per delivery of both sides together.
func Bench(b *testing.B, transport Transport) {
	// First, before there is any freed memory that it could reuse.
	b.Run("Ratio/Idle", func(b *testing.B) { benchIdle(b, transport) })
	for _, spokes := range []int{8, 64, 512} {
		b.Run(fmt.Sprintf("Ratio/Fanout/spokes=%d", spokes), func(b *testing.B) {
			benchRatio(b, transport, spokes, burst)
		})
	}
	b.Run("Ratio/Rare/spokes=512", func(b *testing.B) { benchRatio(b, transport, 512, 1) })
	for _, size := range []int{256, 4096} {
		for _, spokes := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("Bare/spokes=%d/size=%d", spokes, size), func(b *testing.B) {
				x := newBare(b, transport, spokes, size)
				b.ReportAllocs()
				for b.Loop() {
					x.cycle(burst)
				}
				x.report(burst, spokes, size)
			})
		}
	}
	for _, size := range []int{256, 4096} {
		for _, spokes := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("Fanout/spokes=%d/size=%d", spokes, size), func(b *testing.B) {
				benchFanout(newBench(b, transport, spokes), size)
			})
		}
	}
	b.Run("Forward/spokes=64/size=256", func(b *testing.B) { benchForward(newBench(b, transport, 64), 256) })
	for _, spokes := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("Rare/spokes=%d/size=256", spokes), func(b *testing.B) {
			benchRare(newBench(b, transport, spokes), 256)
		})
	}
	b.Run("Latency/spokes=64/size=256", func(b *testing.B) { benchLatency(b, transport, 64) })
	b.Run("Connect", func(b *testing.B) { benchConnect(b, transport) })
	b.Run("Churn", func(b *testing.B) { benchChurn(newBench(b, transport, 1)) })
}

// burst is how many events a benchmark publishes before it waits until all are delivered. They
// fit into every queue.
const burst = 512

// A bench is a hub with spokes, each of which is subscribed to the topic n.
type bench struct {
	*testing.B
	ctx      context.Context
	endpoint irohub.Endpoint // the hub's
	hub      *irohub.Hub
	spokes   []*irohub.Spoke
	taken    chan time.Time // the time when a subscriber took the event with the id "last"
}

func newBench(b *testing.B, transport Transport, spokes int) *bench {
	ctx := b.Context()
	endpoint := transport(b, 0)
	hub, err := irohub.NewHub(irohub.HubOptions{
		MaxQueue:         64 << 20, // enough for bursts of large events
		MaxSpokesPerNode: 1 << 20,
		Forward:          func(irohub.NodeID, string) bool { return true },
	}, endpoint)
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- hub.Serve(ctx) }()
	x := &bench{B: b, ctx: ctx, endpoint: endpoint, hub: hub, taken: make(chan time.Time, spokes)}
	b.Cleanup(func() {
		for _, s := range x.spokes {
			s.Close()
		}
		hub.Close()
		<-served
		endpoint.Close()
	})
	for range spokes {
		ep := transport(b, 0)
		s, err := irohub.Dial(ctx, ep, endpoint.Addr(), irohub.SpokeOptions{MaxQueue: 64 << 20})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { ep.Close() })
		x.spokes = append(x.spokes, s)
		sub, err := s.Subscribe(ctx, "n:*")
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for ev := range sub.Events() {
				if ev.ID == "last" {
					x.taken <- time.Now()
				}
			}
		}()
	}
	return x
}

// payload returns typical application JSON of about size bytes.
func payload(size int) json.RawMessage {
	text := `{"name":"sensor-7","value":21.5,"ok":true,"tags":["a","b"],"text":"`
	return json.RawMessage(text + strings.Repeat("x", max(0, size-len(text)-2)) + `"}`)
}

// cycle publishes n events and waits until that many subscribers have taken them.
func (x *bench) cycle(publish func(irohub.Event) error, n, subscribers int, payload json.RawMessage) {
	for i := range n {
		ev := irohub.Event{Type: "n", ID: "id", Payload: payload}
		if i == n-1 {
			ev.ID = "last"
		}
		if err := publish(ev); err != nil {
			x.Fatal(err)
		}
	}
	for range subscribers {
		<-x.taken
	}
}

func (x *bench) report(events, subscribers, size int) {
	x.SetBytes(int64(events * subscribers * size))
	x.ReportMetric(float64(events*subscribers*x.N)/x.Elapsed().Seconds(), "deliveries/s")
}

func benchFanout(x *bench, size int) {
	payload := payload(size)
	publish := func(ev irohub.Event) error { return x.hub.Publish(x.ctx, ev) }
	x.ReportAllocs()
	for x.Loop() {
		x.cycle(publish, burst, len(x.spokes), payload)
	}
	x.report(burst, len(x.spokes), size)
}

// benchForward measures one spoke that publishes to all others.
func benchForward(x *bench, size int) {
	payload := payload(size)
	publish := func(ev irohub.Event) error { return x.spokes[0].Publish(x.ctx, ev) }
	x.ReportAllocs()
	for x.Loop() {
		x.cycle(publish, burst, len(x.spokes)-1, payload)
	}
	x.report(burst, len(x.spokes)-1, size)
}

// benchRare publishes one event and waits until all have it. time/op is the latency of the last
// one.
func benchRare(x *bench, size int) {
	payload := payload(size)
	publish := func(ev irohub.Event) error { return x.hub.Publish(x.ctx, ev) }
	x.ReportAllocs()
	for x.Loop() {
		x.cycle(publish, 1, len(x.spokes), payload)
	}
	x.report(1, len(x.spokes), size)
}

// benchChurn measures subscribing and unsubscribing.
func benchChurn(x *bench) {
	x.ReportAllocs()
	for x.Loop() {
		sub, err := x.spokes[0].Subscribe(x.ctx, "churn")
		if err != nil {
			x.Fatal(err)
		}
		sub.Close()
	}
	x.ReportMetric(float64(x.N)/x.Elapsed().Seconds(), "subscribes/s")
}
