//go:build linux

package roughnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"irohub/internal/transports"
)

// overEach runs a test over all transports in parallel, as the tests mostly wait.
func overEach(t *testing.T, test func(*network)) {
	transports.Each(t, func(t *testing.T, transport string) {
		t.Parallel()
		test(newNetwork(t, transport))
	})
}

// A network is a hub, a wire, and spokes at its other end.
type network struct {
	*testing.T
	hub, spokes *node
	*wire
	published int // number of events published by each
}

func newNetwork(t *testing.T, transport string) *network {
	w := &network{T: t}
	w.hub = startNode(t, netip.MustParseAddr("10.0.0.1"), "hub", transport)
	said := w.hub.want("its address", func(lines []string) bool { return len(lines) > 0 })
	w.spokes = startNode(t, netip.MustParseAddr("10.0.0.2"), "spokes", transport, strings.TrimPrefix(said[0], "at "))
	w.wire = newWire(w.hub.device, w.spokes.device)
	t.Cleanup(w.wire.close)
	w.spokes.want("ready", func(lines []string) bool { return slices.Contains(lines, "ready") })
	return w
}

// publish makes the hub and each spoke publish that many more events.
func (w *network) publish(count int) {
	w.Helper()
	for _, n := range []*node{w.hub, w.spokes} {
		n.tell("publish %d %d", w.published, w.published+count)
	}
	w.published += count
}

// arrive waits until the newest event has arrived everywhere.
func (w *network) arrive() {
	w.Helper()
	for _, n := range []*node{w.hub, w.spokes} {
		n.want(fmt.Sprint("event ", w.published-1), func(lines []string) bool {
			for i := range spokes {
				if !slices.Contains(lines, fmt.Sprintf("%d event %d", i, w.published-1)) {
					return false
				}
			}
			return true
		})
	}
}

// resume publishes until everyone receives events again.
func (w *network) resume() {
	w.Helper()
	for from, end := w.published, time.Now().Add(failsafe); ; time.Sleep(200 * time.Millisecond) {
		w.publish(1)
		all := true
		for _, n := range []*node{w.hub, w.spokes} {
			for i := range spokes {
				all = all && w.of(n, i).newest >= from
			}
		}
		if all {
			return
		}
		if time.Now().After(end) {
			w.Fatalf("not all get events again, %d and later; the hub:\n%s\nthe spokes:\n%s", from, w.hub.tail(), w.spokes.tail())
		}
	}
}

// A history is what one subscriber received from one publisher.
type history struct {
	newest int
	events int
	gaps   int   // gaps that no preceding loss explains
	runs   []int // the last number of each run of consecutive numbers
	losses int
	back   int
	wrong  []string
}

// of reads the history of spoke i from a node's output.
func (w *network) of(n *node, i int) history {
	h := history{newest: -1}
	excused := false
	seen := make(map[int]bool)
	lines, _, _ := n.said()
	for _, line := range lines {
		mine, found := strings.CutPrefix(line, fmt.Sprint(i, " "))
		if !found {
			continue
		}
		verb, rest, _ := strings.Cut(mine, " ")
		switch verb {
		case "event":
			number, err := strconv.Atoi(rest)
			if err != nil || seen[number] {
				h.wrong = append(h.wrong, line)
			}
			seen[number] = true
			if number != h.newest+1 && !excused {
				h.gaps++
			}
			if number != h.newest+1 {
				excused = false
			}
			if at := slices.Index(h.runs, number-1); at >= 0 {
				h.runs[at] = number
			} else {
				h.runs = append(h.runs, number)
			}
			h.newest = max(h.newest, number)
			h.events++
		case "lost":
			h.losses++
			excused = true
		case "back":
			h.back++
		case "ended":
			h.wrong = append(h.wrong, line)
		}
	}
	return h
}

// wantNoLoss checks that every event arrived, in order, over the first connections.
func (w *network) wantNoLoss() {
	w.Helper()
	for _, n := range []*node{w.hub, w.spokes} {
		for i := range spokes {
			if h := w.of(n, i); h.events != w.published || h.gaps > 0 || h.losses > 0 || h.wrong != nil {
				w.Errorf("%s, spoke %d: %+v, want %d events", n.name, i, h, w.published)
			}
		}
	}
}

