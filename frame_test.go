package irohub

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"irohub/internal/framing"
	"irohub/internal/jsonscan/reference"
)

var someNode = NodeID{0: 0xAB, 1: 0x01, 31: 0xFF}

func TestValidTopic(t *testing.T) {
	for _, tc := range []struct {
		name, topic string
		valid       bool
	}{
		{"empty", "", false},
		{"one byte", "t", true},
		{"type and id", "message.sent:conv-123", true},
		{"pattern", "message.sent:*", true},
		{"only a colon", ":", true},
		{"longest", strings.Repeat("t", 1024), true},
		{"a byte too long", strings.Repeat("t", 1025), false},
		{"bytes count, not characters", strings.Repeat("é", 512), true},
		{"bytes count, not characters; too long", strings.Repeat("é", 512) + "t", false},
		{"control type", "__subscribe", false},
		{"two underscores", "__", false},
		{"one underscore", "_", true},
		{"underscore and colon", "_:_", true},
		{"underscores later", "a__b", true},
		{"space", "a b", true},
		{"before the space", "a\x1fb", false},
		{"NUL", "\x00", false},
		{"line feed at the end", "topic\n", false},
		{"tab at the beginning", "\ttopic", false},
		{"tilde", "~", true},
		{"DEL", "a\x7f", false},
		{"U+0080", "\u0080", false},
		{"next line, U+0085", "a\u0085b", false},
		{"U+009F", "a\u009f", false},
		{"no-break space, U+00A0", "a\u00a0", true},
		{"U+0105, which ends with a byte of U+0085", "\u0105", true},
		{"U+1085, which ends like U+0085", "\u1085", true},
		{"U+2028, no control character", "a\u2028b", true},
		{"emoji", "😀", true},
		{"last code point", "\U0010FFFF", true},
		{"cut off in a character", "a\xc3", false},
		{"cut off before a control character's end", "a\xc2", false},
		{"bare continuation byte", "a\x85", false},
		{"overlong", "\xc0\x80", false},
		{"surrogate", "\xed\xa0\x80", false},
		{"beyond Unicode", "\xf4\x90\x80\x80", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := validTopic(tc.topic)
			if (err == nil) != tc.valid {
				t.Errorf("validTopic(%q) is %v", tc.topic, err)
			}
			if err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("%v does not wrap ErrInvalid", err)
			}
		})
	}
}

// Parts of the reasons in a parser's errors.
const (
	badJSON          = "not one JSON object"
	badRepeat        = "repeats the member"
	badType          = "type is not a string, or empty"
	badID            = "id is not a string"
	badTypeSurrogate = "type has an unpaired surrogate"
	badIDSurrogate   = "id has an unpaired surrogate"
)

const absent = "absent" // for want.payload: nil

