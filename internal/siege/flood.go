package siege

import (
	"fmt"
	"testing"
	"time"

	"irohub"
)

// One spoke publishes as fast as it can. Another spoke's events must all arrive, in order.
func TestFlood_TakesNothingFromOthers(t *testing.T) {
	const events = 1000
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{Forward: func(irohub.NodeID, string) bool { return true }})
		local, err := s.hub.Subscribe(s.ctx, "n")
		s.must(err)
		from := s.dial(irohub.SpokeOptions{NoReconnect: true})
		sub := s.subscribe(s.dial(irohub.SpokeOptions{NoReconnect: true}), "n")
		flooder := s.child("flooder")
		flooder.tell("flood")
		before := s.hub.Stats().Received
		s.eventually("the flood has begun", func() bool { return s.hub.Stats().Received > before+events })
		published := make(chan struct{})
		go func() {
			defer close(published)
			for i := range events {
				if err := from.Publish(s.ctx, numbered("n", i)); err != nil {
					s.Error(err)
					return
				}
			}
		}()
		s.wantNumbered(sub, events)
		s.wantNumbered(local, events)
		<-published
		s.wantServed()
		flooder.tell("rest")
	})
}

// A spoke subscribes to new topics and unsubscribes, as fast as it can. The hub keeps no topic,
// and its heap does not grow. See the flag -siege.
func TestFlood_SubscriptionChurnLeavesNothing(t *testing.T) {
	const batch, samples, slack = 512, 10, 1 << 20
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{})
		r := s.raw(s.bind())
		r.subscribe("kept")
		first, topics := 0, 0
		for i := range samples {
			for end := time.Now().Add(*duration / samples); ; {
				var p []byte
				for n := range batch {
					body := fmt.Sprintf(`"payload":{"topics":["churn:%d","more-%d:*"]}}`, topics+n, topics+n)
					p = append(p, frame(`{"type":"__subscribe",`+body)...)
					p = append(p, frame(`{"type":"__unsubscribe",`+body)...)
				}
				topics += batch
				r.write(p)
				// The answer arrives when the hub has processed everything before.
				r.subscribe("kept")
				if time.Now().After(end) {
					break
				}
			}
			if got := s.hub.Topics(); len(got) != 1 || got["kept"] != 1 {
				s.Fatalf("%d topics are left: %.200v", len(got), got)
			}
			switch now := heap(); {
			case i == 0:
				first = now
			case now > first+slack:
				s.Fatalf("the heap has %d bytes after %d topics, %d after the first of them", now, 2*topics, first)
			}
		}
		s.Logf("%d subscriptions, and the heap grew by %d bytes", 2*topics, heap()-first)
	})
}
