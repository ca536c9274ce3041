package system_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"irohub"
)

// TestDelivery_NoGapNoDuplicateNoReordering numbers the events of each publisher and topic.
// Meanwhile, spokes subscribe, unsubscribe, connect and disconnect at random. Each Subscription
// must see consecutive numbers.
func TestDelivery_NoGapNoDuplicateNoReordering(t *testing.T) {
	const topics, publishers, listeners, changes, most = 5, 3, 8, 10, 100
	opts := irohub.HubOptions{MaxQueue: 256 << 20, Forward: forwardAll}
	inWorld(t, opts, func(w *world) {
		var publishing, listening sync.WaitGroup
		var over atomic.Bool // the listeners have seen enough
		publish := func(name string, publish func(context.Context, irohub.Event) error) {
			publishing.Go(func() {
				var next [topics]int
				for !over.Load() {
					n := rand.IntN(topics)
					ev := irohub.Event{Type: "t", ID: strconv.Itoa(n), Payload: []byte(fmt.Sprintf(`"%s %d"`, name, next[n]))}
					if err := publish(w.Context(), ev); err != nil {
						w.Errorf("publish: %v", err)
					}
					next[n]++
				}
			})
		}
		publish("hub", w.hub.Publish)
		for i := range publishers {
			publish(fmt.Sprintf("spoke-%d", i), w.spoke().Publish)
		}
		var seen journal[int]
		listen := func(s *irohub.Spoke) {
			topic := "t:*"
			if n := rand.IntN(topics + 1); n < topics {
				topic = fmt.Sprintf("t:%d", n)
			}
			// Two topics that overlap must not deliver an event twice.
			sub, err := s.Subscribe(w.Context(), topic, "t:0")
			if err != nil {
				w.Errorf("subscribe: %v", err)
				return
			}
			count, enough := 0, 1+rand.IntN(most)
			last := make(map[string]int)
			for ev := range sub.Events() {
				name, number, _ := strings.Cut(strings.Trim(string(ev.Payload), `"`), " ")
				n, _ := strconv.Atoi(number)
				key := name + " " + ev.ID
				if before, ok := last[key]; ok && n != before+1 {
					w.Errorf("%s: %d follows %d", key, n, before)
				}
				last[key] = n
				if count++; count == enough {
					break
				}
			}
			sub.Close()
			seen.add(count)
		}
		for range listeners {
			s := w.spoke()
			listening.Go(func() {
				for i := range changes {
					if i%10 == 9 {
						other, err := irohub.Dial(w.Context(), w.network.Endpoint(), w.endpoint.Addr(), irohub.SpokeOptions{MaxQueue: 64 << 20})
						if err != nil {
							w.Errorf("dial: %v", err)
							return
						}
						listen(other)
						other.Close()
					}
					listen(s.Spoke)
				}
			})
		}
		listening.Wait()
		over.Store(true)
		publishing.Wait()
		total := 0
		for _, n := range seen.take() {
			total += n
		}
		if total < listeners*changes {
			w.Errorf("%d events seen by %d subscriptions", total, listeners*changes)
		}
		w.Logf("%d events seen", total)
	})
}
