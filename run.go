package irohub

import "encoding/binary"

// frames are encoded events, one behind the other. All who are given them share them.
type frames struct {
	bytes []byte
	count int
}

// cost is what frames count in a spoke's queue: no less than the memory that they take there,
// with what an allocation is rounded up by, and their place in a batch that grows.
func (f *frames) cost() int { return len(f.bytes) + len(f.bytes)/8 + 64 }

// A run is frames, as appendFrame makes them, of events of one topic and sender. It is how
// listeners get many events for little more than one.
type run struct {
	frames
	topic   topicName
	from    NodeID
	payload int // where it begins in each frame, up to the last byte but one; 0: there is none
}

// A message is a run on its way through a hub: at first, of one event.
type message struct {
	run
	sender  *subscriber // does not get its own event back; nil: the hub
	forward bool        // goes to spokes, not to listeners alone
}

// goesWith says whether events behind these are of the same run.
func (r *run) goesWith(next *run) bool {
	return r.payload == next.payload && r.topic == next.topic && r.from == next.from
}

// follows says whether memory that begins with next lies right behind the run's, with which it
// then makes one piece.
func (r *run) follows(next []byte) bool {
	n := len(r.bytes)
	return cap(r.bytes) > n && &r.bytes[:n+1][n] == &next[0]
}

// cost is what the run counts in a listener's queue: no less than the memory that it takes
// there, as that of frames is.
func (r *run) cost() int {
	return r.frames.cost() + len(r.topic.text) + len(r.topic.text)/8 + 192
}

// clone is the run in memory of its own, and no more than it needs.
func (r *run) clone() run {
	own := *r
	own.bytes = make([]byte, len(r.bytes))
	copy(own.bytes, r.bytes)
	return own
}

// within returns as many of the first events as cost no more than the limit, but no less than
// so many, in memory of their own.
func (r *run) within(limit, least int) run {
	first, rest := *r, *r
	first.bytes, first.count = r.bytes[:0], 0
	for rest.count > 0 {
		longer := first
		one := rest.shift()
		longer.bytes, longer.count = r.bytes[:len(first.bytes)+len(one.bytes)], first.count+1
		if first.count >= least && longer.cost() > limit {
			break
		}
		first = longer
	}
	return first.clone()
}

// shift takes the first event off.
func (r *run) shift() run {
	first := *r
	n := headerSize + int(binary.BigEndian.Uint32(r.bytes))
	first.bytes, first.count = r.bytes[:n], 1
	r.bytes, r.count = r.bytes[n:], r.count-1
	return first
}

// event is the run's only event as listeners get it.
func (r *run) event() Event {
	ev := Event{From: r.from}
	ev.Type, ev.ID = r.topic.split()
	if r.payload > 0 {
		end := len(r.bytes) - 1
		ev.Payload = r.bytes[r.payload:end:end]
	}
	return ev
}

// A topicName is a topic, and how much of it is the type.
type topicName struct {
	text string
	typ  int
}

func (t topicName) split() (typ, id string) {
	if len(t.text) == t.typ {
		return t.text, ""
	}
	return t.text[:t.typ], t.text[t.typ+1:]
}

// appendMessage encodes an event, behind what buf has.
func appendMessage(buf []byte, topic topicName, payload []byte, from NodeID) ([]byte, message) {
	start := len(buf)
	typ, id := topic.split()
	buf = appendFrame(buf, typ, id, payload, from)
	m := message{run: run{frames: frames{buf[start:], 1}, topic: topic, from: from}}
	if len(payload) > 0 {
		m.payload = len(m.bytes) - 1 - len(payload)
	}
	return buf, m
}

// A namer makes topics of what comes. As events tend to come in rows of one topic, it
// remembers the last.
type namer struct {
	last topicName
	buf  []byte
}

func (n *namer) name(typ, id []byte) topicName {
	if lastType, lastID := n.last.split(); lastType == string(typ) && lastID == string(id) {
		return n.last
	}
	n.buf = append(n.buf[:0], typ...)
	if len(id) > 0 {
		n.buf = append(append(n.buf, ':'), id...)
	}
	name := topicName{string(n.buf), len(typ)}
	if len(n.buf) > maxTopic { // invalid, and perhaps large
		n.buf = nil
	} else {
		n.last = name
	}
	return name
}
