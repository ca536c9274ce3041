package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"irohub"
)

// A body is the payload of every event: its source, and its number within the source and topic.
type body struct {
	Source int    `json:"source"`
	N      uint64 `json:"n"`
	Pad    string `json:"pad"`
}

// A source is one publisher on one connection. It numbers its events from 0, separately for each topic.
type source struct {
	// Immutable.
	number int
	from   irohub.NodeID // zero: the hub

	next []atomic.Uint64 // the number of its next event, by topic

	state atomic.Int32 // one of the states below
}

// The states of a source.
const (
	open     = iota // it is publishing
	broken          // it has ended, and the hub may not have received everything
	complete        // it has ended, and the hub has received everything
	final           // the same, and its last event on each topic was published when all spokes were at rest
)

// event makes the source's next event on a topic. It counts the event before it is published. So events
// with a number at or above a count that was read are published after the reading.
func (s *source) event(topic, pad int) irohub.Event {
	text, err := json.Marshal(body{s.number, s.next[topic].Add(1) - 1, strings.Repeat("x", pad)})
	if err != nil {
		panic(err) // a struct of two numbers and a string
	}
	return irohub.Event{Type: "t", ID: strconv.Itoa(topic), Payload: text}
}

func topicName(topic int) string { return "t:" + strconv.Itoa(topic) }

// A ledger knows all sources.
type ledger struct {
	topics int

	mu      sync.Mutex
	sources []*source
}

func (l *ledger) open(from irohub.NodeID) *source {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &source{number: len(l.sources), from: from, next: make([]atomic.Uint64, l.topics)}
	l.sources = append(l.sources, s)
	return s
}

// all returns all sources so far, by number.
func (l *ledger) all() []*source {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sources[:len(l.sources):len(l.sources)]
}

// A stream is the events of one source on one topic.
type stream struct{ source, topic int }

// A watch checks the events of one Subscription from its acknowledgement on. Only one goroutine uses it.
type watch struct {
	ledger *ledger
	own    *source // the subscriber's own source, whose events must not arrive; nil: none
	topics map[int]bool
	losses func() int // number of lost connections so far; each may cause a gap
	born   int        // losses before it was requested

	known   int               // number of sources at the acknowledgement
	floor   map[stream]uint64 // for open sources: the first number not published yet
	last    map[stream]uint64
	excused map[stream]int // losses that can no longer explain a gap; missing: born
}

// newWatch must be called before the subscription is requested, and begin once it is acknowledged. losses
// is nil if the subscription does not outlast its connection.
func (l *ledger) newWatch(own *source, losses func() int, topics ...int) *watch {
	w := &watch{
		ledger:  l,
		own:     own,
		topics:  make(map[int]bool),
		losses:  losses,
		floor:   make(map[stream]uint64),
		last:    make(map[stream]uint64),
		excused: make(map[stream]int),
	}
	if losses == nil {
		w.losses = func() int { return 0 }
	}
	w.born = w.losses()
	for _, t := range topics {
		w.topics[t] = true
	}
	return w
}

func (w *watch) begin() {
	sources := w.ledger.all()
	w.known = len(sources)
	for _, s := range sources {
		if s.state.Load() == open {
			for t := range w.topics {
				w.floor[stream{s.number, t}] = s.next[t].Load()
			}
		}
	}
}

// from returns the number of the first event of a stream that must arrive. It returns false if none must,
// because the source had ended before the acknowledgement. Some of its events may still be in flight.
func (w *watch) from(at stream) (n uint64, ok bool) {
	n, ok = w.floor[at]
	return n, ok || at.source >= w.known
}

// see checks the next event and returns what is wrong with it.
func (w *watch) see(ev irohub.Event) error {
	var b body
	if err := json.Unmarshal(ev.Payload, &b); err != nil {
		return fmt.Errorf("%s: payload %.100q: %w", ev.Topic(), ev.Payload, err)
	}
	topic, err := strconv.Atoi(ev.ID)
	sources := w.ledger.all()
	switch {
	case err != nil || ev.Topic() != topicName(topic) || !w.topics[topic]:
		return fmt.Errorf("there is no subscription to the topic %q", ev.Topic())
	case b.Source < 0 || b.Source >= len(sources):
		return fmt.Errorf("%s: there is no source %d", ev.Topic(), b.Source)
	}
	from, at := sources[b.Source], stream{b.Source, topic}
	last, seen := w.last[at]
	first, known := w.from(at)
	w.last[at] = b.N
	fault := ""
	switch {
	case ev.From != from.from:
		fault = fmt.Sprintf("is from %s, not %s", ev.From, from.from)
	case from == w.own:
		fault = "is its own"
	case b.N >= from.next[topic].Load():
		fault = "was never published"
	case seen && b.N == last:
		fault = "is a duplicate"
	case seen && b.N < last:
		fault = fmt.Sprintf("is out of order or a duplicate: it follows %d", last)
	case seen && b.N > last+1 && !w.excuse(at):
		fault = fmt.Sprintf("follows %d: a gap", last)
	case !seen && known && b.N > first && !w.excuse(at):
		fault = fmt.Sprintf("is the first: a gap behind the acknowledgement, which was before %d", first)
	default:
		return nil
	}
	return fmt.Errorf("%s: event %d of source %d %s", ev.Topic(), b.N, b.Source, fault)
}

// excuse reports whether a connection was lost since the last gap in this stream. The Spoke reports a loss
// before it reconnects, so the report precedes any gap.
func (w *watch) excuse(at stream) bool {
	losses := w.losses()
	ok := losses > w.excusedUpTo(at)
	w.excused[at] = losses
	return ok
}

func (w *watch) excusedUpTo(at stream) int { return max(w.born, w.excused[at]) }

// missing returns a published event that has not arrived; "" if there is none. It is only valid when nobody
// publishes any more. It does not count events that a source lost on the way to the hub, or events of an
// ended source before a loss of this subscriber.
func (w *watch) missing() string {
	for _, s := range w.ledger.all() {
		if s == w.own {
			continue
		}
		for t := range w.topics {
			at := stream{s.number, t}
			switch state := s.state.Load(); {
			case state == open, state == broken, state == complete && w.losses() > w.excusedUpTo(at):
				continue
			}
			have, known := w.from(at)
			if last, seen := w.last[at]; seen {
				have, known = last+1, true
			}
			if want := s.next[t].Load(); known && have < want {
				return fmt.Sprintf("%s: events %d to %d of source %d", topicName(t), have, want-1, s.number)
			}
		}
	}
	return ""
}
