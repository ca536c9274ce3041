package irohub

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"irohub/internal/jsonscan/reference"
)

// refEnvelope decides by PROTOCOL.md what parseEnvelope must say.
func refEnvelope(body []byte) (typ, id string, payload []byte, ok bool) {
	members, ok := reference.Members(body, 128)
	if !ok {
		return "", "", nil, false
	}
	known := make(map[string]string)
	for _, m := range members {
		switch m[0] {
		case "type", "id", "payload", "from":
			if _, repeated := known[m[0]]; repeated {
				return "", "", nil, false
			}
			known[m[0]] = m[1]
		}
	}
	typ, isString, whole := reference.String(cmp.Or(known["type"], "null"))
	if !isString || !whole || typ == "" {
		return "", "", nil, false
	}
	if text, there := known["id"]; there {
		if id, isString, whole = reference.String(text); !isString || !whole {
			return "", "", nil, false
		}
	}
	if text, there := known["payload"]; there {
		payload = []byte(text)
	}
	return typ, id, payload, true
}

// vectorFrames are the frames of the test vectors, good and bad.
func vectorFrames(f *testing.F) (frames [][]byte) {
	f.Helper()
	v := readVectors(f)
	for _, valid := range v.Valid {
		frames = append(frames, valid.Frame)
	}
	for _, invalid := range v.Invalid {
		frames = append(frames, invalid.Frame)
	}
	return frames
}

func FuzzEnvelope(f *testing.F) {
	for _, text := range reference.Values {
		f.Add([]byte(text))
		f.Add([]byte(`{"type":"t","payload":` + text + `}`))
	}
	for _, body := range []string{
		`{"type":"message.sent","id":"conv-123","payload":{"n":[1,2.5e-3,true]},"from":"00"}`,
		" { \"t\\u0079pe\" : \"a\\/\\n\" , \"x\":[] ,\t\"id\":\"\\ud83d\\ude00\",\"payload\": [ 1 , 2 ] \r\n} ",
		`{"type":"t","type":"u"}`, `{"type":"t","\u0069d":"","id":""}`, `{"Type":"t","type":"\ud800"}`, `{"type":"","id":null}`,
		`{"type":"t","id":"\udc00\ud800"}`, `{"type":"t","x":"\ud800","payload":"\udfff"}`, `{"type":"тип","id":"识别"}`,
		`{"type":"t","payload":` + reference.Nest(127, "ao") + `}`, `{"type":"t","payload":` + reference.Nest(128, "oa") + `}`,
	} {
		f.Add([]byte(body))
	}
	for _, frame := range vectorFrames(f) {
		f.Add(frame[min(headerSize, len(frame)):])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		env, err := parseEnvelope(body)
		if !bytes.Equal(body, before) {
			t.Fatalf("the frame was changed")
		}
		typ, id, payload, ok := refEnvelope(body)
		if (err == nil) != ok {
			t.Fatalf("parseEnvelope says %v, the reference %v", err, ok)
		}
		if err != nil {
			wantProtocolError(t, err, "")
			return
		}
		if string(env.typ) != typ || string(env.id) != id {
			t.Errorf("type %q, id %q; want %q, %q", env.typ, env.id, typ, id)
		}
		if !bytes.Equal(env.payload, payload) || (env.payload == nil) != (payload == nil) {
			t.Errorf("payload %q, want %q", env.payload, payload)
		}
		if payload != nil && !validPayload(payload) {
			t.Errorf("a hub could not publish the payload %q", payload)
		}
		if env.from == nil {
			if ev, topic, err := eventOf(t, body); err != nil || ev.Topic() != topic || ev.Type != typ || ev.ID != id {
				t.Errorf("event %+v with topic %q, %v", ev, topic, err)
			}
		}
	})
}

// refControlTopics decides by PROTOCOL.md about a payload that is JSON. broken: a
// topic has half a surrogate pair.
func refControlTopics(payload []byte) (topics []string, ok, broken bool) {
	members, ok := reference.Members(payload, 127)
	if !ok {
		return nil, false, false
	}
	var list []json.RawMessage
	found := 0
	for _, m := range members {
		switch m[0] {
		case "topic":
			list = []json.RawMessage{json.RawMessage(m[1])}
			found++
		case "topics":
			list = nil
			if m[1][0] != '[' || json.Unmarshal([]byte(m[1]), &list) != nil {
				return nil, false, false
			}
			found++
		}
	}
	if found != 1 {
		return nil, false, false
	}
	for _, text := range list {
		topic, isString, whole := reference.String(string(text))
		if !isString || !whole {
			return nil, false, isString
		}
		topics = append(topics, topic)
	}
	return topics, true, false
}

