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

// A body is the payload of every event: who published it, as the how manieth of its topic.
type body struct {
	Source int    `json:"source"`
	N      uint64 `json:"n"`
	Pad    string `json:"pad"`
}

// A source is one publisher on one connection. What it publishes it numbers from 0, each
// topic for itself.
type source struct {
	// Immutable.
	number int
	from   irohub.NodeID // zero: the hub

	next []atomic.Uint64 // by topic: the number of its next event

	state atomic.Int32 // how far the publisher has come
}

// The states of a source.
const (
	open     = iota // it publishes
	broken          // it has ended, and the hub may not have taken all of it
	complete        // it has ended, and the hub has taken all of it
	final           // the same, and its last event of each topic came when all spokes were at rest
)

// event makes the source's next event of a topic. It is counted before it is published, so
// that whoever reads the count knows that what is numbered so or higher comes later.
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

// all returns the sources that there have been, by number.
func (l *ledger) all() []*source {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sources[:len(l.sources):len(l.sources)]
}

// A stream is what one source publishes on one topic.
type stream struct{ source, topic int }

// A watch checks what one Subscription gets, from its acknowledgement on. One goroutine
// uses it.
type watch struct {
	ledger *ledger
	own    *source // the subscriber's, of which nothing must come; nil: it publishes nothing
	topics map[int]bool
	losses func() int // how often the connection was lost so far; each may leave a gap
	born   int        // losses before it was asked for

	known   int               // sources at the acknowledgement
	floor   map[stream]uint64 // for those that were open: what was not published yet
	last    map[stream]uint64
	excused map[stream]int // losses that cannot leave a gap any more; none: born
}

// newWatch is to be called before the subscription is made, and begin once that is
// acknowledged. Where losses is nil, the subscription does not outlast its connection.
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

// from returns the number of the first event of a stream that has to come; false: none has
// to, as its source had ended before the acknowledgement. Some may have been on the way.
func (w *watch) from(at stream) (n uint64, ok bool) {
	n, ok = w.floor[at]
	return n, ok || at.source >= w.known
}

// see checks the next event; its error says what is wrong with it.
func (w *watch) see(ev irohub.Event) error {
	var b body
	if err := json.Unmarshal(ev.Payload, &b); err != nil {
		return fmt.Errorf("%s: payload %.100q: %w", ev.Topic(), ev.Payload, err)
	}
	topic, err := strconv.Atoi(ev.ID)
	sources := w.ledger.all()
	switch {
	case err != nil || ev.Topic() != topicName(topic) || !w.topics[topic]:
		return fmt.Errorf("topic %q is not subscribed to", ev.Topic())
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

// excuse says whether a connection was lost since the last gap in this stream. The Spoke
// reports a loss before it connects again, so the report is there before a gap can be.
func (w *watch) excuse(at stream) bool {
	losses := w.losses()
	ok := losses > w.excusedUpTo(at)
	w.excused[at] = losses
	return ok
}

func (w *watch) excusedUpTo(at stream) int { return max(w.born, w.excused[at]) }

// missing says what has not come, of all that has been published; empty: nothing. It is
// of use only when nobody publishes any more. What a source has lost on its way to the hub
// is not missing, nor what one that has ended published before a loss of ours.
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
