package irohub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// payloadKinds makes payloads of about size bytes that try different parts of the
// check: runs of plain bytes, short tokens, bytes beyond ASCII, brackets, digits.
var payloadKinds = []struct {
	name string
	make func(size int) []byte
}{
	{"ascii", func(size int) []byte {
		return repeated(size, `"`, "the quick brown fox jumps over the lazy dog. ", "", `"`)
	}},
	{"object", func(size int) []byte {
		const member = `{"seq":18342,"user":"u-81f3","text":"see you at nine","ok":true,"price":12.75,"tags":["a","new"],"ref":null}`
		return repeated(size, `[`, member, ",", `]`)
	}},
	{"spaced", func(size int) []byte {
		const member = "\n  {\n    \"seq\": 18342,\n    \"user\": \"u-81f3\",\n    \"text\": \"see you at nine\",\n    \"ok\": true\n  }"
		return repeated(size, `[`, member, ",", "\n]")
	}},
	{"cyrillic", func(size int) []byte {
		return repeated(size, `"`, "съешь же ещё этих мягких булок ", "", `"`)
	}},
	{"cjk", func(size int) []byte { return repeated(size, `"`, "敏捷的棕色狐狸跳过了懒狗。", "", `"`) }},
	{"escapes", func(size int) []byte { return repeated(size, `"`, `line\n\"said\" \u00e9t\u00e9 `, "", `"`) }},
	{"nested", func(size int) []byte {
		const deep = 60
		return repeated(size, `[`, strings.Repeat(`{"a":[`, deep)+strings.Repeat(`]}`, deep), ",", `]`)
	}},
	{"numbers", func(size int) []byte { return repeated(size, `[`, `1048576,-3.25,0,6.02e23,17`, ",", `]`) }},
}

// repeated is at most size bytes, and at least one unit.
func repeated(size int, left, unit, between, right string) []byte {
	n := max(1, (size-len(left)-len(right)+len(between))/(len(unit)+len(between)))
	return []byte(left + strings.Repeat(unit+between, n-1) + unit + right)
}

var payloadSizes = []struct {
	name  string
	bytes int
}{{"64", 64}, {"256", 256}, {"1k", 1 << 10}, {"64k", 64 << 10}}

// BenchmarkParse checks whole frames, beside json.Valid on the same bytes, which
// finds no members and checks no UTF-8.
func BenchmarkParse(b *testing.B) {
	for _, kind := range payloadKinds {
		for _, size := range payloadSizes {
			body := frameBody("message.sent", "conv-123", kind.make(size.bytes))
			name := fmt.Sprintf("kind=%s/size=%s", kind.name, size.name)
			b.Run(name+"/impl=irohub", func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := parseEnvelope(body); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/impl=json.Valid", func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if !json.Valid(body) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}

// frameBody is an envelope as a spoke would send it, without its length.
func frameBody(typ, id string, payload []byte) []byte {
	return appendFrame(nil, typ, id, payload, NodeID{})[headerSize:]
}

// BenchmarkEncode encodes events: a hub's for Publish, which checks the payload,
// and a message that a hub forwards, whose payload its reader has checked.
func BenchmarkEncode(b *testing.B) {
	from := NodeID{1, 2, 3}
	for _, size := range payloadSizes {
		payload := payloadKinds[1].make(size.bytes)
		ev := Event{Type: "message.sent", ID: "conv-123", Payload: payload}
		b.Run("size="+size.name+"/op=publish", func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ev.encode(maxFrame); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("size="+size.name+"/op=forward", func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			typ, id := []byte(ev.Type), []byte(ev.ID)
			var topics namer
			var buf []byte
			for b.Loop() {
				buf, _ = appendMessage(buf[:0], topics.name(typ, id), payload, from)
			}
		})
	}
}

func BenchmarkTopicCheck(b *testing.B) {
	for _, topic := range []struct{ name, topic string }{
		{"short", "message.sent:conv-123"},
		{"mailbox", "direct:" + strings.Repeat("0f", 32)},
		{"cyrillic", "сообщение.отправлено:чат-123"},
		{"longest", strings.Repeat("t", maxTopic)},
	} {
		b.Run("topic="+topic.name, func(b *testing.B) {
			b.SetBytes(int64(len(topic.topic)))
			b.ReportAllocs()
			for b.Loop() {
				if err := validTopic(topic.topic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFrameReader cuts a stream of equal frames, which comes in reads as large
// as the buffer, or of the size of a packet.
func BenchmarkFrameReader(b *testing.B) {
	for _, size := range payloadSizes {
		frame := appendFrame(nil, "message.sent", "conv-123", payloadKinds[0].make(size.bytes), NodeID{})
		stream := bytes.Repeat(frame, max(1, 256<<10/len(frame)))
		for _, chunk := range []struct {
			name  string
			bytes int
		}{{"full", len(stream)}, {"1200", 1200}} {
			b.Run("size="+size.name+"/read="+chunk.name, func(b *testing.B) {
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				rest := stream
				r := frameReader{max: maxFrame, read: func(p []byte) (int, error) {
					if len(rest) == 0 {
						rest = stream
					}
					n := copy(p[:min(len(p), chunk.bytes)], rest)
					rest = rest[n:]
					return n, nil
				}}
				for b.Loop() {
					if _, err := r.body(); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
