package transporttest

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"irohub"
)

// benchIdle compares the memory of a hub's idle spokes with that of as many connections
// that have a stream and nothing else. The other side is bare both times, and has one
// endpoint: what it takes is half of what the bare connections do, and the hub the rest.
func benchIdle(b *testing.B, transport Transport) {
	const spokes = 256
	var ratios []float64
	var open []irohub.Stream // until the end: what one has given back, the next would use
	for b.Loop() {
		hub, spoke := transport(b, 0), transport(b, 0)
		before := Resident(b)
		for range spokes {
			out, in := connectBare(b, hub, spoke)
			open = append(open, out, in)
		}
		side := float64(Resident(b)-before) / 2

		x, other := newBench(b, transport, 0), transport(b, 0)
		before = Resident(b)
		for range spokes {
			open = append(open, x.subscribeBare(other))
		}
		ratios = append(ratios, (float64(Resident(b)-before)-side)/side)
		b.ReportMetric(side/spokes/1024, "bare-KiB")
		b.Cleanup(func() { hub.Close(); spoke.Close(); other.Close() })
	}
	runtime.KeepAlive(open)
	ReportRange(b, ratios, "memory")
}

// subscribeBare makes a spoke of a stream, and waits until the hub says so.
func (x *bench) subscribeBare(from irohub.Endpoint) irohub.Stream {
	const body = `{"type":"__subscribe","id":"1","payload":{"topic":"n:*"}}`
	conn, err := from.Dial(x.ctx, x.endpoint.Addr())
	if err != nil {
		x.Fatal(err)
	}
	stream, err := conn.OpenStream(x.ctx)
	if err == nil {
		_, err = stream.Write(x.ctx, append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	}
	if err == nil {
		_, err = stream.Read(x.ctx, make([]byte, 64))
	}
	if err != nil {
		x.Fatal(err)
	}
	return stream
}

// Resident is how many bytes of memory this process has, a native library's among them.
func Resident(b *testing.B) int {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("resident memory is read from /proc, which is not here")
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