func TestParseEnvelope(t *testing.T) {
	type want struct{ typ, id, payload string }
	for _, tc := range []struct {
		name, body string
		want       want
		reason     string
	}{
		{"type alone", `{"type":"t"}`, want{"t", "", absent}, ""},
		{"all members", `{"type":"t","id":"i","payload":1}`, want{"t", "i", "1"}, ""},
		{"any order", `{"payload":[1],"id":"i","type":"t"}`, want{"t", "i", "[1]"}, ""},
		{"empty id", `{"type":"t","id":""}`, want{"t", "", absent}, ""},
		{"colon in type", `{"type":"a:b"}`, want{"a:b", "", absent}, ""},
		{"colons in both", `{"type":"a:b","id":":c"}`, want{"a:b", ":c", absent}, ""},
		{"spaces", " \t\r\n{ \"type\" :\n\"t\" ,\t\"id\"\r: \"i\" } \n", want{"t", "i", absent}, ""},

		{"no type", `{"id":"i"}`, want{}, badType},
		{"no member", `{}`, want{}, badType},
		{"empty type", `{"type":""}`, want{}, badType},
		{"null type", `{"type":null}`, want{}, badType},
		{"number as type", `{"type":12345}`, want{}, badType},
		{"object as type", `{"type":{"a":"b"}}`, want{}, badType},
		{"null id", `{"type":"t","id":null}`, want{}, badID},
		{"number as id", `{"type":"t","id":7}`, want{}, badID},
		{"array as id", `{"type":"t","id":["i"]}`, want{}, badID},

		{"Type is another name", `{"Type":"t"}`, want{}, badType},
		{"and so a second one is fine", `{"type":"t","Type":"u","TYPE":1,"ID":2,"Id":null,"Payload":3,"FROM":4}`, want{"t", "", absent}, ""},
		{"names are compared whole", `{"type":"t","types":1,"typ":2,"i":3,"payloads":4,"":5," id":6,"id\u0000":7}`, want{"t", "", absent}, ""},
		{"escaped names", `{"\u0074ype":"t","\u0069\u0064":"i","p\u0061yload":1}`, want{"t", "i", "1"}, ""},
		{"an escaped solidus in a name", `{"type":"t","\/id":1}`, want{"t", "", absent}, ""},

		{"repeated type", `{"type":"t","type":"t"}`, want{}, badRepeat},
		{"repeated id", `{"type":"t","id":"","id":""}`, want{}, badRepeat},
		{"repeated payload", `{"type":"t","payload":null,"payload":null}`, want{}, badRepeat},
		{"repeated from", `{"type":"t","from":"a","from":"b"}`, want{}, badRepeat},
		{"repeated type, one escaped", `{"type":"t","t\u0079pe":"t"}`, want{}, badRepeat},
		{"repeated id, one escaped", `{"i\u0064":"i","type":"t","id":"i"}`, want{}, badRepeat},
		{"repeated payload, one escaped", `{"type":"t","payload":1,"\u0070ayload":1}`, want{}, badRepeat},
		{"repeated from, one escaped", `{"type":"t","from":1,"fro\u006D":1}`, want{}, badRepeat},
		{"repeated beyond an unknown one", `{"type":"t","x":[],"type":"t"}`, want{}, badRepeat},

		{"unknown members", `{"type":"t","seq":1,"meta":{"type":"x","id":[]}}`, want{"t", "", absent}, ""},
		{"unknown members repeated", `{"x":1,"x":2,"type":"t","x":3}`, want{"t", "", absent}, ""},
		{"members of the payload are its own", `{"type":"t","payload":{"type":1,"type":2,"id":3}}`, want{"t", "", `{"type":1,"type":2,"id":3}`}, ""},

		{"escapes in type and id", `{"type":"\u0061\/b","id":"\n\"\\\u00e9"}`, want{"a/b", "\n\"\\é", absent}, ""},
		{"surrogate pairs", `{"type":"\ud83d\ude00","id":"\uD83D\uDE00"}`, want{"😀", "😀", absent}, ""},
		{"UTF-8 in type and id", `{"type":"тип","id":"识别"}`, want{"тип", "识别", absent}, ""},
		{"unpaired surrogate in type", `{"type":"\ud83d"}`, want{}, badTypeSurrogate},
		{"the other surrogate in type", `{"type":"a\ude00b"}`, want{}, badTypeSurrogate},
		{"surrogates in the wrong order", `{"type":"\ude00\ud83d"}`, want{}, badTypeSurrogate},
		{"unpaired surrogate in id", `{"type":"t","id":"\udfff"}`, want{}, badIDSurrogate},
		{"surrogates apart in id", `{"type":"t","id":"\ud83d \ude00"}`, want{}, badIDSurrogate},
		{"U+FFFD is no half", `{"type":"\ufffd","id":"` + "\ufffd" + `"}`, want{"\ufffd", "\ufffd", absent}, ""},
		{"unpaired surrogate in payload", `{"type":"t","payload":"\ud83d"}`, want{"t", "", `"\ud83d"`}, ""},
		{"unpaired surrogate in an unknown member", `{"type":"t","x":"\ude00","\ud83d":1,"type\ud83d":2}`, want{"t", "", absent}, ""},
		{"unpaired surrogate in from", `{"type":"t","from":"\ude00"}`, want{"t", "", absent}, ""},

		{"null payload", `{"type":"t","payload":null}`, want{"t", "", `null`}, ""},
		{"string payload", `{"type":"t","payload":""}`, want{"t", "", `""`}, ""},
		{"payload as it came", `{"type":"t","payload": { "a" : [ 1.0e1 , "\u0041é" ] ,"a":2}` + "\n}", want{"t", "", `{ "a" : [ 1.0e1 , "\u0041é" ] ,"a":2}`}, ""},
		{"from as a spoke may send it", `{"type":"t","from":{"any":["thing"]}}`, want{"t", "", absent}, ""},

		{"empty", ``, want{}, badJSON},
		{"spaces alone", `  `, want{}, badJSON},
		{"null", `null`, want{}, badJSON},
		{"string", `"type"`, want{}, badJSON},
		{"array", `["type","t"]`, want{}, badJSON},
		{"array of an envelope", `[{"type":"t"}]`, want{}, badJSON},
		{"open object", `{"type":"t"`, want{}, badJSON},
		{"comma at the end", `{"type":"t",}`, want{}, badJSON},
		{"comma at the beginning", `{,"type":"t"}`, want{}, badJSON},
		{"no comma", `{"type":"t" "id":"i"}`, want{}, badJSON},
		{"no colon", `{"type" "t"}`, want{}, badJSON},
		{"no value", `{"type":}`, want{}, badJSON},
		{"name without quotes", `{type:"t"}`, want{}, badJSON},
		{"wrong bracket", `{"type":"t"]`, want{}, badJSON},
		{"two envelopes", `{"type":"t"}{"type":"t"}`, want{}, badJSON},
		{"a byte behind", `{"type":"t"}x`, want{}, badJSON},
		{"a NUL behind", "{\"type\":\"t\"}\x00", want{}, badJSON},
		{"a byte order mark", "\ufeff{\"type\":\"t\"}", want{}, badJSON},
		{"bad payload", `{"type":"t","payload":01}`, want{}, badJSON},
		{"bad unknown member", `{"type":"t","x":tru}`, want{}, badJSON},
		{"control character in a string", "{\"type\":\"a\nb\"}", want{}, badJSON},
		{"bad escape in a name", `{"type":"t","\q":1}`, want{}, badJSON},

		{"bad UTF-8 in type", "{\"type\":\"\xff\"}", want{}, badJSON},
		{"bad UTF-8 in id", "{\"type\":\"t\",\"id\":\"a\xc3\"}", want{}, badJSON},
		{"bad UTF-8 in payload", "{\"type\":\"t\",\"payload\":[\"\xed\xa0\x80\"]}", want{}, badJSON},
		{"bad UTF-8 in a payload's name", "{\"type\":\"t\",\"payload\":{\"\x80\":1}}", want{}, badJSON},
		{"bad UTF-8 in an unknown member", "{\"type\":\"t\",\"x\":\"\xc0\xaf\"}", want{}, badJSON},
		{"bad UTF-8 in an unknown name", "{\"type\":\"t\",\"\xfe\":1}", want{}, badJSON},
		{"bad UTF-8 in from", "{\"type\":\"t\",\"from\":\"\xfe\"}", want{}, badJSON},
		{"bad UTF-8 between members", "{\"type\":\"t\"\x80}", want{}, badJSON},
		{"bad UTF-8 behind", "{\"type\":\"t\"}\x80", want{}, badJSON},

		{"payload at the deepest", `{"type":"t","payload":` + reference.Nest(127, "ao") + `}`, want{"t", "", reference.Nest(127, "ao")}, ""},
		{"payload too deep", `{"type":"t","payload":` + reference.Nest(128, "ao") + `}`, want{}, badJSON},
		{"unknown member at the deepest", `{"x":` + reference.Nest(127, "o") + `,"type":"t"}`, want{"t", "", absent}, ""},
		{"unknown member too deep", `{"x":` + reference.Nest(128, "o") + `,"type":"t"}`, want{}, badJSON},
		{"from too deep", `{"from":` + reference.Nest(128, "a") + `,"type":"t"}`, want{}, badJSON},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := []byte(tc.body)
			env, err := parseEnvelope(body)
			// Appending to a part of the frame must not change it either.
			_ = append(append(env.payload, '?'), "?"...)
			if string(body) != tc.body {
				t.Fatalf("the frame was changed to %q", body)
			}
			if tc.reason != "" {
				wantProtocolError(t, err, tc.reason)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			payload := absent
			if env.payload != nil {
				payload = string(env.payload)
			}
			if got := (want{string(env.typ), string(env.id), payload}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func wantProtocolError(t *testing.T, err error, reason string) {
	t.Helper()
	end := closeError(err)
	if end == nil || end.Code != CodeProtocol || !strings.Contains(end.Reason, reason) {
		t.Fatalf("got %v, want a protocol error with %q", err, reason)
	}
}

// An envelope that is cut off anywhere is invalid.
func TestParseEnvelope_CutOff(t *testing.T) {
	const body = `{"type":"a\u00e9","x":[true,{"k":null}],"id":"i","payload":{"n":-1.5e3,"s":"é"},"from":""}`
	if _, err := parseEnvelope([]byte(body)); err != nil {
		t.Fatal(err)
	}
	for n := range len(body) {
		if _, err := parseEnvelope([]byte(body[:n])); err == nil {
			t.Errorf("%q passes", body[:n])
		}
	}
}

func TestEnvelope_IsControl(t *testing.T) {
	for typ, want := range map[string]bool{
		"__": true, "__subscribe": true, "__future": true, "___": true, `\u005f_x`: true,
		"_": false, "_a": false, "a__": false, " __": false,
	} {
		env, err := parseEnvelope([]byte(`{"type":"` + typ + `"}`))
		if err != nil || env.isControl() != want {
			t.Errorf("type %q: %v, %v; want %v", typ, env.isControl(), err, want)
		}
	}
}

func TestEnvelope_Event(t *testing.T) {
	from := someNode.String()
	for _, tc := range []struct {
		name, body string
		want       Event
		topic      string
		ok         bool
	}{
		{"type alone", `{"type":"t"}`, Event{Type: "t"}, "t", true},
		{"colon in type", `{"type":"a:b"}`, Event{Type: "a:b"}, "a:b", true},
		{"all members", `{"type":"t","id":"i:j","from":"` + from + `","payload":[ 1 ]}`,
			Event{Type: "t", ID: "i:j", From: someNode, Payload: json.RawMessage("[ 1 ]")}, "t:i:j", true},
		{"null payload", `{"type":"t","payload":null}`, Event{Type: "t", Payload: json.RawMessage("null")}, "t", true},
		{"from with escapes", `{"type":"t","from":"\u0061` + from[1:] + `"}`, Event{Type: "t", From: someNode}, "t", true},
		{"from with capitals", `{"type":"t","from":"` + strings.ToUpper(from) + `"}`, Event{}, "t", false},
		{"from with one capital", `{"type":"t","from":"A` + from[1:] + `"}`, Event{}, "t", false},
		{"from with an escaped capital", `{"type":"t","from":"\u0041` + from[1:] + `"}`, Event{}, "t", false},
		{"from of 64 zeros", `{"type":"t","from":"` + strings.Repeat("0", 64) + `"}`, Event{Type: "t"}, "t", true},
		{"from too short", `{"type":"t","from":"` + from[2:] + `"}`, Event{}, "t", false},
		{"from too long", `{"type":"t","from":"` + from + `00"}`, Event{}, "t", false},
		{"from empty", `{"type":"t","from":""}`, Event{}, "t", false},
		{"from not hex", `{"type":"t","from":"g` + from[1:] + `"}`, Event{}, "t", false},
		{"from null", `{"type":"t","from":null}`, Event{}, "t", false},
		{"from a number of 64 digits", `{"type":"t","from":` + strings.Repeat("1", 64) + `}`, Event{}, "t", false},
		{"from a number of 64 digits and two", `{"type":"t","from":` + strings.Repeat("1", 66) + `}`, Event{}, "t", false},
		{"from an array", `{"type":"t","from":["` + from + `"]}`, Event{}, "t", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := []byte(tc.body)
			ev, topic, err := eventOf(t, body)
			if !tc.ok {
				wantProtocolError(t, err, "from is not a NodeID")
				return
			}
			if err != nil || topic != tc.topic || ev.Topic() != tc.topic || !reflect.DeepEqual(ev, tc.want) {
				t.Errorf("got %+v, %q, %v; want %+v, %q", ev, topic, err, tc.want, tc.topic)
			}
		})
	}
}

func TestControlTopics(t *testing.T) {
	for _, tc := range []struct {
		name, payload string
		topics        []string
		ok            bool
	}{
		{"one", `{"topic":"t"}`, []string{"t"}, true},
		{"several", `{"topics":["a","b:c"]}`, []string{"a", "b:c"}, true},
		{"none", `{"topics":[]}`, nil, true},
		{"spaces", " { \"topics\" : [ \"a\" ,\n\"b\" ] } ", []string{"a", "b"}, true},
		{"in order, repeats too", `{"topics":["b","a","b"]}`, []string{"b", "a", "b"}, true},
		{"escapes", `{"\u0074opic":"\u0061\/\ud83d\ude00"}`, []string{"a/😀"}, true},
		{"unknown members", `{"x":1,"topic":"t","x":{"topic":2},"Topic":3,"TOPICS":[4]}`, []string{"t"}, true},
		{"topics are checked elsewhere", `{"topics":["","__a","a\u0000"]}`, []string{"", "__a", "a\x00"}, true},
		{"absent", ``, nil, false},
		{"null", `null`, nil, false},
		{"string", `"t"`, nil, false},
		{"array", `["t"]`, nil, false},
		{"no member", `{}`, nil, false},
		{"both", `{"topic":"t","topics":["t"]}`, nil, false},
		{"both, one empty", `{"topic":"t","topics":[]}`, nil, false},
		{"repeated topic", `{"topic":"t","topic":"t"}`, nil, false},
		{"repeated topics, one escaped", `{"topics":[],"topi\u0063s":[]}`, nil, false},
		{"null topic", `{"topic":null}`, nil, false},
		{"number as topic", `{"topic":1}`, nil, false},
		{"array as topic", `{"topic":["t"]}`, nil, false},
		{"null topics", `{"topics":null}`, nil, false},
		{"string as topics", `{"topics":"t"}`, nil, false},
		{"object as topics", `{"topics":{"0":"t"}}`, nil, false},
		{"null in topics", `{"topics":["a",null]}`, nil, false},
		{"number in topics", `{"topics":[1,"a"]}`, nil, false},
		{"array in topics", `{"topics":["a",["b"]]}`, nil, false},
		{"capital", `{"Topic":"t"}`, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			topics, ok, err := controlTopics([]byte(tc.payload), math.MaxInt)
			if err != nil || ok != tc.ok {
				t.Fatalf("got %v, %v, want %v", ok, err, tc.ok)
			}
			if ok && !reflect.DeepEqual(topics, tc.topics) {
				t.Errorf("got %q, want %q", topics, tc.topics)
			}
		})
	}
	for _, payload := range []string{`{"topic":"\ud800"}`, `{"topics":["a","\udc00b"]}`, `{"topics":["\ud800",1]}`} {
		_, _, err := controlTopics([]byte(payload), math.MaxInt)
		wantProtocolError(t, err, "unpaired surrogate")
	}
}

// The topics that controlTopics returns must outlive the frame.
func TestControlTopics_KeepNothingOfTheFrame(t *testing.T) {
	payload := []byte(`{"topics":["abc","d\u0065f"]}`)
	topics, _, _ := controlTopics(payload, math.MaxInt)
	clear(payload)
	if want := []string{"abc", "def"}; !reflect.DeepEqual(topics, want) {
		t.Errorf("got %q, want %q", topics, want)
	}
}

func TestAppendFrame(t *testing.T) {
	for _, tc := range []struct {
		name, typ, id, payload string
		from                   NodeID
		want                   string
	}{
		{"type alone", "t", "", "", NodeID{}, `{"type":"t"}`},
		{"id", "t", "i", "", NodeID{}, `{"type":"t","id":"i"}`},
		{"payload as it is", "t", "", ` { "a" : 1 } `, NodeID{}, `{"type":"t","payload": { "a" : 1 } }`},
		{"all", "t", "i", "null", someNode, `{"type":"t","id":"i","from":"` + someNode.String() + `","payload":null}`},
		{"escapes", `t"\`, "\x00\n\x1f\x7f", "", NodeID{}, `{"type":"t\"\\","id":"\u0000\u000a\u001f` + "\x7f" + `"}`},
		{"UTF-8 as it is", "тип", "😀<&>", `"é"`, NodeID{}, `{"type":"тип","id":"😀<&>","payload":"é"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := appendFrame([]byte("before"), tc.typ, tc.id, []byte(tc.payload), tc.from)
			header := binary.BigEndian.AppendUint32([]byte("before"), uint32(len(tc.want)))
			if want := string(header) + tc.want; string(got) != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// The encoder's output has the bytes that docs/protocol.md shows.
func TestAppendFrame_Bytes(t *testing.T) {
	got := fmt.Sprintf("% x", appendFrame(nil, "a", "", []byte("1"), NodeID{}))
	const want = "00 00 00 18 7b 22 74 79 70 65 22 3a 22 61 22 2c 22 70 61 79 6c 6f 61 64 22 3a 31 7d"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMessage(t *testing.T) {
	for _, tc := range []struct {
		typ, id, payload string
		from             NodeID
	}{
		{"t", "", "", NodeID{}},
		{"t", "i", "", NodeID{}},
		{"a:b", "", "1", NodeID{}},
		{"a:b", "c:d", `[ {"x":"é"} ]`, someNode},
		{`q"`, `\`, `"\ud800"`, someNode},
		{"t", "", "null", someNode},
	} {
		want := Event{Type: tc.typ, ID: tc.id, From: tc.from}
		if tc.payload != "" {
			want.Payload = json.RawMessage(tc.payload)
		}
		topic := new(namer).name([]byte(tc.typ), []byte(tc.id))
		_, m := appendRun([]byte("before"), topic, []byte(tc.payload), tc.from)
		if m.topic.text != want.Topic() {
			t.Errorf("topic %q, want %q", m.topic.text, want.Topic())
		}
		if frame := string(appendFrame(nil, tc.typ, tc.id, []byte(tc.payload), tc.from)); string(m.bytes) != frame {
			t.Errorf("frame %q, want %q", m.bytes, frame)
		}
		if got := m.event(); !reflect.DeepEqual(got, want) {
			t.Errorf("event %+v, want %+v", got, want)
		}
		if cost := m.cost(); cost < len(m.bytes)+len(m.topic.text) {
			t.Errorf("a cost of %d is less than the %d bytes of the frame and the topic", cost, len(m.bytes)+len(m.topic.text))
		}
	}
	full := Event{Type: "t", ID: "i", From: someNode, Payload: json.RawMessage("1")}
	_, m := appendRun(nil, topicName{"t:i", 1}, full.Payload, someNode)
	_, plain := appendRun(nil, topicName{"t:i", 1}, full.Payload, NodeID{})
	if got := len(m.bytes) - len(plain.bytes); got != fromOverhead {
		t.Errorf("from adds %d bytes, fromOverhead is %d", got, fromOverhead)
	}
}

func TestEvent_Topic(t *testing.T) {
	for want, ev := range map[string]Event{
		"t": {Type: "t"}, "t:i": {Type: "t", ID: "i"}, "a:b": {Type: "a:b"}, "a:b:c": {Type: "a", ID: "b:c"}, "a:*": {Type: "a", ID: "*"},
	} {
		if got := ev.Topic(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEvent_JSON(t *testing.T) {
	for _, tc := range []struct {
		ev   Event
		json string
	}{
		{Event{Type: "t"}, `{"type":"t"}`},
		{Event{Type: "t", ID: "i", Payload: json.RawMessage(`{"a":[1,null]}`)}, `{"type":"t","id":"i","payload":{"a":[1,null]}}`},
		{Event{Type: "t", From: someNode, Payload: json.RawMessage(`null`)}, `{"type":"t","from":"` + someNode.String() + `","payload":null}`},
	} {
		text, err := json.Marshal(tc.ev)
		if err != nil || string(text) != tc.json {
			t.Errorf("got %s, %v, want %s", text, err, tc.json)
		}
		var back Event
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, tc.ev) {
			t.Errorf("got %+v, %v, want %+v", back, err, tc.ev)
		}
		if ev, _, err := eventOf(t, text); err != nil || !reflect.DeepEqual(ev, tc.ev) {
			t.Errorf("as an envelope: %+v, %v, want %+v", ev, err, tc.ev)
		}
	}
}

func TestEvent_Encode(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	for _, tc := range []struct {
		name string
		ev   Event
		ok   bool
	}{
		{"type alone", Event{Type: "t"}, true},
		{"payload", Event{Type: "t", Payload: raw(` [1] `)}, true},
		{"from is not sent", Event{Type: "t", From: someNode}, true},
		{"direct", Event{Type: "direct", ID: someNode.String()}, true},
		{"no type", Event{}, false},
		{"id alone", Event{ID: "i"}, false},
		{"control type", Event{Type: "__subscribe"}, false},
		{"control type with id", Event{Type: "__x", ID: "i"}, false},
		{"control character in type", Event{Type: "a\n"}, false},
		{"control character in id", Event{Type: "a", ID: "\u0085"}, false},
		{"bad UTF-8", Event{Type: "a\xff"}, false},
		{"bad UTF-8 in id", Event{Type: "a", ID: "\xc2"}, false},
		{"longest topic", Event{Type: strings.Repeat("t", 512), ID: strings.Repeat("i", 511)}, true},
		{"topic too long", Event{Type: strings.Repeat("t", 512), ID: strings.Repeat("i", 512)}, false},
		{"empty payload", Event{Type: "t", Payload: raw("")}, false},
		{"payload of spaces", Event{Type: "t", Payload: raw(" ")}, false},
		{"payload not JSON", Event{Type: "t", Payload: raw("{")}, false},
		{"two payloads", Event{Type: "t", Payload: raw("1 2")}, false},
		{"payload that would end the envelope", Event{Type: "t", Payload: raw(`1,"from":"x"`)}, false},
		{"payload not UTF-8", Event{Type: "t", Payload: raw("\"\xff\"")}, false},
		{"deepest payload", Event{Type: "t", Payload: raw(reference.Nest(127, "a"))}, true},
		{"payload too deep", Event{Type: "t", Payload: raw(reference.Nest(128, "a"))}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := tc.ev.encode(maxFrame)
			if !tc.ok {
				if !errors.Is(err, ErrInvalid) {
					t.Fatalf("got %v, want ErrInvalid", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := tc.ev
			want.From = NodeID{}
			if got := m.event(); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if env, err := parseEnvelope(m.bytes[headerSize:]); err != nil || len(env.from) != 0 {
				t.Errorf("the frame is %q: %v", m.bytes, err)
			}
		})
	}
}

func TestEvent_EncodeLimit(t *testing.T) {
	for _, ev := range []Event{
		{Type: "t"},
		{Type: "t", ID: `"`, Payload: json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)},
	} {
		m, err := ev.encode(maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		size := len(m.bytes) - headerSize
		if _, err := ev.encode(size); err != nil {
			t.Errorf("a frame of just the limit: %v", err)
		}
		for _, limit := range []int{size - 1, len(ev.Payload), len(ev.Payload) - 1, 0} {
			if _, err := ev.encode(limit); !errors.Is(err, ErrInvalid) {
				t.Errorf("a frame of %d bytes with a limit of %d: %v, want ErrInvalid", size, limit, err)
			}
		}
	}
}

// The answer to a control event is a frame that any peer accepts, even if the peer sent
// nonsense.
func TestControlFrames(t *testing.T) {
	for _, id := range []string{"", "1", "\"\\\x00é"} {
		for _, topic := range []string{"", "t", "\x00\"\\", "cut off \xc3", strings.Repeat("é", 9)} {
			if env := wantFrame(t, ackFrame(id)); string(env.typ) != "__ack" || string(env.id) != id || env.payload != nil {
				t.Errorf("ack: %q %q %q", env.typ, env.id, env.payload)
			}

			env := wantFrame(t, errorFrame(id, refusedTopic, topic, "words \xff\n"))
			var answer map[string]string
			if err := json.Unmarshal(env.payload, &answer); err != nil || string(env.typ) != "__error" || string(env.id) != id {
				t.Errorf("error: %q %q %q, %v", env.typ, env.id, env.payload, err)
			}
			want := map[string]string{"code": "invalid_topic", "topic": strings.ToValidUTF8(topic, "\ufffd"), "message": "words \ufffd\n"}
			if !reflect.DeepEqual(answer, want) {
				t.Errorf("error: %q, want %q", answer, want)
			}

			if !utf8.ValidString(topic) {
				continue // subscribeFrame's are checked
			}
			var named []string
			if topic != "" {
				named = []string{topic, "other"}
			}
			env = wantFrame(t, subscribeFrame(typeUnsubscribe, id, named...))
			topics, ok, err := controlTopics(env.payload, math.MaxInt)
			if string(env.typ) != "__unsubscribe" || string(env.id) != id || !ok || err != nil {
				t.Errorf("unsubscribe: %q %q %q, %v", env.typ, env.id, env.payload, err)
			}
			if !reflect.DeepEqual(topics, named) {
				t.Errorf("unsubscribe: %q, want %q", topics, named)
			}
		}
	}
}

// eventOf returns the event and the topic that a spoke's reader makes of a valid frame's body.
func eventOf(t *testing.T, body []byte) (Event, string, error) {
	t.Helper()
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	env, plain := parsePlain(frame[headerSize:])
	if !plain {
		var err error
		if env, err = parseAny(frame[headerSize:]); err != nil {
			t.Fatal(err)
		}
	}
	var r spokeReader
	sound, err := r.event(&env, frame, plain)
	if err != nil {
		return Event{}, "", err
	}
	var in arrivals
	in.event(&r.last, sound)
	first := in.items[0].run.event()
	if cap(first.Payload) != len(first.Payload) {
		t.Error("an append to the payload would change what is behind it")
	}
	// The reader takes a fast path for the next frame with the same prefix. The result is the
	// same.
	if r.again(frame[headerSize:]) {
		in = arrivals{}
		in.event(&r.last, frame)
		if got := in.items[0].run.event(); !reflect.DeepEqual(got, first) {
			t.Errorf("%q is %+v, and the second time %+v", body, first, got)
		}
	} else if plain && len(env.payload) > 0 && len(env.typ)+len(env.id) < maxTopic {
		t.Errorf("%q is not known again", body)
	}
	return first, r.last.topic.text, nil
}

func wantFrame(t *testing.T, frame []byte) envelope {
	t.Helper()
	if len(frame) < headerSize || int(binary.BigEndian.Uint32(frame)) != len(frame)-headerSize {
		t.Fatalf("%q does not begin with its length", frame)
	}
	env, err := parseEnvelope(frame[headerSize:])
	if err != nil {
		t.Fatalf("%q: %v", frame, err)
	}
	return env
}

// stream returns the frames of the bodies, one after the other.
func stream(bodies ...string) (all []byte) {
	for _, body := range bodies {
		all = binary.BigEndian.AppendUint32(all, uint32(len(body)))
		all = append(all, body...)
	}
	return all
}

// The test vectors are for every implementation of the protocol. Their file explains
// them.
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
	InvalidFromHub []struct {
		Name  string
		Frame hexBytes
		Body  string
		Words string
	} `json:"invalid_from_hub"`
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
	text, err := os.ReadFile("docs/vectors/vectors.json")
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
	if len(v.Description) == 0 || len(v.Valid) == 0 || len(v.Invalid) == 0 || len(v.InvalidFromHub) == 0 || len(v.Topics) == 0 || len(v.Matches) == 0 {
		t.Fatal("a list of vectors is empty")
	}
	return v
}

// receive reads a stream of one frame as a hub does. The frame is an event, or a control event
// whose topics receive returns.
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

// vectorReasons maps the vectors' reasons to texts of this codec's errors. Reasons with the
// same text are distinguished in other ways.
var vectorReasons = map[string]string{
	"length":     "are allowed",
	"utf8":       badJSON,
	"json":       badJSON,
	"depth":      badJSON,
	"not_object": badJSON,
	"type":       badType,
	"id":         badID,
	"repeated":   badRepeat,
	"surrogate":  "unpaired surrogate",
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

// A hub ignores from, and a spoke checks it.
func TestVectors_InvalidFromHub(t *testing.T) {
	for _, v := range readVectors(t).InvalidFromHub {
		t.Run(v.Name, func(t *testing.T) {
			if string(v.Frame) != string(stream(v.Body)) || v.Words == "" {
				t.Fatalf("the vector contradicts itself: frame %q, body %q, words %q", v.Frame, v.Body, v.Words)
			}
			if _, _, _, err := receive(v.Frame, maxFrame); err != nil {
				t.Errorf("a hub says %v", err)
			}
			_, _, err := eventOf(t, []byte(v.Body))
			wantProtocolError(t, err, "from is not a NodeID")
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

// refEnvelope is a reference implementation of parseEnvelope, by docs/protocol.md.
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

// vectorFrames returns the frames of the test vectors, valid and invalid.
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

// refControlTopics is a reference implementation of controlTopics, by docs/protocol.md, for a
// payload that is JSON. broken says that a topic has an unpaired surrogate.
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

		// encoding/json decodes the frame to the same event.
		var std Event
		if err := json.Unmarshal(forwarded.bytes[headerSize:], &std); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(std, ev) {
			t.Fatalf("encoding/json reads %+v, want %+v", std, ev)
		}
	})
}
