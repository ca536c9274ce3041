package irohub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"irohub/internal/jsonscan/reference"
	"irohub/internal/logging"
)

// newBenchRouter makes a router with spokes that have outboxes but no writers.
func newBenchRouter(spokes int) (*router, []*member) {
	r := newRouter(newInbox(), HubOptions{}.withDefaults(), logging.New(nil))
	members := make([]*member, spokes)
	for i := range members {
		m := &member{subscriber: subscriber{link: newLink(context.Background(), nil, 1<<30, time.Second), place: i}}
		r.members = append(r.members, m)
		members[i] = m
	}
	return r, members
}

// collect empties the outbox as a writer does, but writes nothing.
func (m *member) collect() int {
	select {
	case b := <-m.link.out.box:
		n, bytes := 0, 0
		for _, f := range b.items {
			n += f.count
			bytes += len(f.bytes)
		}
		m.link.out.done(n, bytes)
		b.recycle()
		return n
	default:
		return 0
	}
}

func benchMessage(b testing.TB, topic string) message {
	ev := Event{Type: topic, Payload: []byte(`"0123456789"`)}
	r, err := ev.encode(maxFrame)
	if err != nil {
		b.Fatal(err)
	}
	return message{run: r, forward: true}
}

// BenchmarkRouter measures the cost of each delivery: the router's work and emptying the
// outboxes. For comparison, it also sends each event to each subscriber over a channel.
func BenchmarkRouter(b *testing.B) {
	const round = 64 // events that wait for the router
	for _, spokes := range []int{8, 64, 1000, 10_000} {
		b.Run(fmt.Sprintf("outboxes/spokes=%d", spokes), func(b *testing.B) {
			r, members := newBenchRouter(spokes)
			for _, m := range members {
				r.table.add(&m.subscriber, "n")
			}
			m := benchMessage(b, "n")
			b.ReportAllocs()
			for b.Loop() {
				for range round {
					r.route(&m)
				}
				r.flush()
				for _, m := range members {
					m.collect()
				}
			}
			reportDeliveries(b, round*spokes)
		})
		b.Run(fmt.Sprintf("channels/spokes=%d", spokes), func(b *testing.B) {
			channels := make([]chan []byte, spokes)
			for i := range channels {
				channels[i] = make(chan []byte, round)
			}
			m := benchMessage(b, "n")
			b.ReportAllocs()
			for b.Loop() {
				for range round {
					for _, c := range channels {
						c <- m.bytes
					}
				}
				for _, c := range channels {
					for range round {
						<-c
					}
				}
			}
			reportDeliveries(b, round*spokes)
		})
	}
}

// BenchmarkStats measures how long Stats blocks the router. It sums up the bytes of all spokes.
func BenchmarkStats(b *testing.B) {
	for _, spokes := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("spokes=%d", spokes), func(b *testing.B) {
			r, _ := newBenchRouter(spokes)
			b.ReportAllocs()
			for b.Loop() {
				r.statistics()
			}
		})
	}
}

// BenchmarkTopics measures deliveries to many topics with one subscriber each. The cost must
// not grow with the number of topics, except for cache misses.
func BenchmarkTopics(b *testing.B) {
	const spokes, events = 1000, 1000
	for _, topics := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			r, members := newBenchRouter(spokes)
			before := heap()
			for i := range topics {
				r.table.add(&members[i%spokes].subscriber, fmt.Sprintf("topic:%d", i))
			}
			memory := float64(heap()-before) / float64(topics)
			messages := make([]message, events)
			for i := range messages {
				ev := Event{Type: "topic", ID: fmt.Sprint(i * (topics / events)), Payload: []byte(`"0123456789"`)}
				messages[i].run, _ = ev.encode(maxFrame)
				messages[i].forward = true
			}
			b.ReportAllocs()
			for b.Loop() {
				for i := range messages {
					r.route(&messages[i])
				}
				r.flush()
				for _, m := range members {
					m.collect()
				}
			}
			reportDeliveries(b, events)
			b.ReportMetric(memory, "B/topic")
		})
	}
}

