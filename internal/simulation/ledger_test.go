package simulation

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"irohub"
)

// topics is the number of topics with numbered events: t:0, t:1 and so on.
const topics = 5

func topicName(topic int) string { return "t:" + strconv.Itoa(topic) }

// A body is the payload of a numbered event.
type body struct {
	Source int    `json:"source"`
	N      int    `json:"n"`
	Pad    string `json:"pad,omitempty"`
}

// A source publishes numbered events one after another. If an event is refused, the next one
// gets its number. So if a refused event arrives all the same, it shows as a duplicate.
type source struct {
	// Immutable.
	number int
	hub    *hub   // one of these two
	spoke  *spoke //

	// Guarded by world.mu.
	born  [topics][]int // for each event: how many connections its spoke had lost when Publish began
	taken [topics]int   // number of events for which Publish returned nil
}

func (s *source) losses() (known, all int) {
	if s.spoke == nil {
		return 0, 0
	}
	return s.spoke.endpoint.lost()
}

// lost reports whether a connection that may have carried the event has ended. world.mu must be held.
func (s *source) lost(topic, n int) bool {
	_, losses := s.losses()
	return s.born[topic][n] < losses
}

func (s *source) id() (id irohub.NodeID) {
	if s.spoke != nil {
		id = s.spoke.endpoint.ID()
	}
	return id
}

func (w *world) source(h *hub, s *spoke) *source {
	w.mu.Lock()
	defer w.mu.Unlock()
	src := &source{number: len(w.sources), hub: h, spoke: s}
	w.sources = append(w.sources, src)
	return src
}

// An eventKey identifies a numbered event.
type eventKey struct{ source, topic, n int }

// begin makes the next event of a topic.
func (w *world) begin(s *source, topic, pad int) (irohub.Event, eventKey) {
	losses, _ := s.losses()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(s.born[topic])
	s.born[topic] = append(s.born[topic], losses)
	text, err := json.Marshal(body{s.number, n, strings.Repeat("x", pad)})
	if err != nil {
		panic(err) // a struct of two numbers and a string
	}
	return irohub.Event{Type: "t", ID: strconv.Itoa(topic), Payload: text}, eventKey{s.number, topic, n}
}

// published records the result of Publish.
func (w *world) published(s *source, key eventKey, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		s.taken[key.topic]++
	} else {
		s.born[key.topic] = s.born[key.topic][:key.n]
	}
}

// A flow is the events of one source on one topic.
type flow struct{ source, topic int }

// A watch checks the events of one Subscription from its acknowledgement on.
type watch struct {
	w      *world
	spoke  *spoke // the owner; nil: the hub
	topics [topics]bool

	// Guarded by world.mu.
	begun   bool
	lost    int // connections lost before it was requested
	floor   map[flow]int
	next    map[flow]int // the next event that must arrive; follows the newest one if none was owed before
	newest  map[flow]int
	excused map[flow]int // losses that cannot explain a further gap; missing: lost
	seen    map[eventKey]bool
}

func (w *world) watch(s *spoke, names ...string) *watch {
	v := &watch{
		w: w, spoke: s,
		floor: make(map[flow]int), next: make(map[flow]int), newest: make(map[flow]int),
		excused: make(map[flow]int), seen: make(map[eventKey]bool),
	}
	v.lost, _ = v.losses()
	for t := range topics {
		for _, name := range names {
			v.topics[t] = v.topics[t] || name == topicName(t) || name == "t:*" || name == "*"
		}
	}
	return v
}

func (v *watch) losses() (known, all int) {
	if v.spoke == nil {
		return 0, 0
	}
	return v.spoke.endpoint.lost()
}

// begin is called when the subscription is acknowledged.
func (v *watch) begin() {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	v.begun = true
	for _, s := range v.w.sources {
		for t := range topics {
			v.floor[flow{s.number, t}] = len(s.born[t])
		}
	}
}

// see checks the next event and returns what is wrong with it.
func (v *watch) see(ev irohub.Event) string {
	var b body
	if err := json.Unmarshal(ev.Payload, &b); err != nil {
		return fmt.Sprintf("%s has payload %.60q", ev.Topic(), ev.Payload)
	}
	topic, err := strconv.Atoi(ev.ID)
	_, losses := v.losses()
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	if err != nil || topic < 0 || topic >= topics || !v.topics[topic] {
		return fmt.Sprintf("%s came and is not subscribed to", ev.Topic())
	}
	if b.Source < 0 || b.Source >= len(v.w.sources) {
		return fmt.Sprintf("there is no source %d", b.Source)
	}
	s, at, key := v.w.sources[b.Source], flow{b.Source, topic}, eventKey{b.Source, topic, b.N}
	name := fmt.Sprintf("event %d of source %d on %s", b.N, b.Source, topicName(topic))
	switch {
	case ev.From != s.id():
		return name + " has another's From"
	case b.N < 0 || b.N >= len(s.born[topic]):
		return name + " was never published, or refused"
	case v.seen[key]:
		return name + " came twice"
	case s.spoke != nil && s.spoke == v.spoke && losses == 0:
		return name + " came back to its publisher"
	}
	v.seen[key] = true
	next, ok := v.next[at]
	if !ok {
		next = v.floor[at]
	}
	if newest, ok := v.newest[at]; ok && b.N < newest && !s.lost(topic, b.N) {
		return fmt.Sprintf("%s came behind %d", name, newest)
	}
	if fault := v.owed(at, b.N, losses); fault != "" {
		return fault + fmt.Sprintf(" has not come, and %d has", b.N)
	}
	v.next[at], v.newest[at] = max(next, b.N+1), max(v.newest[at], b.N)
	return ""
}

// owed returns an event of a flow before end that should have arrived. world.mu must be held.
func (v *watch) owed(at flow, end, losses int) string {
	s := v.w.sources[at.source]
	if s.spoke == v.spoke || s.spoke != nil && !s.spoke.honest() { // the spoke's own, or events that passed a hostile hub
		return ""
	}
	next, ok := v.next[at]
	if !ok {
		next = v.floor[at]
	}
	for n := next; n < end; n++ {
		if s.lost(at.topic, n) || s.spoke != nil && (s.spoke.told || isClosed(s.spoke.endpoint.closed)) || v.seen[eventKey{at.source, at.topic, n}] {
			continue
		}
		excused, ok := v.excused[at]
		if !ok {
			excused = v.lost
		}
		if losses > excused {
			// A slow reader may see a gap after later losses. So a gap uses up one loss, not all.
			v.excused[at] = excused + 1
			v.next[at] = end
			return ""
		}
		return fmt.Sprintf("event %d of source %d on %s", n, at.source, topicName(at.topic))
	}
	return ""
}

// missing returns an event that has not arrived although the world is at rest. losses is the
// number of lost connections that may each explain one gap. only restricts it to events of one
// hub.
func (v *watch) missing(only *hub, losses int) string {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	if !v.begun {
		return ""
	}
	for _, s := range v.w.sources {
		for t := range topics {
			if !v.topics[t] || only != nil && s.hub != only {
				continue
			}
			if fault := v.owed(flow{s.number, t}, s.taken[t], losses); fault != "" {
				return fault
			}
		}
	}
	return ""
}