func FuzzControlTopics(f *testing.F) {
	for _, payload := range []string{
		``, `null`, `{}`, `[]`, `{"topic":"t"}`, `{"topics":["a","b:c"]}`, `{"topics":[]}`, ` { "topics" : [ "a" , "b" ] } `,
		`{"t\u006fpic":"\u0061\ud83d\ude00"}`, `{"topic":"t","topics":[]}`, `{"topic":"t","topic":"t"}`, `{"topic":null}`, `{"topics":"t"}`,
		`{"topics":["a",1]}`, `{"topics":[1,"\ud800"]}`, `{"topics":["\ud800",1]}`, `{"topics":[["a"]]}`, `{"topic":"\udc00"}`, `{"x":{"topic":1},"topic":"é"}`,
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		topics, ok, err := controlTopics(payload, math.MaxInt)
		if !validPayload(payload) {
			if ok {
				t.Fatalf("%q passes, which is not JSON", payload)
			}
			return // never comes as far: the envelope is refused
		}
		want, wantOK, broken := refControlTopics(payload)
		if ok != wantOK || (err != nil) != broken {
			t.Fatalf("got %v, %v; the reference says %v, broken: %v", ok, err, wantOK, broken)
		}
		if ok && !reflect.DeepEqual(topics, want) {
			t.Errorf("got %q, want %q", topics, want)
		}
	})
}

func refTopic(topic string) bool {
	return len(topic) >= 1 && len(topic) <= 1024 && utf8.ValidString(topic) &&
		!strings.HasPrefix(topic, "__") && !strings.ContainsFunc(topic, unicode.IsControl)
}

func FuzzTopic(f *testing.F) {
	for _, topic := range []string{
		"", "t", "message.sent:conv-123", "a:*", "__x", "_", "a\x00", "a\x7f", "\u0080", "\u009f", "\u00a0", "\u0105", "é\xc2", "\x85", "😀", "\xed\xa0\x80",
		strings.Repeat("t", 1024), strings.Repeat("t", 1025), strings.Repeat("é", 512),
	} {
		f.Add(topic)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		err := validTopic(topic)
		if (err == nil) != refTopic(topic) {
			t.Errorf("validTopic(%q) is %v", topic, err)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%v does not wrap ErrInvalid", err)
		}
	})
}

// FuzzRoundTrip sends an event from a spoke through a hub to a listener.
func FuzzRoundTrip(f *testing.F) {
	f.Add("t", "", []byte(nil), []byte(nil))
	f.Add("message.sent", "conv-123", []byte(` {"n": [1]} `), []byte("a node"))
	f.Add("a:b", `c:"d"\`, []byte(`null`), []byte{0})
	f.Add("тип", "😀*", []byte(`"\ud800é"`), []byte{1})
	f.Add("", "id", []byte(`1`), []byte{})
	f.Add("__x", "", []byte(`1,"from":""`), []byte{})
	f.Add("t", "\u0085", []byte("\"\xff\""), []byte{})
	f.Fuzz(func(t *testing.T, typ, id string, payload, node []byte) {
		ev := Event{Type: typ, ID: id, Payload: payload}
		if len(payload) == 0 {
			ev.Payload = nil
		}
		m, err := ev.encode(maxFrame)
		ok := typ != "" && refTopic(ev.Topic()) && len(payload) < maxFrame-8192
		if ev.Payload != nil {
			ok = ok && utf8.Valid(payload) && json.Valid(payload) && reference.Depth(payload) <= 127
		}
		if (err == nil) != ok {
			t.Fatalf("encode says %v, the reference %v", err, ok)
		}
		if err != nil {
			return
		}
		if got := m.event(); !reflect.DeepEqual(got, ev) {
			t.Fatalf("the hub's listener gets %+v, want %+v", got, ev)
		}

		copy(ev.From[:], node)
		if ev.Payload != nil {
			ev.Payload = bytes.TrimSpace(ev.Payload) // the spaces around it are the envelope's
		}
		env := wantFrame(t, m.bytes)
		if env.isControl() || env.from != nil {
			t.Fatalf("the frame is %q", m.bytes)
		}
		_, forwarded := appendRun(nil, new(namer).name(env.typ, env.id), env.payload, ev.From)
		if got := forwarded.event(); !reflect.DeepEqual(got, ev) {
			t.Fatalf("the hub's listener gets %+v, want %+v", got, ev)
		}
		if forwarded.topic.text != ev.Topic() {
			t.Fatalf("the topic is %q, want %q", forwarded.topic.text, ev.Topic())
		}

		wantFrame(t, forwarded.bytes)
		got, topic, err := eventOf(t, forwarded.bytes[headerSize:])
		if err != nil || topic != ev.Topic() || !reflect.DeepEqual(got, ev) {
			t.Fatalf("the spoke's listener gets %+v by %q, %v; want %+v", got, topic, err, ev)
		}

		// What encoding/json makes of the frame is the same event.
		var std Event
		if err := json.Unmarshal(forwarded.bytes[headerSize:], &std); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(std, ev) {
			t.Fatalf("encoding/json reads %+v, want %+v", std, ev)
		}
	})
}
