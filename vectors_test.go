package irohub

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"irohub/internal/framing"
	"irohub/internal/jsonscan/reference"
)

// The test vectors are for every implementation of the protocol; their file says
// what they mean.
type vectors struct {
	Description []string
	Limits      struct {
		MaxFrame int `json:"max_frame"`
		MaxTopic int `json:"max_topic"`
		MaxDepth int `json:"max_depth"`
	}
	Valid []struct {
		Name     string
		Frame    hexBytes
		Body     string
		Type, ID string
		Topic    string
		TypePart string `json:"type_part"`
		Payload  []byte // nil: null
		Control  bool
		Topics   []string // nil: null
		Refused  string
		From     *NodeID
	}
	Invalid []struct {
		Name   string
		Frame  hexBytes
		Body   *string
		Reason string
		Words  string
	}
	Topics []struct {
		Name  string
		Topic *string
		Hex   hexBytes
		Valid bool
	}
	Matches []struct {
		Subscription, Event string
		Match               bool
	}
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields() // a misspelt expectation would expect nothing
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		t.Fatalf("behind the vectors stands more: %v", err)
	}
	if len(v.Description) == 0 || len(v.Valid) == 0 || len(v.Invalid) == 0 || len(v.Topics) == 0 || len(v.Matches) == 0 {
		t.Fatal("a list of vectors is empty")
	}
	return v
}

// receive takes a stream of one frame as a hub does: it is a control event with the
// topics that it names, or an event.
func receive(stream []byte, limit int) (env envelope, topics []string, shape bool, err error) {
	r := framing.Reader{Max: limit, Read: bytes.NewReader(stream).Read}
	frame, err := r.Next()
	if err != nil {
		return env, nil, false, frameError(err)
	}
	if env, err = parseEnvelope(frame[headerSize:]); err != nil {
		return env, nil, false, err
	}
	if typ := string(env.typ); typ == typeSubscribe || typ == typeUnsubscribe {
		topics, shape, err = controlTopics(env.payload, math.MaxInt)
	}
	return env, topics, shape, err
}

func TestVectors_Limits(t *testing.T) {
	limits := readVectors(t).Limits
	if limits.MaxFrame != maxFrame || limits.MaxTopic != maxTopic || limits.MaxDepth != maxDepth {
		t.Errorf("the limits are %+v, here %d, %d and %d", limits, maxFrame, maxTopic, maxDepth)
	}
}

func TestVectors_Valid(t *testing.T) {
	for _, v := range readVectors(t).Valid {
		t.Run(v.Name, func(t *testing.T) {
			if string(v.Frame) != string(stream(v.Body)) {
				t.Fatalf("the vector contradicts itself: frame %q, body %q", v.Frame, v.Body)
			}
			env, topics, shape, err := receive(v.Frame, maxFrame)
			if err != nil {
				t.Fatal(err)
			}
			if string(env.typ) != v.Type || string(env.id) != v.ID {
				t.Errorf("type %q, id %q; want %q, %q", env.typ, env.id, v.Type, v.ID)
			}
			if !bytes.Equal(env.payload, v.Payload) || (env.payload == nil) != (v.Payload == nil) {
				t.Errorf("payload %q, want %q", env.payload, v.Payload)
			}
			if env.isControl() != v.Control {
				t.Errorf("control is %v, want %v", env.isControl(), v.Control)
			}
			if (env.from != nil) != (v.From != nil) {
				t.Errorf("from is %q, want %v", env.from, v.From)
			}

			ev, topic, err := eventOf(t, []byte(v.Body))
			if err != nil || topic != v.Topic || ev.Topic() != v.Topic {
				t.Errorf("topic %q or %q, %v; want %q", topic, ev.Topic(), err, v.Topic)
			}
			if v.From != nil && ev.From != *v.From {
				t.Errorf("from %v, want %v", ev.From, v.From)
			}
			m := newTableModel(1)
			m.add(t, 0, v.TypePart+":*")
			if got := m.table.match(topic)[1]; len(got) != 1 {
				t.Errorf("the type part is not %q", v.TypePart)
			}

			refused := ""
			if v.Type == typeSubscribe || v.Type == typeUnsubscribe {
				if !shape {
					refused = refusedPayload
				}
				for _, topic := range topics {
					if validTopic(topic) != nil {
						refused = refusedTopic
					}
				}
			}
			if refused != v.Refused {
				t.Errorf("is refused with %q, want %q", refused, v.Refused)
			}
			if len(topics) != len(v.Topics) || len(topics) > 0 && !reflect.DeepEqual(topics, v.Topics) {
				t.Errorf("names the topics %q, want %q", topics, v.Topics)
			}
		})
	}
}

// Each reason, by what this codec says of it; those that share words are told apart
// by other means.
var vectorReasons = map[string]string{
	"length":     "are allowed",
	"utf8":       badJSON,
	"json":       badJSON,
	"depth":      badJSON,
	"not_object": badJSON,
	"type":       badType,
	"id":         badID,
	"repeated":   badRepeat,
	"surrogate":  "half a surrogate pair",
}

func TestVectors_Invalid(t *testing.T) {
	for _, v := range readVectors(t).Invalid {
		t.Run(v.Name, func(t *testing.T) {
			_, _, _, err := receive(v.Frame, maxFrame)
			if v.Words == "" {
				t.Error("the vector does not say why")
			}
			if v.Reason == "truncated" {
				wantProtocolError(t, err, "the stream ends inside a frame")
				return
			}
			words, known := vectorReasons[v.Reason]
			if !known {
				t.Fatalf("the reason %q is not known", v.Reason)
			}
			wantProtocolError(t, err, words)
			if v.Reason == "length" {
				return
			}

			body := []byte(v.Frame)[headerSize:]
			if v.Body != nil && *v.Body != string(body) || v.Body == nil && utf8.Valid(body) {
				t.Errorf("the vector contradicts itself: frame %q, body %v", v.Frame, v.Body)
			}
			reason := "ok"
			switch text := strings.TrimSpace(string(body)); {
			case !utf8.Valid(body):
				reason = "utf8"
			case !json.Valid(body):
				reason = "json"
			case text[0] != '{':
				reason = "not_object"
			case reference.Depth(body) > maxDepth:
				reason = "depth"
			}
			if words == badJSON && reason != v.Reason || words != badJSON && reason != "ok" {
				t.Errorf("the reason is %q, the vector says %q", reason, v.Reason)
			}
		})
	}
}

func TestVectors_Topics(t *testing.T) {
	for _, v := range readVectors(t).Topics {
		if v.Topic != nil && *v.Topic != string(v.Hex) || v.Topic == nil && utf8.Valid(v.Hex) {
			t.Errorf("%s: the vector contradicts itself", v.Name)
		}
		if err := validTopic(string(v.Hex)); (err == nil) != v.Valid {
			t.Errorf("%s: validTopic(%q) is %v", v.Name, v.Hex, err)
		}
	}
}

func TestVectors_Matches(t *testing.T) {
	for _, v := range readVectors(t).Matches {
		m := newTableModel(1)
		m.add(t, 0, v.Subscription)
		matched := false
		for _, list := range m.table.match(v.Event) {
			matched = matched || len(list) > 0
		}
		if matched != v.Match {
			t.Errorf("an event of %q goes to the subscription %q: %v, want %v", v.Event, v.Subscription, matched, v.Match)
		}
	}
}
