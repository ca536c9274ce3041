package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
)

// These tests are about slow consumers: what exactly is counted, and which callbacks are called.

// framed returns an event of the topic whose frame has size bytes.
func framed(topic string, size int) irohub.Event {
	empty := len(`{"type":"`+topic+`","payload":""}`) + 4
	return irohub.Event{Type: topic, Payload: json.RawMessage(`"` + strings.Repeat("x", size-empty) + `"`)}
}

// cost returns the size in a spoke's queue of a frame with size bytes.
func cost(size int) int { return size + size/8 + 64 }

// fill publishes frames of 1,000 bytes until the writer of the only spoke is blocked, and
// returns how many bytes wait for it then.
func (w *world) fill(topic string) int {
	w.Helper()
	for range 1000 {
		before := w.waiting()
		w.hub.Publish(w.Context(), framed(topic, 1000))
		synctest.Wait()
		if now := w.waiting(); before > 0 && now == before+cost(1000) {
			return now
		}
	}
	w.Fatal("nothing blocks the writer")
	return 0
}

func (w *world) waiting() int {
	w.Helper()
	spokes := w.hub.Spokes()
	if len(spokes) != 1 {
		w.Fatalf("%d spokes, want one", len(spokes))
	}
	return spokes[0].WaitingBytes
}

func TestHub_QueueHoldsMaxQueueToTheByte(t *testing.T) {
	const limit = 200_000
	for over, want := range map[int]int{-1: 1, 0: 1, 1: 0} {
		t.Run(fmt.Sprintf("limit%+d", over), func(t *testing.T) {
			inWorld(t, irohub.HubOptions{MaxQueue: limit, WriteTimeout: time.Hour}, func(w *world) {
				w.frozen("a")
				before := w.fill("a")
				size := 0 // the largest for which there is room
				for cost(size+1) <= limit-before {
					size++
				}
				w.hub.Publish(w.Context(), framed("a", size+over))
				synctest.Wait()
				stats := w.hub.Stats()
				if stats.Spokes != want || int(stats.CutOff) != 1-want {
					t.Fatalf("with %d bytes more than the limit: %+v", over, stats)
				}
				if want == 1 && w.waiting() != before+cost(size+over) {
					t.Errorf("%d bytes are waiting, want %d", w.waiting(), before+cost(size+over))
				}
			})
		})
	}
}

// An event over the limit goes only to a spoke with an empty queue. A frame that is being
// written still counts in the queue.
func TestHub_EventOverTheQueueCutsOffWhoHasSomethingWaiting(t *testing.T) {
	var slow journal[irohub.SpokeInfo]
	const limit = 100_000
	inWorld(t, irohub.HubOptions{MaxQueue: limit, OnBackpressure: slow.add}, func(w *world) {
		r := w.frozen("a")
		w.hub.Publish(w.Context(), framed("a", 3*limit)) // nothing was waiting
		synctest.Wait()
		if n := w.waiting(); n < limit {
			t.Errorf("%d bytes are waiting", n)
		}
		w.hub.Publish(w.Context(), framed("a", 100))
		synctest.Wait() // before it reads, which wantClosed does
		r.wantClosed(irohub.CodeSlow)
		synctest.Wait()
		if cut := slow.take(); len(cut) != 1 || cut[0].WaitingEvents != 1 || cut[0].WaitingBytes > cost(3*limit) {
			t.Errorf("OnBackpressure: %+v, want one event waiting", cut)
		}
	})
}

