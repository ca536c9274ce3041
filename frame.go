package irohub

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"irohub/internal/framing"
	"irohub/internal/jsonscan"
)

// An Event is published by one node and delivered to subscribers. Its JSON form is the
// protocol's envelope.
type Event struct {
	Type string `json:"type"`         // not empty; must not begin with "__"
	ID   string `json:"id,omitempty"` // the subject of the event, such as a conversation; may be empty

	// From is the spoke that published the event. The hub's handshake with the spoke has
	// verified it. From is zero if the hub itself published the event. Publish ignores it.
	From NodeID `json:"from,omitzero"`

	// Payload is any JSON text, or nil. Do not change the payload of a delivered event: all
	// Subscriptions of the process share its bytes. The payload may also be a part of a larger
	// block of up to 64 KiB, with other events of the same topic and sender. If you keep only a
	// few payloads, clone them, so that the blocks can be freed.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Topic returns the topic that subscriptions must match: Type, or Type:ID if ID is not
// empty.
func (e Event) Topic() string {
	if e.ID == "" {
		return e.Type
	}
	return e.Type + ":" + e.ID
}

// ErrInvalid is wrapped by the errors of Publish and Subscribe for a topic, an event or a
// payload that the protocol does not allow. NewHub and Dial wrap it for a nil endpoint or an
// address without a NodeID.
var ErrInvalid = errors.New("irohub: invalid")

const (
	maxTopic     = 1024               // bytes of a topic
	maxDepth     = jsonscan.MaxDepth  // nested objects and arrays of a frame, including the envelope
	headerSize   = framing.HeaderSize // of the length before a frame
	maxFrame     = 1 << 20
	controlMark  = "__"
	directPrefix = "direct:"

	// fromOverhead is how many bytes forwarding adds to a frame: ,"from":"" and 64 digits.
	fromOverhead = 10 + 64
)

// validTopic returns an error unless events and subscriptions may have this topic.
func validTopic(topic string) error {
	switch {
	case topic == "":
		return fmt.Errorf("%w topic: empty", ErrInvalid)
	case len(topic) > maxTopic:
		return fmt.Errorf("%w topic: %d bytes, the limit is %d", ErrInvalid, len(topic), maxTopic)
	case strings.HasPrefix(topic, controlMark):
		return fmt.Errorf("%w topic %q: names that begin with %s are the protocol's", ErrInvalid, topic, controlMark)
	case !utf8.ValidString(topic):
		return fmt.Errorf("%w topic %q: not UTF-8", ErrInvalid, topic)
	}
	for i := range len(topic) {
		// U+0000 to U+001F, U+007F, and U+0080 to U+009F, which begin with C2.
		if c := topic[i]; c < 0x20 || c == 0x7F || c == 0xC2 && topic[i+1] < 0xA0 {
			return fmt.Errorf("%w topic %q: control character at byte %d", ErrInvalid, topic, i)
		}
	}
	return nil
}

// encode checks an event that this process publishes, and encodes it as a run. limit is the
// maximal size of the frame, without its length header.
func (e *Event) encode(limit int) (run, error) {
	switch {
	case e.Type == "":
		return run{}, fmt.Errorf("%w event: no type", ErrInvalid)
	case len(e.Payload) > limit:
		return run{}, fmt.Errorf("%w event %q: the payload alone has %d bytes, the limit of the frame is %d", ErrInvalid, e.Topic(), len(e.Payload), limit)
	case e.Payload != nil && !validPayload(e.Payload):
		return run{}, fmt.Errorf("%w payload of %q: not JSON of at most %d levels in UTF-8", ErrInvalid, e.Topic(), maxDepth-1)
	}
	topic := topicName{e.Topic(), len(e.Type)}
	if err := validTopic(topic.text); err != nil {
		return run{}, err
	}
	buf := encodeBuffers.Get().(*[]byte)
	defer recycleText(buf)
	var r run
	*buf, r = appendRun(*buf, topic, e.Payload, NodeID{})
	if size := len(r.bytes) - headerSize; size > limit {
		return run{}, fmt.Errorf("%w event %q: the frame has %d bytes, the limit is %d", ErrInvalid, e.Topic(), size, limit)
	}
	r.bytes = bytes.Clone(r.bytes)
	return r, nil
}

// encodeBuffers are empty buffers for encoding events.
var encodeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// recycleText returns a buffer to the pool, unless it has grown large.
func recycleText(buf *[]byte) {
	if cap(*buf) <= 2*framing.MaxBuffer {
		*buf = (*buf)[:0]
		encodeBuffers.Put(buf)
	}
}

// validPayload checks a payload, which is nested one level deep in an envelope.
func validPayload(payload []byte) bool { return jsonscan.Valid(payload, 1) }

// appendFrame encodes one envelope behind its length header. It copies the payload's bytes
// unchanged.
func appendFrame(buf []byte, typ, id string, payload []byte, from NodeID) []byte {
	start := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = append(buf, `{"type":`...)
	buf = jsonscan.AppendQuoted(buf, typ)
	if len(id) > 0 {
		buf = append(buf, `,"id":`...)
		buf = jsonscan.AppendQuoted(buf, id)
	}
	if from != (NodeID{}) {
		const digits = "0123456789abcdef"
		buf = append(buf, `,"from":"`...)
		for _, b := range from {
			buf = append(buf, digits[b>>4], digits[b&15])
		}
		buf = append(buf, '"')
	}
	if len(payload) > 0 {
		buf = append(buf, `,"payload":`...)
		buf = append(buf, payload...)
	}
	buf = append(buf, '}')
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-headerSize))
	return buf
}