// BenchmarkLeave measures how a spoke with 1,000 subscriptions leaves and comes back, with few
// and with many other topics.
func BenchmarkLeave(b *testing.B) {
	const own = 1000
	for _, others := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			r, members := newBenchRouter(2)
			for i := range others {
				r.table.add(&members[0].subscriber, fmt.Sprintf("other:%d", i))
			}
			names := make([]string, own)
			for i := range names {
				names[i] = fmt.Sprintf("own:%d", i)
			}
			for b.Loop() {
				for _, name := range names {
					r.table.add(&members[1].subscriber, name)
				}
				r.table.drop(&members[1].subscriber, math.MaxInt)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*own), "ns/topic")
		})
	}
}

// heap returns how many bytes of the heap are in use.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func reportDeliveries(b *testing.B, deliveries int) {
	b.ReportMetric(float64(deliveries*b.N)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(deliveries*b.N), "ns/delivery")
}

// BenchmarkParse parses whole frames. For comparison, it runs json.Valid on the same bytes,
// which finds no members and does not check the UTF-8.
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

// frameBody returns an envelope as a spoke would send it, without its length.
func frameBody(typ, id string, payload []byte) []byte {
	return appendFrame(nil, typ, id, payload, NodeID{})[headerSize:]
}

// BenchmarkEncode encodes two kinds of events: those of Hub.Publish, which checks the payload,
// and those that a hub forwards, whose payload the reader has checked.
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

func wantAllocs(t *testing.T, most float64, f func()) {
	t.Helper()
	f() // fills what is kept
	if got := testing.AllocsPerRun(100, f); got > most {
		t.Errorf("%v allocations, want at most %v", got, most)
	}
}

func TestAllocs(t *testing.T) {
	from := someNode.String()
	payload := []byte(`{"seq":18342,"user":"u-81f3","text":"see you at nine \n é 😀","tags":["a","new"]}`)
	t.Run("parse", func(t *testing.T) {
		for _, body := range []string{
			`{"type":"message.sent","id":"conv-123","payload":` + string(payload) + `}`,
			`{"from":"` + from + `","payload":null,"id":"é","type":"t","x":[{}]}`,
			`{"type":"t","payload":` + reference.Nest(100, "ao") + `}`,
		} {
			body := []byte(body)
			wantAllocs(t, 0, func() {
				if _, err := parseEnvelope(body); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
	t.Run("refuse", func(t *testing.T) {
		// Invalid JSON causes no allocation either.
		body := []byte(`{"type":"t","payload":` + reference.Nest(200, "ao") + `}`)
		wantAllocs(t, 0, func() {
			if _, err := parseEnvelope(body); err == nil {
				t.Fatal("passes")
			}
		})
	})
	t.Run("message", func(t *testing.T) {
		typ, id := []byte("message.sent"), []byte("conv-123")
		var topics namer
		var buf []byte
		wantAllocs(t, 0, func() {
			buf, _ = appendRun(buf[:0], topics.name(typ, id), payload, someNode)
		})
		wantAllocs(t, 1, func() {
			id[0]++
			buf, _ = appendRun(buf[:0], topics.name(typ, id), payload, someNode)
		})
	})
	t.Run("event", func(t *testing.T) {
		frame := appendFrame(nil, "message.sent", "conv-123", payload, someNode)
		id := bytes.Index(frame, []byte("conv-123"))
		r := spokeReader{work: handover[arrivals]{next: &arrivals{}}}
		take := func() {
			r.work.next.items, r.work.next.count = r.work.next.items[:0], 0
			if err := r.take(frame); err != nil {
				t.Fatal(err)
			}
		}
		wantAllocs(t, 0, take)
		wantAllocs(t, 1, func() {
			frame[id] = 'a' + (frame[id]+1)%26
			take()
		})
	})
	t.Run("topic", func(t *testing.T) {
		wantAllocs(t, 0, func() {
			if err := validTopic("message.sent:чат-123"); err != nil {
				t.Fatal(err)
			}
		})
	})
}
