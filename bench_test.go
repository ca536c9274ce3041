package irohub

import (
	"context"
	"fmt"
	"irohub/internal/logging"
	"math"
	"runtime"
	"testing"
	"time"
)

// newBenchRouter is a router with spokes that have outboxes and nothing behind them.
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

// collect is what a writer does with its outbox, but for the writing.
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

// BenchmarkRouter is what the router, and the taking out of its outboxes, costs for
// each delivery; beside it, what it costs to send each event to each subscriber over a
// channel.
func BenchmarkRouter(b *testing.B) {
	const round = 64 // events that the router finds waiting
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

// BenchmarkTopics has each topic have one subscriber: what a delivery costs must not grow
// with the number of topics, but for memory that is farther away.
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

// BenchmarkLeave has a spoke with 1,000 subscriptions leave and come back, among few other
// topics and among many.
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

// heap is how many bytes are in use.
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