// An envelope is the parsed content of a frame. Its slices point into the frame, except for
// strings with escapes.
type envelope struct {
	typ, id []byte // decoded
	from    []byte // the raw JSON value; a hub ignores it
	payload []byte // the raw JSON value; nil: none
}

// protocolError returns the error for a peer that broke the protocol. It closes the stream
// with CodeProtocol.
func protocolError(format string, args ...any) error {
	return &CloseError{Code: CodeProtocol, Reason: fmt.Sprintf(format, args...)}
}

var (
	errNotJSON = protocolError("a frame is not one JSON object in UTF-8, nested at most %d deep", maxDepth)
	errFrom    = protocolError("an envelope's from is not a NodeID")
)

// parseEnvelope checks a whole frame, including the payload, and finds the envelope's members
// in the same pass.
func parseEnvelope(body []byte) (envelope, error) {
	if env, ok := parsePlain(body); ok {
		return env, nil
	}
	return parseAny(body)
}

// parsePlain is a fast path. It parses the form that appendFrame and most other encoders
// write: members in this order, without spaces between them, and type and id in plain ASCII
// without escapes. For any other form ok is false, and the caller uses parseAny. Both give the
// same result.
func parsePlain(body []byte) (env envelope, ok bool) {
	at := 0
	literal := func(text string) bool {
		found := len(body)-at >= len(text) && string(body[at:at+len(text)]) == text
		if found {
			at += len(text)
		}
		return found
	}
	// plain reads the rest of a string whose opening quote has been read.
	plain := func() []byte {
		first := at
		if at = jsonscan.SkipPlain(body, at); !jsonscan.IsAt(body, at, '"') {
			return nil
		}
		at++
		return body[first : at-1 : at-1]
	}
	if !literal(`{"type":"`) {
		return env, false
	}
	if env.typ = plain(); len(env.typ) == 0 {
		return env, false
	}
	if literal(`,"id":"`) {
		if env.id = plain(); env.id == nil {
			return env, false
		}
	}
	if literal(`,"from":"`) {
		first := at - 1
		if plain() == nil {
			return env, false
		}
		env.from = body[first:at:at]
	}
	if literal(`,"payload":`) {
		env.payload, ok = lastPayload(body, at)
		return env, ok
	}
	return env, at == len(body)-1 && body[at] == '}'
}

// lastPayload returns the value that begins at body[at], if it is the envelope's last member.
func lastPayload(body []byte, at int) (payload []byte, ok bool) {
	end, ok := jsonscan.SkipValue(body, at, 1)
	if !ok || end != len(body)-1 || body[end] != '}' {
		return nil, false
	}
	return body[at:end:end], true
}

// parseAny parses an envelope in any form.
func parseAny(body []byte) (envelope, error) {
	var env envelope
	var typ, id []byte
	obj := jsonscan.Object{Text: body, Depth: 1}
	for obj.Next() {
		var seen *[]byte
		switch string(obj.Name) {
		case "type":
			seen = &typ
		case "id":
			seen = &id
		case "from":
			seen = &env.from
		case "payload":
			seen = &env.payload
		default:
			continue
		}
		if *seen != nil {
			return env, protocolError("a frame repeats the member %q", obj.Name)
		}
		*seen = obj.Value
	}
	if !obj.Complete() {
		return env, errNotJSON
	}
	if len(typ) <= len(`""`) || typ[0] != '"' {
		return env, protocolError("an envelope's type is not a string, or empty")
	}
	if id != nil && id[0] != '"' {
		return env, protocolError("an envelope's id is not a string")
	}
	var ok bool
	if env.typ, ok = jsonscan.Unquote(typ); !ok {
		return env, protocolError("an envelope's type has an unpaired surrogate")
	}
	if id != nil {
		if env.id, ok = jsonscan.Unquote(id); !ok {
			return env, protocolError("an envelope's id has an unpaired surrogate")
		}
	}
	return env, nil
}

