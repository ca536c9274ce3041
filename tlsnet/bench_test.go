package tlsnet

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"irohub"
	"irohub/internal/records"
)

// BenchmarkBare measures the upper limit: it writes the frames of transporttest's Fanout to
// bare TLS connections in batches of 64 and reads them again, without a hub and without
// this package. BenchmarkStream does the same with this package. BenchmarkHub adds the hub
// and its spokes, which decode the events. Each reports deliveries/s.
func BenchmarkBare(b *testing.B)   { benchmarkFrames(b, bareTLS) }
func BenchmarkStream(b *testing.B) { benchmarkFrames(b, streams) }

func benchmarkFrames(b *testing.B, connect func(*testing.B) (io.Writer, io.Reader)) {
	for _, size := range []int{256, 4096} {
		for _, spokes := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("spokes=%d/size=%d", spokes, size), func(b *testing.B) {
				benchmarkFanout(b, connect, spokes, size+len(`0000{"type":"n","id":"id","payload":}`))
			})
		}
	}
}

func benchmarkFanout(b *testing.B, connect func(*testing.B) (io.Writer, io.Reader), spokes, frame int) {
	const burst, batch = 512, 64
	var running sync.WaitGroup
	b.Cleanup(running.Wait)
	write := make([]chan struct{}, spokes)
	read := make(chan struct{}, spokes)
	for i := range spokes {
		w, r := connect(b)
		write[i] = make(chan struct{}, 1)
		b.Cleanup(func() { close(write[i]) })
		running.Go(func() {
			p := make([]byte, batch*frame)
			for range write[i] {
				for range burst / batch {
					if _, err := w.Write(p); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
		running.Go(func() {
			p := make([]byte, 64<<10)
			for left := burst * frame; ; {
				n, err := r.Read(p)
				if err != nil {
					return
				}
				if left -= n; left == 0 {
					left = burst * frame
					read <- struct{}{}
				}
			}
		})
	}
	b.ReportAllocs()
	b.SetBytes(int64(burst * spokes * frame))
	for b.Loop() {
		for _, c := range write {
			c <- struct{}{}
		}
		for range spokes {
			<-read
		}
	}
	b.ReportMetric(float64(burst*spokes*b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// streams returns the two ends of a stream of this package.
func streams(b *testing.B) (io.Writer, io.Reader) {
	from, to := pair(b)
	out, in := openStream(b, from, to)
	b.Cleanup(func() { from.Close(0, "") })
	return contextless{out}, contextless{in}
}

type contextless struct{ irohub.Stream }

func (s contextless) Write(p []byte) (int, error) { return s.Stream.Write(context.Background(), p) }
func (s contextless) Read(p []byte) (int, error)  { return s.Stream.Read(context.Background(), p) }

// bareTLS returns the two ends of a TLS connection.
func bareTLS(b *testing.B) (io.Writer, io.Reader) {
	from, to := bareTCP(b)
	client, server := tls.Client(from, testConfig(b)), tls.Server(to, testConfig(b))
	shook := make(chan error, 1)
	go func() { shook <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-shook; err != nil {
		b.Fatal(err)
	}
	return client, server
}

// bareTCP returns the two ends of a TCP connection. The end that dialled is closed first.
func bareTCP(b *testing.B) (from, to net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if from, err = net.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	if to, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { from.Close(); to.Close() })
	return from, to
}

// BenchmarkSeal compares two ways to write a header and its body. seal copies the header
// into one buffer together with what fits into the first TLS record. net.Buffers makes a
// TLS record for the header alone. Both are measured over a socket of this package, and
// directly over TCP, where crypto/tls makes a system call for each record.
//
// Results of three runs on two cores of an AMD EPYC. Over the socket, one buffer took 0.86
// to 0.96 of the time of net.Buffers for 256 bytes, and the same time for 64 KiB. Directly
// over TCP, it took half the time for 256 bytes. The socket took 0.5 to 0.8 of the time of
// direct TCP for 64 KiB, and the same time for 256 bytes.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{256, 64 << 10} {
		for _, gather := range []bool{true, false} {
			for _, buffers := range []bool{false, true} {
				b.Run(fmt.Sprintf("size=%d/gather=%t/netBuffers=%t", size, gather, buffers), func(b *testing.B) {
					benchmarkSeal(b, size, gather, buffers)
				})
			}
		}
	}
}

func benchmarkSeal(b *testing.B, size int, gather, buffers bool) {
	from, to := bareTCP(b)
	s := newSocket(from)
	client, server := tls.Client(s, testConfig(b)), tls.Server(to, testConfig(b))
	var running sync.WaitGroup
	defer running.Wait()
	defer from.Close()
	running.Go(func() { // the handshake too
		for p := make([]byte, 64<<10); ; {
			if _, err := server.Read(p); err != nil {
				return
			}
		}
	})
	if err := client.Handshake(); err != nil {
		b.Fatal(err)
	}
	s.established = gather
	c := &conn{socket: s, tls: client}
	p := make([]byte, size)
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		var err error
		if buffers {
			h := newHeader(records.Data, size)
			_, err = (&net.Buffers{h[:], p}).WriteTo(client)
		} else {
			err = c.seal(records.Data, p)
		}
		if err == nil {
			err = s.flush()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPing measures a rare event on an idle system: one frame goes to the peer and back.
func BenchmarkPing(b *testing.B) {
	for _, kind := range []string{"Bare", "Stream"} {
		b.Run(kind, func(b *testing.B) {
			connect := bareTLS
			if kind == "Stream" {
				connect = streams
			}
			var running sync.WaitGroup
			b.Cleanup(running.Wait) // after the connections are closed
			w1, r1 := connect(b)
			w2, r2 := connect(b)
			running.Go(func() {
				p := make([]byte, 256)
				for {
					if _, err := io.ReadFull(r1, p); err != nil {
						return
					}
					if _, err := w2.Write(p); err != nil {
						return
					}
				}
			})
			p := make([]byte, 256)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w1.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r2, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnect measures opening and closing a connection.
func BenchmarkConnect(b *testing.B) {
	from, to := bindTest(b, Options{}), bindTest(b, Options{Addr: "127.0.0.1:0"})
	b.ReportAllocs()
	for b.Loop() {
		dialled, accepted := connect(b, from, to)
		dialled.Close(0, "")
		accepted.Wait(b.Context())
	}
}
