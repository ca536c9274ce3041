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

// benchIdle compares the memory of a hub's idle spokes with that of as many bare connections,
// each with one stream. The other side is bare in both cases and has one endpoint. It takes
// half of the memory of the bare connections; the rest of the first figure is the hub's.
func benchIdle(b *testing.B, transport Transport) {
	const spokes = 256
	var ratios []float64
	var open []irohub.Stream // kept to the end, so that no freed memory is reused
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

// subscribeBare subscribes on a stream and waits for the hub's acknowledgement.
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

// Resident returns the resident memory of this process in bytes, including native libraries.
func Resident(b *testing.B) int {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("resident memory is read from /proc, which is missing here")
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