// The same holds for the hub's own listener: its queue counts events until it has taken them.
func TestHub_EventOverTheQueueAndAListener(t *testing.T) {
	const limit = 1000
	inWorld(t, irohub.HubOptions{MaxQueue: limit}, func(w *world) {
		s := w.spoke()
		sub, err := w.hub.Subscribe(w.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Publish(w.Context(), framed("a", 5*limit)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		n := 0
		for range sub.Events() {
			n++
		}
		w.wantCode(sub.Err(), irohub.CodeSlow)
		if n != 1 {
			t.Errorf("%d events, want the first alone", n)
		}
	})
}

// OnBackpressure may do anything: it affects only the spoke that is already gone.
func TestHub_OnBackpressureMayDoAnything(t *testing.T) {
	release := make(chan struct{}) // made anew in each bubble
	for name, test := range map[string]struct {
		misbehave func(hub *irohub.Hub)
		closes    bool
	}{
		"blocks":    {func(*irohub.Hub) { <-release }, false},
		"panics":    {func(*irohub.Hub) { panic("slow") }, false},
		"publishes": {func(h *irohub.Hub) { h.Publish(context.Background(), event("b", 1)) }, false},
		"floods": {func(h *irohub.Hub) {
			for range 1000 {
				h.Publish(context.Background(), event("b", 1))
			}
		}, false},
		"subscribes": {func(h *irohub.Hub) { h.Subscribe(context.Background()) }, false},
		"closes":     {func(h *irohub.Hub) { h.Close() }, true},
		"shuts down": {func(h *irohub.Hub) { h.Shutdown(context.Background()) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			var hub atomic.Pointer[irohub.Hub]
			var calls, gone atomic.Int32
			opts := irohub.HubOptions{
				MaxQueue:       100_000,
				OnBackpressure: func(irohub.SpokeInfo) { calls.Add(1); test.misbehave(hub.Load()) },
				OnDisconnect:   func(irohub.SpokeInfo, error) { gone.Add(1) },
			}
			inWorld(t, opts, func(w *world) {
				release = make(chan struct{})
				hub.Store(w.hub)
				r := w.frozen("a")
				var feeds []*feed
				for range 4 {
					feeds = append(feeds, w.spoke().feed("a"))
				}
				big := framed("a", 1000)
				var want []string
				for calls.Load() == 0 && len(want) < 1000 {
					if err := w.hub.Publish(w.Context(), big); err != nil && !errors.Is(err, irohub.ErrHubClosed) {
						t.Fatal(err)
					}
					synctest.Wait()
					want = append(want, string(big.Payload))
				}
				r.wantClosed(irohub.CodeSlow)
				if n := calls.Load(); n != 1 {
					t.Errorf("OnBackpressure was called %d times", n)
				}
				if name != "closes" { // Close drops queued events
					for _, f := range feeds {
						f.want(want...)
					}
				}
				if !test.closes {
					// The hub goes on for everybody else.
					w.publish("a", 7)
					for _, f := range feeds {
						f.want("7")
					}
				}
				if name == "blocks" && gone.Load() != 0 {
					t.Error("OnDisconnect did not wait for OnBackpressure")
				}
				close(release)
				synctest.Wait()
				if !test.closes && gone.Load() != 1 {
					t.Errorf("OnDisconnect was called %d times", gone.Load())
				}
			})
		})
	}
}

// The test makes one subscription more than the limit, one at a time and all at once. The
// earlier ones stay.
func TestHub_SubscriptionsOverTheLimit(t *testing.T) {
	const limit = 5
	inWorld(t, irohub.HubOptions{MaxSubscriptions: limit}, func(w *world) {
		r := w.raw()
		for i := range limit {
			r.send(fmt.Sprintf(`{"type":"__subscribe","id":"1","payload":{"topic":"n:%d"}}`, i))
			r.want(`{"type":"__ack","id":"1"}`)
		}
		refusal := `{"type":"__error","id":"2","payload":{"code":"too_many_subscriptions","topic":"n:9","message":"the limit is 5 topics"}}`
		r.send(`{"type":"__subscribe","id":"2","payload":{"topic":"n:9"}}`)
		r.want(refusal)
		r.send(`{"type":"__subscribe","id":"2","payload":{"topics":["n:0","n:1","n:9"]}}`)
		r.want(refusal)
		r.send(`{"type":"__subscribe","id":"3","payload":{"topics":["n:0","n:1"]}}`) // again: harmless
		r.want(`{"type":"__ack","id":"3"}`)
		if topics := w.hub.Topics(); len(topics) != limit {
			t.Errorf("topics %v", topics)
		}
		r.send(`{"type":"__unsubscribe","id":"4","payload":{"topic":"n:0"}}`)
		r.want(`{"type":"__ack","id":"4"}`)
		r.send(`{"type":"__subscribe","id":"5","payload":{"topic":"n:9"}}`)
		r.want(`{"type":"__ack","id":"5"}`)
	})
}
