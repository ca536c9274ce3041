//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

const frameSize = 256

// BenchmarkStream measures the transport under full load in one direction, with each stream
// on its own connection. One iteration is chunk frames, received on any of the streams.
// batch is the number of frames in one Write.
func BenchmarkStream(b *testing.B) {
	for _, batch := range []int{64, 1} {
		for _, streams := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("batch=%d/streams=%d", batch, streams), func(b *testing.B) {
				benchmarkStream(b, streams, batch)
			})
		}
	}
}

func benchmarkStream(b *testing.B, streams, batch int) {
	const chunk = 64
	hub, spokes := bind(b, Options{}), bind(b, Options{})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var bytes atomic.Int64
	received := make(chan struct{}, 1024) // a token for each chunk
	for range streams {
		dialled, accepted := connect(b, spokes, hub)
		out, in := openStream(b, dialled, accepted)
		running.Go(func() {
			p := make([]byte, batch*frameSize)
			for {
				if _, err := out.Write(ctx, p); err != nil {
					return
				}
			}
		})
		running.Go(func() {
			p := make([]byte, 64<<10)
			for {
				n, err := in.Read(ctx, p)
				if err != nil {
					return
				}
				now := bytes.Add(int64(n))
				for range now/(chunk*frameSize) - (now-int64(n))/(chunk*frameSize) {
					select {
					case received <- struct{}{}:
					case <-ctx.Done():
					}
				}
			}
		})
	}
	b.ReportAllocs()
	b.SetBytes(chunk * frameSize)
	for b.Loop() {
		<-received
	}
	b.ReportMetric(float64(b.N)*chunk/b.Elapsed().Seconds(), "frames/s")
}

// BenchmarkPing measures a rare event on an idle system: one frame goes to the other end
// and back.
func BenchmarkPing(b *testing.B) {
	dialled, accepted := connect(b, bind(b, Options{}), bind(b, Options{}))
	there, back := openStream(b, dialled, accepted)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() {
		p := make([]byte, frameSize)
		for {
			n, err := back.Read(ctx, p)
			if err == nil {
				_, err = back.Write(ctx, p[:n])
			}
			if err != nil {
				return
			}
		}
	})
	p := make([]byte, frameSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := there.Write(ctx, p); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < len(p); {
			k, err := there.Read(ctx, p[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
	}
}

// BenchmarkConnect measures opening and closing a connection.
func BenchmarkConnect(b *testing.B) {
	from, to := bind(b, Options{}), bind(b, Options{})
	b.ReportAllocs()
	for b.Loop() {
		dialled, accepted := connectLoose(b, from, to)
		dialled.Close(0, "")
		accepted.Close(0, "")
	}
}
