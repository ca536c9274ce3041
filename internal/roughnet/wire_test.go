//go:build linux

package roughnet

import (
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A wire carries IP packets between two devices, with configurable loss and delay.
type wire struct {
	loss  atomic.Int64 // lost packets per thousand
	delay atomic.Int64 // nanoseconds, each way
	cut   atomic.Bool  // nothing passes

	passed, lost atomic.Int64

	ends [2]*os.File
	done sync.WaitGroup
}

// A packet is on the wire until it is due.
type packet struct {
	data []byte
	due  time.Time
}

// onTheWay is the most packets that a wire holds in each direction, like a router's queue.
const onTheWay = 4096

func newWire(a, b *os.File) *wire {
	w := &wire{ends: [2]*os.File{a, b}}
	w.carry(a, b)
	w.carry(b, a)
	return w
}

// carry starts the goroutines of one direction; close ends them.
func (w *wire) carry(from, to *os.File) {
	packets := make(chan packet, onTheWay)
	w.done.Go(func() {
		defer close(packets)
		for {
			data := make([]byte, mtu)
			n, err := from.Read(data)
			if err != nil {
				return // closed
			}
			if w.cut.Load() || rand.Int64N(1000) < w.loss.Load() {
				w.lost.Add(1)
				continue
			}
			select {
			case packets <- packet{data[:n], time.Now().Add(time.Duration(w.delay.Load()))}:
			default:
				w.lost.Add(1)
			}
		}
	})
	w.done.Go(func() {
		for p := range packets {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err == nil { // the device may be down for a moment
				w.passed.Add(1)
			}
		}
	})
}

func (w *wire) close() {
	for _, end := range w.ends {
		end.Close()
	}
	w.done.Wait()
}
