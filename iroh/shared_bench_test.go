//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transporttest"
)

// BenchmarkShared compares two layouts: spokes that share a connection, each with a stream,
// and spokes with a connection each. The layouts take turns, once per iteration, between
// the same two endpoints. A ratio is the result of the shared layout divided by that of the
// other in the same turn.
func BenchmarkShared(b *testing.B) {
	b.Run("open", benchOpen) // first, before any freed memory can be reused
	for _, streams := range []int{8, 64} {
		b.Run(fmt.Sprintf("throughput/streams=%d", streams), func(b *testing.B) { benchShare(b, streams) })
		b.Run(fmt.Sprintf("latency/others=quiet/streams=%d", streams), func(b *testing.B) { benchLatency(b, streams, false) })
		b.Run(fmt.Sprintf("latency/others=busy/streams=%d", streams), func(b *testing.B) { benchLatency(b, streams, true) })
		for _, clogged := range []int{1, streams / 2} {
			b.Run(fmt.Sprintf("neighbours/streams=%d/clogged=%d", streams, clogged), func(b *testing.B) {
				benchClogged(b, streams, clogged)
			})
		}
	}
}

// A layout is streams from a hub to its spokes, on one shared connection or on one each.
type layout struct {
	*testing.B
	ctx     context.Context
	out, in []irohub.Stream // the hub's ends, and the spokes'
}

// newLayouts returns both layouts: one shared connection, and one connection each.
func newLayouts(b *testing.B, streams int) [2]*layout {
	hub, spokes := bind(b, Options{MaxStreams: streams}), bind(b, Options{})
	var both [2]*layout
	for i := range both {
		x := &layout{B: b, ctx: b.Context()}
		dialled, accepted := connect(b, spokes, hub)
		for len(x.in) < streams {
			in, out := openStream(b, dialled, accepted)
			x.in, x.out = append(x.in, in), append(x.out, out)
			if i == 1 && len(x.in) < streams {
				dialled, accepted = connect(b, spokes, hub)
			}
		}
		both[i] = x
	}
	return both
}

// write writes 64 frames at a time to stream i until stop is set. Only the last write ends
// in a byte 1. It returns the number of frames written.
func (x *layout) write(i int, stop *atomic.Bool, wrote *atomic.Int64) {
	const batch = 64
	p := make([]byte, batch*frameSize)
	for last := false; !last; {
		if last = stop.Load(); last {
			p[len(p)-1] = 1
		}
		if _, err := x.out[i].Write(x.ctx, p); err != nil {
			x.Error(err)
			return
		}
		wrote.Add(batch)
	}
}

// read reads stream i until a write ends in a byte 1.
func (x *layout) read(i int) {
	p := make([]byte, 64<<10)
	for {
		n, err := x.in[i].Read(x.ctx, p)
		if err != nil {
			x.Error(err)
			return
		}
		if p[n-1] == 1 {
			return
		}
	}
}

// load sends on all streams from the given one on, until end is called. end waits until
// everything has been read and returns frames per second.
func (x *layout) load(from int) (end func() float64) {
	var stop atomic.Bool
	var wrote atomic.Int64
	var running sync.WaitGroup
	start := time.Now()
	for i := from; i < len(x.out); i++ {
		running.Go(func() { x.write(i, &stop, &wrote) })
		running.Go(func() { x.read(i) })
	}
	return func() float64 {
		stop.Store(true)
		running.Wait()
		return float64(wrote.Load()) / time.Since(start).Seconds()
	}
}

// carry runs load for a fixed time.
func (x *layout) carry(from int) float64 {
	end := x.load(from)
	time.Sleep(200 * time.Millisecond)
	return end()
}

// clog fills the first n streams, which nobody reads, until they accept no more. It returns
// the number of frames in one of them. unclog empties them.
func (x *layout) clog(n int) (held int64, unclog func()) {
	var stop atomic.Bool
	var wrote atomic.Int64
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { x.write(i, &stop, &wrote) })
	}
	for before := int64(-1); before != wrote.Load(); {
		before = wrote.Load()
		time.Sleep(100 * time.Millisecond)
	}
	return wrote.Load() / int64(n), func() {
		stop.Store(true)
		for i := range n {
			running.Go(func() { x.read(i) })
		}
		running.Wait()
	}
}