// isControl reports whether the envelope is a control event: one for the hub or the spoke
// itself.
func (e *envelope) isControl() bool {
	return len(e.typ) >= 2 && e.typ[0] == '_' && e.typ[1] == '_'
}

// sender parses from, in an envelope from a hub. The protocol has NodeIDs in lower case only.
func (e *envelope) sender() (id NodeID, err error) {
	if e.from == nil {
		return id, nil
	}
	if e.from[0] != '"' {
		return id, errFrom
	}
	digits, _ := jsonscan.Unquote(e.from)
	if len(digits) != hex.EncodedLen(len(id)) || bytes.ContainsAny(digits, "ABCDEF") {
		return id, errFrom
	}
	if _, err := hex.Decode(id[:], digits); err != nil {
		return id, errFrom
	}
	return id, nil
}

// The types of control events.
const (
	typeSubscribe   = "__subscribe"
	typeUnsubscribe = "__unsubscribe"
	typeAck         = "__ack"
	typeError       = "__error"
)

// The codes of __error.
const (
	refusedForbidden = "forbidden"
	refusedTopic     = "invalid_topic"
	refusedTooMany   = "too_many_subscriptions"
	refusedPayload   = "invalid_payload"
)

// controlTopics parses the payload of __subscribe and __unsubscribe. ok is false if the
// payload has another form. err is set if the peer broke the protocol. controlTopics stops
// after most+1 topics.
func controlTopics(payload []byte, most int) (topics []string, ok bool, err error) {
	var one, many []byte
	obj := jsonscan.Object{Text: payload}
	for obj.Next() {
		var seen *[]byte
		switch string(obj.Name) {
		case "topic":
			seen = &one
		case "topics":
			seen = &many
		default:
			continue
		}
		if *seen != nil {
			return nil, false, nil
		}
		*seen = obj.Value
	}
	if !obj.Complete() || (one == nil) == (many == nil) {
		return nil, false, nil
	}
	list := jsonscan.Array{Text: many}
	if one != nil {
		list = jsonscan.Array{Only: one}
	}
	for list.Next() {
		if list.Value[0] != '"' {
			return nil, false, nil
		}
		topic, ok := jsonscan.Unquote(list.Value)
		if !ok {
			return nil, false, protocolError("a topic has an unpaired surrogate")
		}
		topics = append(topics, string(topic))
		if len(topics) > most {
			return topics, true, nil
		}
	}
	return topics, list.Complete(), nil
}

// ackFrame answers a control event that succeeded.
func ackFrame(id string) []byte {
	return appendFrame(nil, typeAck, id, nil, NodeID{})
}

// errorFrame answers an event or request that was refused. It has at most maxAnswer bytes
// besides the id, so that a spoke with a small MaxFrame can take it.
func errorFrame(id, code, topic, text string) []byte {
	payload := append([]byte(`{"code":`), '"')
	payload = append(append(payload, code...), `","topic":`...)
	payload = appendCut(payload, topic, 2*maxTopic)
	payload = append(payload, `,"message":`...)
	payload = appendCut(payload, text, maxTopic)
	payload = append(payload, '}')
	return appendFrame(nil, typeError, id, payload, NodeID{})
}

// maxAnswer is the maximal size of an answer in bytes, without its id.
const maxAnswer = 4 << 10

// appendCut appends s as a JSON string. It shortens s so that the string has up to most
// bytes.
func appendCut(buf []byte, s string, most int) []byte {
	start := len(buf)
	s = strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
	for {
		buf = jsonscan.AppendQuoted(buf[:start], s)
		size := len(buf) - start
		if size <= most {
			return buf
		}
		s = strings.ToValidUTF8(s[:len(s)*most/size-1], "") // drops a partial character
	}
}

// subscribeFrame encodes a spoke's request to add or remove topics. There may be none.
func subscribeFrame(typ, id string, topics ...string) []byte {
	payload := []byte(`{"topics":[`)
	for i, topic := range topics {
		if i > 0 {
			payload = append(payload, ',')
		}
		payload = jsonscan.AppendQuoted(payload, topic)
	}
	payload = append(payload, "]}"...)
	return appendFrame(nil, typ, id, payload, NodeID{})
}

// A topicName is a topic and the length of its type.
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

// A namer makes a topicName of a type and an id. Successive events often have the same topic,
// so it remembers the last one.
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