// flush makes each spoke flush, and returns the results of Flush: empty, or the error.
func (w *network) flush() (said [spokes]string) {
	w.Helper()
	count := 0
	w.spokes.tell("flush")
	w.spokes.want("the end of Flush", func(lines []string) bool {
		count = 0
		for _, line := range lines {
			for i := range spokes {
				if text, found := strings.CutPrefix(line, fmt.Sprintf("%d flushed ", i)); found {
					said[i] = strings.TrimPrefix(text, "<nil>")
					count++
				}
			}
		}
		return count == spokes
	})
	return said
}

// In each direction, 5 % of the packets are lost and all are delayed by 50 ms: no event is lost.
func TestLossAndDelay(t *testing.T) {
	t.Parallel()
	overEach(t, func(w *network) {
		w.publish(100)
		w.arrive()
		w.loss.Store(50)
		w.delay.Store(int64(50 * time.Millisecond))
		w.passed.Store(0)
		w.publish(1000)
		w.arrive()
		w.wantNoLoss()
		for i, said := range w.flush() {
			if said != "" {
				w.Errorf("spoke %d: Flush: %s", i, said)
			}
		}
		passed, lost := w.passed.Load(), w.lost.Load()
		w.Logf("%d packets passed, %d were lost", passed, lost)
		if lost < (passed+lost)/50 {
			w.Errorf("the wire lost only %d of %d packets", lost, passed+lost)
		}
	})
}

// No packet passes for 20 seconds. A connection may or may not survive that, depending on its
// transport. The guarantees hold in either case.
func TestOutage(t *testing.T) {
	t.Parallel()
	overEach(t, func(w *network) {
		w.publish(100)
		w.arrive()
		w.cut.Store(true)
		w.publish(100) // half a second of events, then silence
		time.Sleep(20 * time.Second)
		if w.lost.Load() == 0 {
			w.Error("the wire lost nothing")
		}
		w.cut.Store(false)
		w.wantAfterwards()
	})
}

// The address of the spokes' machine changes suddenly. Over iroh, connections may migrate;
// otherwise the spokes reconnect.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	overEach(t, func(w *network) {
		w.publish(100)
		w.arrive()
		w.publish(100)
		w.spokes.tell("address 3")
		w.wantAfterwards()
	})
}

// wantAfterwards waits until everyone receives events again, and then checks the guarantees: no
// gap unless a Spoke has reported a loss, none after it has reconnected, and a Flush that
// reports losses.
func (w *network) wantAfterwards() {
	w.Helper()
	w.resume()
	before := w.published
	flushed := w.flush()
	w.publish(100)
	w.arrive()
	for i := range spokes {
		down, up := w.of(w.spokes, i), w.of(w.hub, i)
		w.Logf("spoke %d lost %d connections and came back %d times; of %d events it got %d, and the hub got %d of its; Flush: %q",
			i, down.losses, down.back, w.published, down.events, up.events, flushed[i])
		if down.gaps > 0 || down.wrong != nil || !slices.IsSorted(down.runs) || down.losses != down.back {
			w.Errorf("spoke %d: %+v", i, down)
		}
		// From each of a spoke's connections, the hub receives one run. Events that the network
		// delayed on an old connection may arrive after those of a new one.
		if lost := up.events < w.published; up.wrong != nil || len(up.runs) > 1+down.losses || lost && flushed[i] == "" {
			w.Errorf("the hub, of spoke %d: %+v of %d; Flush said %q", i, up, w.published, flushed[i])
		}
		for _, node := range []*node{w.spokes, w.hub} {
			lines, _, _ := node.said()
			for n := before; n < w.published; n++ {
				if !slices.Contains(lines, fmt.Sprintf("%d event %d", i, n)) {
					w.Errorf("%s, spoke %d: event %d is missing, of a good connection", node.name, i, n)
				}
			}
		}
	}
}
