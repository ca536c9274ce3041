package transporttest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"irohub"
)

// A bare is a set of streams, each on its own connection, like those of a bench. Frames are
// written to them and read again without a hub.
type bare struct {
	*testing.B
	frame []byte
	write []chan int    // how many frames to write to each stream; closed at the end
	read  chan struct{} // a stream has been read completely
}

// batch is the number of frames in one bare write.
const batch = 64

func newBare(b *testing.B, transport Transport, spokes, size int) *bare {
	body := fmt.Sprintf(`{"type":"n","id":"id","payload":%s}`, payload(size))
	x := &bare{
		B:     b,
		frame: append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...),
		read:  make(chan struct{}, spokes),
	}
	batched := slices.Repeat(x.frame, batch)
	hub := transport(b, 0)
	b.Cleanup(func() { hub.Close() })
	var running sync.WaitGroup
	b.Cleanup(running.Wait)
	for range spokes {
		endpoint := transport(b, 0)
		b.Cleanup(func() { endpoint.Close() })
		out, in := connectBare(b, hub, endpoint)
		frames, want := make(chan int, 1), make(chan int, 1)
		x.write = append(x.write, frames)
		b.Cleanup(func() { close(frames) })
		running.Go(func() {
			defer close(want)
			for n := range frames {
				want <- n * len(x.frame)
				for n > 0 {
					part := min(n, batch)
					if _, err := out.Write(b.Context(), batched[:part*len(x.frame)]); err != nil {
						b.Error(err)
						return
					}
					n -= part
				}
			}
		})
		running.Go(func() {
			p := make([]byte, 64<<10)
			for left := range want {
				for left > 0 {
					n, err := in.Read(b.Context(), p)
					if err != nil {
						b.Error(err)
						return
					}
					left -= n
				}
				x.read <- struct{}{}
			}
		})
	}
	return x
}

// connectBare returns both ends of a stream from a hub's endpoint to a spoke's.
func connectBare(b *testing.B, hub, spoke irohub.Endpoint) (out, in irohub.Stream) {
	ctx := b.Context()
	accepted := make(chan error, 1)
	var conn irohub.Conn
	go func() {
		incoming, err := hub.Accept(ctx)
		if err == nil {
			conn, err = incoming.Handshake(ctx)
		}
		if err == nil {
			out, err = conn.AcceptStream(ctx)
		}
		if err == nil {
			_, err = out.Read(ctx, make([]byte, 1))
		}
		accepted <- err
	}()
	dialled, err := spoke.Dial(ctx, hub.Addr())
	if err == nil {
		in, err = dialled.OpenStream(ctx)
	}
	if err == nil {
		_, err = in.Write(ctx, []byte{0}) // otherwise the peer would not see the stream
	}
	if err == nil {
		err = <-accepted
	}
	if err != nil {
		b.Fatal(err)
	}
	return out, in
}

// cycle writes n frames to each stream and waits until all have been read.
func (x *bare) cycle(n int) {
	for _, c := range x.write {
		c <- n
	}
	for range x.write {
		<-x.read
	}
}

func (x *bare) report(events, subscribers, size int) {
	x.SetBytes(int64(events * subscribers * size))
	x.ReportMetric(float64(events*subscribers*x.N)/x.Elapsed().Seconds(), "deliveries/s")
}

// benchRatio runs a hub and a bare loop in turns, once per iteration. Each turn has as many
// cycles of n events as fit into a fixed time.
func benchRatio(b *testing.B, transport Transport, spokes, n int) {
	const size, while = 256, 200 * time.Millisecond
	x, bare := newBench(b, transport, spokes), newBare(b, transport, spokes, size)
	payload := payload(size)
	publish := func(ev irohub.Event) error { return x.hub.Publish(x.ctx, ev) }
	hubCycle := func() { x.cycle(publish, n, spokes, payload) }
	bareCycle := func() { bare.cycle(n) }
	cycles := 1
	for { // this is also the warm-up
		start := time.Now()
		for range cycles {
			hubCycle()
			bareCycle()
		}
		if time.Since(start) > while {
			break
		}
		cycles *= 2
	}
	var rates, costs []float64
	for b.Loop() {
		hub, hubCPU := timed(hubCycle, cycles)
		base, baseCPU := timed(bareCycle, cycles)
		rates = append(rates, base.Seconds()/hub.Seconds())
		if baseCPU > 0 {
			costs = append(costs, hubCPU.Seconds()/baseCPU.Seconds())
		}
	}
	ReportRange(b, rates, "rate")
	ReportRange(b, costs, "cpu")
}

// timed returns the time and this process's CPU time for a number of cycles.
func timed(cycle func(), n int) (wall, cpu time.Duration) {
	start, used := time.Now(), cpuTime()
	for range n {
		cycle()
	}
	return time.Since(start), cpuTime() - used
}

// ReportRange reports the minimum, the median and the maximum of ratios.
func ReportRange(b *testing.B, ratios []float64, what string) {
	if len(ratios) == 0 {
		return
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[0], what+"-min")
	b.ReportMetric(ratios[len(ratios)/2], what+"-median")
	b.ReportMetric(ratios[len(ratios)-1], what+"-max")
}