// ping sends a frame down the first stream and back, 200 times or for two seconds. It
// returns the duration of each round trip.
func (x *layout) ping() (took []time.Duration) {
	pass := func(from, to irohub.Stream, p []byte) error {
		_, err := from.Write(x.ctx, p)
		for n := 0; err == nil && n < len(p); {
			var k int
			k, err = to.Read(x.ctx, p[n:])
			n += k
		}
		return err
	}
	p := make([]byte, frameSize)
	for begun := time.Now(); len(took) < 200 && time.Since(begun) < 2*time.Second; {
		start := time.Now()
		err := pass(x.out[0], x.in[0], p)
		if err == nil {
			err = pass(x.in[0], x.out[0], p)
		}
		if err != nil {
			x.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	return took
}

var names = [2]string{"shared", "own"}

// compare measures both in turns and reports the median of each and the ratios.
func compare(b *testing.B, both [2]*layout, what string, measure func(*layout) float64) {
	var values [2][]float64
	var ratios []float64
	for b.Loop() {
		var v [2]float64
		for k := range both { // they take turns in going first
			i := (k + len(ratios)) % 2
			v[i] = measure(both[i])
			values[i] = append(values[i], v[i])
		}
		ratios = append(ratios, v[0]/v[1])
	}
	for i, name := range names {
		slices.Sort(values[i])
		b.ReportMetric(values[i][len(values[i])/2], name+"-"+what)
	}
	transporttest.ReportRange(b, ratios, "ratio")
	b.ReportMetric(0, "ns/op") // the duration is fixed, so ns/op means nothing
}

func benchShare(b *testing.B, streams int) {
	both := newLayouts(b, streams)
	compare(b, both, "frames/s", func(x *layout) float64 { return x.carry(0) })
}

// benchLatency measures the round trip of a frame on one stream while the others are idle,
// or at full load.
func benchLatency(b *testing.B, streams int, busy bool) {
	both := newLayouts(b, streams)
	all := map[*layout][]time.Duration{}
	compare(b, both, "p50-µs", func(x *layout) float64 {
		var took []time.Duration
		if busy {
			end := x.load(1)
			time.Sleep(20 * time.Millisecond) // until the load is established
			took = x.ping()
			end()
		} else {
			took = x.ping()
		}
		all[x] = append(all[x], took...)
		slices.Sort(took)
		return float64(took[len(took)/2].Microseconds())
	})
	for i, name := range names {
		took := all[both[i]]
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), name+"-p99-µs")
	}
}

// benchClogged measures the throughput of streams beside others that nobody reads, relative
// to their throughput without these. It reports the ratio for each layout.
func benchClogged(b *testing.B, streams, clogged int) {
	both := newLayouts(b, streams)
	held := map[*layout]int64{}
	compare(b, both, "left", func(x *layout) float64 {
		before := x.carry(clogged)
		n, unclog := x.clog(clogged)
		with := x.carry(clogged)
		unclog()
		held[x] = n
		return 2 * with / (before + x.carry(clogged))
	})
	for i, name := range names {
		b.ReportMetric(float64(held[both[i]]*frameSize)/1024, name+"-held-KiB")
	}
}

// benchOpen measures the time and the memory, on both sides, of one more stream: on an
// existing connection, and with a connection of its own.
func benchOpen(b *testing.B) {
	const streams = 128
	hub, spokes := bind(b, Options{MaxStreams: streams}), bind(b, Options{})
	both := [2]*layout{{B: b}, {B: b}}
	var took [2][]float64
	var keep []irohub.Stream // kept to the end, so that no freed memory is reused
	compare(b, both, "KiB", func(x *layout) float64 {
		i := 0
		if x == both[1] {
			i = 1
		}
		dialled, accepted := connect(b, spokes, hub)
		before, start := transporttest.Resident(b), time.Now()
		for range streams {
			if i == 1 {
				dialled, accepted = connect(b, spokes, hub)
			}
			opened, other := openStream(b, dialled, accepted)
			keep = append(keep, opened, other)
		}
		took[i] = append(took[i], float64(time.Since(start).Microseconds())/streams)
		return float64(transporttest.Resident(b)-before) / 1024 / streams
	})
	for i, name := range names {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], name+"-open-µs")
	}
}
