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

// An Event is what is published and delivered: the envelope of the protocol. Its
// JSON form is that envelope.
type Event struct {
	Type string `json:"type"`         // not empty, and not beginning with "__"
	ID   string `json:"id,omitempty"` // what the event is about; may be empty

	// From is the spoke that published the event, verified by the hub's
	// handshake with it. It is zero where the hub itself published, and
	// ignored in what is published.
	From NodeID `json:"from,omitzero"`

	// Payload is any JSON text; nil: none. Listeners of one process share the
	// bytes of a delivered one: they must not be changed. They lie side by side with those
	// of other events of the same topic and sender, in pieces of memory of up to 64 KiB: who
	// keeps few of many should clone them.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Topic is what subscriptions are compared with: Type, or Type:ID where ID is not
// empty.
func (e Event) Topic() string {
	if e.ID == "" {
		return e.Type
	}
	return e.Type + ":" + e.ID
}

// ErrInvalid is wrapped by what Publish and Subscribe return for a topic, an event
// or a payload that the protocol does not allow, and by what NewHub and Dial return for an
// endpoint or an address that is none.
var ErrInvalid = errors.New("irohub: invalid")

const (
	maxTopic     = 1024              // bytes of a topic
	maxDepth     = jsonscan.MaxDepth // nested objects and arrays of a frame, the envelope's own counted
	headerSize   = 4                 // a frame's length, big-endian
	maxFrame     = 1 << 20
	controlMark  = "__"
	directPrefix = "direct:"

	// fromOverhead is what forwarding adds to a frame: ,"from":"" and 64 digits.
	fromOverhead = 10 + 64
)

// validTopic says whether an event may have this topic, or a subscription name it.
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

// encode checks an event that this process publishes and makes a run of it,
// whose frame has at most limit bytes behind its length.
func (e *Event) encode(limit int) (run, error) {
	switch {
	case e.Type == "":
		return run{}, fmt.Errorf("%w event: no type", ErrInvalid)
	case len(e.Payload) > limit:
		return run{}, fmt.Errorf("%w event %q: a payload of %d bytes, the limit is %d with the rest of the frame", ErrInvalid, e.Topic(), len(e.Payload), limit)
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
		return run{}, fmt.Errorf("%w event %q: a frame of %d bytes, the limit is %d", ErrInvalid, e.Topic(), size, limit)
	}
	r.bytes = bytes.Clone(r.bytes)
	return r, nil
}

// encodeBuffers have what events are encoded in. They are empty.
var encodeBuffers = sync.Pool{New: func() any { return new([]byte) }}

// recycleText keeps a buffer for another event, but not one that what was encoded has made large.
func recycleText(buf *[]byte) {
	if cap(*buf) <= 2*framing.MaxBuffer {
		*buf = (*buf)[:0]
		encodeBuffers.Put(buf)
	}
}

// validPayload checks a payload for its place in an envelope, one level deep.
func validPayload(payload []byte) bool { return jsonscan.Valid(payload, 1) }

// appendFrame encodes one envelope with its length before it. The payload's bytes
// stay as they are.
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

// An envelope is a frame's content as the reader sees it. Its slices lie in the
// frame, but for strings that had escapes.
type envelope struct {
	typ, id []byte // decoded
	from    []byte // the value as it came; a hub ignores it
	payload []byte // the value as it came; nil: none
}

// A protocolError is what a peer sent against the protocol; it closes the stream
// with CodeProtocol.
func protocolError(format string, args ...any) error {
	return &CloseError{Code: CodeProtocol, Reason: fmt.Sprintf(format, args...)}
}

var (
	errNotJSON = protocolError("a frame is not one JSON object in UTF-8, nested at most %d deep", maxDepth)
	errFrom    = protocolError("an envelope's from is not a NodeID")
)

// parseEnvelope checks a whole frame, payload included, and finds in one pass what
// a router must see.
func parseEnvelope(body []byte) (envelope, error) {
	if env, ok := parsePlain(body); ok {
		return env, nil
	}
	return parseAny(body)
}

// parsePlain reads an envelope in the form in which appendFrame and most others write
// one: members in order, without spaces between them, and names in plain ASCII. It is
// parseAny's shorter way to the same result, and leaves to that whatever is otherwise.
func parsePlain(body []byte) (env envelope, ok bool) {
	at := 0
	literal := func(text string) bool {
		found := len(body)-at >= len(text) && string(body[at:at+len(text)]) == text
		if found {
			at += len(text)
		}
		return found
	}
	// What is inside the quotes of a string, of which the first is behind.
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

// lastPayload is the value that begins at body[at], if that is an envelope's last member.
func lastPayload(body []byte, at int) (payload []byte, ok bool) {
	end, ok := jsonscan.SkipValue(body, at, 1)
	if !ok || end != len(body)-1 || body[end] != '}' {
		return nil, false
	}
	return body[at:end:end], true
}

// parseAny reads an envelope in any form.
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
		return env, protocolError("an envelope's type has half a surrogate pair")
	}
	if id != nil {
		if env.id, ok = jsonscan.Unquote(id); !ok {
			return env, protocolError("an envelope's id has half a surrogate pair")
		}
	}
	return env, nil
}

// isControl says whether the envelope is for the hub or the spoke itself.
func (e *envelope) isControl() bool {
	return len(e.typ) >= 2 && e.typ[0] == '_' && e.typ[1] == '_'
}

// sender is what from says, in what a hub sent.
func (e *envelope) sender() (id NodeID, err error) {
	if e.from == nil {
		return id, nil
	}
	if e.from[0] != '"' {
		return id, errFrom
	}
	digits, _ := jsonscan.Unquote(e.from)
	if len(digits) != hex.EncodedLen(len(id)) {
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

// controlTopics reads the payload of __subscribe and __unsubscribe. ok is false
// where its shape is wrong; err is set where the protocol was broken. Of more topics than
// most it reads one more, and looks no further.
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
			return nil, false, protocolError("a topic has half a surrogate pair")
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

// errorFrame answers a control event that was refused. Without its id it has at most
// maxAnswer bytes, so that a spoke with a small limit can take it.
func errorFrame(id, code, topic, text string) []byte {
	payload := append([]byte(`{"code":`), '"')
	payload = append(append(payload, code...), `","topic":`...)
	payload = appendCut(payload, topic, 2*maxTopic)
	payload = append(payload, `,"message":`...)
	payload = appendCut(payload, text, maxTopic)
	payload = append(payload, '}')
	return appendFrame(nil, typeError, id, payload, NodeID{})
}

// maxAnswer is how many bytes an answer has at most, without its id.
const maxAnswer = 4 << 10

// appendCut appends s as a JSON string of at most so many bytes, and cuts off what is more.
func appendCut(buf []byte, s string, most int) []byte {
	start := len(buf)
	s = strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
	for {
		buf = jsonscan.AppendQuoted(buf[:start], s)
		size := len(buf) - start
		if size <= most {
			return buf
		}
		s = strings.ToValidUTF8(s[:len(s)*most/size-1], "") // which leaves no half character
	}
}

// subscribeFrame is what a spoke sends to add or remove topics, or none.
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
