package irohub

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"irohub/internal/jsonscan/reference"
)

// BenchmarkParse checks whole frames, beside json.Valid on the same bytes, which
// finds no members and checks no UTF-8.
func BenchmarkParse(b *testing.B) {
	for _, kind := range reference.Kinds {
		for _, size := range reference.Sizes {
			body := frameBody("message.sent", "conv-123", kind.Make(size.Bytes))
			name := fmt.Sprintf("kind=%s/size=%s", kind.Name, size.Name)
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
	for _, size := range reference.Sizes {
		payload := reference.Kinds[1].Make(size.Bytes)
		ev := Event{Type: "message.sent", ID: "conv-123", Payload: payload}
		b.Run("size="+size.Name+"/op=publish", func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ev.encode(maxFrame); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("size="+size.Name+"/op=forward", func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			typ, id := []byte(ev.Type), []byte(ev.ID)
			var topics namer
			var buf []byte
			for b.Loop() {
				buf, _ = appendRun(buf[:0], topics.name(typ, id), payload, from)
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
