package system_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
)

// restart serves a new hub on the old one's endpoint.
func (w *world) restart(opts irohub.HubOptions) {
	w.Helper()
	w.hub.Close()
	if err := <-w.served; !errors.Is(err, irohub.ErrHubClosed) {
		w.Errorf("Serve: %v", err)
	}
	synctest.Wait() // all have noticed
	w.hub = newHub(w, opts, w.endpoint)
	go func() { w.served <- w.hub.Serve(w.Context()) }()
}

func TestSpoke_ReconnectsAndSubscribesAgain(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		var log []string
		var s *testSpoke
		s, err := w.dial(irohub.SpokeOptions{
			OnDisconnect: func(err error) {
				w.wantCode(err, irohub.CodeShutdown)
				log = append(log, "lost")
			},
			OnReconnect: func() {
				log = append(log, "back")
				// All topics are subscribed by now, although no call has waited for that.
				w.publish("a", 2)
				// The callback may make requests to the hub.
				if _, err := s.Subscribe(w.Context(), "c"); err != nil {
					t.Error(err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		a, ab := s.feed("a"), s.feed("a", "b:*")
		w.publish("a", 1)
		a.want("1")
		ab.want("1")
		w.restart(irohub.HubOptions{})
		// Subscribe and Publish wait until the hub is back.
		late := s.feed("late")
		s.publish("up", 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if fmt.Sprint(log) != "[lost back]" {
			t.Errorf("callbacks: %v", log)
		}
		a.want("2")
		ab.want("2")
		w.publish("late", 3)
		w.publish("b:x", 4)
		late.want("3")
		ab.want("4")
		topics := w.hub.Topics()
		for _, topic := range []string{"a", "b:*", "c", "late"} {
			if topics[topic] != 1 {
				t.Errorf("topics after reconnect: %v", topics)
			}
		}
		s.Close()
	})
}

func TestSpoke_BacksOff(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s, err := w.dial(irohub.SpokeOptions{MinBackoff: time.Second, MaxBackoff: 8 * time.Second, HandshakeTimeout: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		w.hub.Close()
		start := time.Now()
		var pauses []time.Duration
		for range 6 {
			in, err := w.endpoint.Accept(w.Context())
			if err != nil {
				t.Fatal(err)
			}
			pauses = append(pauses, time.Since(start))
			in.Refuse()
			start = time.Now()
		}
		for i, most := range []time.Duration{1, 2, 4, 8, 8, 8} {
			if p := pauses[i]; p > most*time.Second || p < most*time.Second/2 {
				t.Errorf("pause %d was %v, want half to all of %ds", i, p, most)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestSpoke_TurnedAwayDoesNotComeBack(t *testing.T) {
	refuse := func(context.Context, irohub.NodeID) error { return errors.New("banned") }
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		f := s.feed("a")
		w.restart(irohub.HubOptions{Admit: refuse})
		time.Sleep(time.Hour)
		synctest.Wait()
		if !f.ended {
			t.Fatal("the subscription goes on")
		}
		w.wantCode(f.sub.Err(), irohub.CodeForbidden)
		w.wantCode(s.Publish(w.Context(), event("a", 1)), irohub.CodeForbidden)
		_, err := s.Subscribe(w.Context(), "a")
		w.wantCode(err, irohub.CodeForbidden)
		w.wantCode(s.Close(), irohub.CodeForbidden)
	})
}

func TestSpoke_ClonesDoNotFight(t *testing.T) {
	var connects atomic.Int32
	opts := irohub.HubOptions{MaxSpokesPerNode: 1, OnConnect: func(irohub.SpokeInfo) { connects.Add(1) }}
	inWorld(t, opts, func(w *world) {
		id := irohub.NodeID{5}
		var spokes []*irohub.Spoke
		for range 2 {
			s, err := irohub.Dial(w.Context(), w.network.EndpointOf(id), w.endpoint.Addr(), irohub.SpokeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			spokes = append(spokes, s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := connects.Load(); n != 2 {
			t.Errorf("%d connects, want 2", n)
		}
		w.wantCode(spokes[0].Publish(w.Context(), event("a", 1)), irohub.CodeTooMany)
		if err := spokes[1].Publish(w.Context(), event("a", 1)); err != nil {
			t.Error(err)
		}
		spokes[1].Close()
	})
}

func TestSpoke_WaitsForAFullHub(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		f := s.feed("a")
		w.restart(irohub.HubOptions{MaxSpokes: 1})
		other := w.raw() // is faster
		other.send(`{"type":"__subscribe","payload":{"topics":[]}}`)
		time.Sleep(time.Hour)
		other.conn.Close(0, "")
		time.Sleep(time.Minute)
		synctest.Wait()
		w.publish("a", 1)
		f.want("1")
		if n := w.hub.Stats().Rejected; n < 100 || n > 250 {
			t.Errorf("%d attempts in an hour, want one in 15 to 30 s", n)
		}
		s.Close()
	})
}

func TestSpoke_NoReconnect(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s, err := w.dial(irohub.SpokeOptions{NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		f := s.feed("a")
		w.restart(irohub.HubOptions{})
		synctest.Wait()
		if !f.ended {
			t.Error("the subscription goes on")
		}
		w.wantCode(f.sub.Err(), irohub.CodeShutdown)
		w.wantCode(s.Close(), irohub.CodeShutdown)
		w.wantCode(s.Close(), irohub.CodeShutdown)
	})
}

func TestSpoke_SubscriptionRefusedAfterReconnectEnds(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		a, ab, b := s.feed("a"), s.feed("a", "b"), s.feed("b")
		w.restart(irohub.HubOptions{AllowSubscribe: func(_ irohub.NodeID, topic string) error {
			if topic == "a" {
				return errors.New("not a")
			}
			return nil
		}})
		time.Sleep(time.Minute)
		synctest.Wait()
		w.publish("b", 1)
		b.want("1")
		for _, f := range []*feed{a, ab} {
			if !f.ended || !errors.Is(f.sub.Err(), irohub.ErrForbidden) {
				t.Errorf("ended=%v with %v, want ErrForbidden", f.ended, f.sub.Err())
			}
		}
		s.Close()
	})
}

func TestSpoke_SubscribeIsRefused(t *testing.T) {
	opts := irohub.HubOptions{MaxSubscriptions: 2, AllowSubscribe: func(_ irohub.NodeID, topic string) error {
		if topic == "secret" {
			return errors.New("no")
		}
		return nil
	}}
	inWorld(t, opts, func(w *world) {
		s := w.spoke()
		f := s.feed("a")
		for _, test := range []struct {
			topics []string
			want   error
		}{
			{[]string{"secret"}, irohub.ErrForbidden},
			{[]string{"b", "secret"}, irohub.ErrForbidden},
			{[]string{"b", "c", "d"}, irohub.ErrTooMany},
			{[]string{"__x"}, irohub.ErrInvalid},
			{[]string{""}, irohub.ErrInvalid},
			{nil, irohub.ErrInvalid},
		} {
			if _, err := s.Subscribe(w.Context(), test.topics...); !errors.Is(err, test.want) {
				t.Errorf("%v: %v, want %v", test.topics, err, test.want)
			}
		}
		synctest.Wait()
		if topics := w.hub.Topics(); len(topics) != 1 || topics["a"] != 1 {
			t.Errorf("topics: %v", topics)
		}
		w.publish("a", 1)
		f.want("1")
		s.Close()
	})
}

func TestSpoke_SubscribeGivesUpWithItsContext(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		w.restart(irohub.HubOptions{})
		ctx, cancel := context.WithTimeout(w.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.Subscribe(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if topics := w.hub.Topics(); len(topics) != 0 {
			t.Errorf("topics: %v", topics)
		}
		s.Close()
	})
}

func TestSpoke_TopicsAreSharedAndCounted(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		one, two := s.feed("a", "a", "b"), s.feed("a")
		w.publish("a", 1)
		one.want("1")
		two.want("1")
		one.sub.Close()
		one.sub.Close()
		synctest.Wait()
		if topics := w.hub.Topics(); len(topics) != 1 || topics["a"] != 1 {
			t.Errorf("topics: %v", topics)
		}
		if !one.ended || one.sub.Err() != nil {
			t.Errorf("closed: ended=%v, %v", one.ended, one.sub.Err())
		}
		w.publish("a", 2)
		two.want("2")
		two.sub.Close()
		synctest.Wait()
		if topics := w.hub.Topics(); len(topics) != 0 {
			t.Errorf("topics: %v", topics)
		}
		three := s.feed("a")
		w.publish("a", 3)
		three.want("3")
		s.Close()
	})
}

func TestSpoke_SlowSubscriptionEndsAlone(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s, err := w.dial(irohub.SpokeOptions{MaxQueue: 5000})
		if err != nil {
			t.Fatal(err)
		}
		slow, err := s.Subscribe(w.Context(), "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		f := s.feed("a")
		var want []string
		for i := range 200 {
			w.publish("a", i)
			synctest.Wait()
			want = append(want, fmt.Sprint(i))
		}
		f.want(want...)
		w.wantCode(slow.Err(), irohub.CodeSlow)
		if topics := w.hub.Topics(); len(topics) != 1 {
			t.Errorf("topics: %v", topics)
		}
		s.Close()
	})
}

func TestSpoke_CloseFlushes(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxQueue: 10 << 20}, func(w *world) {
		s := w.spoke()
		f := w.feed("n")
		var want []string
		for i := range 5000 {
			s.publish("n", i)
			want = append(want, fmt.Sprint(i))
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		f.want(want...)
		w.wantCode(s.Publish(w.Context(), event("n", 1)), 0)
	})
}

func TestSpoke_CloseSaysWhatWasNotWritten(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		w.hub.Close()
		synctest.Wait()
		s.publish("n", 1)
		const want = "irohub: closed without a connection; events not written: 1"
		if err := s.Close(); err == nil || err.Error() != want {
			t.Errorf("close returned %v, want %s", err, want)
		}
	})
}

// A Spoke that is closed on purpose has lost no connection.
func TestSpoke_CloseLogsNothing(t *testing.T) {
	h := &handler{}
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		for range 20 { // the keeper and the router run at the same time
			s, err := w.dial(irohub.SpokeOptions{Logger: slog.New(h)})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		w.wantLines(h)
	})
}

func TestSpoke_PublishWaitsWhileDisconnected(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		w.restart(irohub.HubOptions{MaxQueue: 10 << 20})
		f := w.feed("n")
		var want []string
		for i := range 500 {
			s.publish("n", i)
			want = append(want, fmt.Sprint(i))
		}
		f.want(want...)
		w.hub.Close()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		var err error
		for err == nil {
			err = s.Publish(ctx, event("n", 1))
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("publish: %v", err)
		}
		s.Close()
	})
}

func TestSpoke_HearsOfRefusedEvents(t *testing.T) {
	opts := irohub.HubOptions{AllowPublish: func(irohub.NodeID, string) error { return errors.New("read only") }}
	inWorld(t, opts, func(w *world) {
		refused := make(chan error, 1)
		s, err := w.dial(irohub.SpokeOptions{OnRefused: func(err error) { refused <- err }})
		if err != nil {
			t.Fatal(err)
		}
		s.publish("a", 1)
		if err := <-refused; !errors.Is(err, irohub.ErrForbidden) {
			t.Errorf("%v, want ErrForbidden", err)
		}
		s.Close()
	})
}

func TestSpoke_FlushWaitsForTheHub(t *testing.T) {
	opts := irohub.HubOptions{AllowPublish: func(_ irohub.NodeID, topic string) error {
		if topic == "secret" {
			return errors.New("no")
		}
		return nil
	}}
	inWorld(t, opts, func(w *world) {
		s := w.spoke()
		for i := range 500 {
			s.publish("a", i)
		}
		if err := s.Flush(w.Context()); err != nil {
			t.Error(err)
		}
		if n := w.hub.Stats().Received; n != 500 {
			t.Errorf("the hub has worked through %d events, want 500", n)
		}
		s.publish("secret", 1)
		s.publish("a", 1)
		if err := s.Flush(w.Context()); !errors.Is(err, irohub.ErrForbidden) {
			t.Errorf("%v, want ErrForbidden", err)
		}
		if err := s.Flush(w.Context()); err != nil {
			t.Errorf("a refusal is reported again: %v", err)
		}
		// While disconnected, Flush waits. If a connection is lost meanwhile, it returns an error.
		w.restart(opts)
		if err := s.Flush(w.Context()); err != nil {
			t.Errorf("after a reconnect: %v", err)
		}
		w.hub.Close()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a hub: %v", err)
		}
		s.Close()
		if err := s.Flush(w.Context()); err == nil {
			t.Error("flushed a closed spoke")
		}
	})
}

func TestSpoke_FlushSaysThatTheConnectionWasLost(t *testing.T) {
	inWorld(t, irohub.HubOptions{AllowPublish: func(irohub.NodeID, string) error {
		time.Sleep(time.Hour)
		return nil
	}}, func(w *world) {
		s := w.spoke()
		s.publish("a", 1)
		time.AfterFunc(time.Second, func() { w.hub.Close() })
		w.wantCode(s.Flush(w.Context()), irohub.CodeShutdown)
		s.Close()
		time.Sleep(2 * time.Hour) // the callback returns
	})
}

func TestSpoke_DialFails(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		ep := w.network.Endpoint()
		if _, err := irohub.Dial(w.Context(), ep, irohub.Addr{ID: ep.ID()}, irohub.SpokeOptions{}); err == nil {
			t.Error("dialled nobody")
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		deaf := w.network.Endpoint() // does not accept
		if _, err := irohub.Dial(ctx, ep, deaf.Addr(), irohub.SpokeOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hub that does not accept: %v", err)
		}
		// A hub that accepts the connection but answers nothing.
		go func() {
			in, err := deaf.Accept(w.Context())
			if err == nil {
				in.Handshake(w.Context())
			}
		}()
		ctx, cancel = context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := irohub.Dial(ctx, ep, deaf.Addr(), irohub.SpokeOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hub that does not answer: %v", err)
		}
	})
}

func TestSpoke_CloseWhileDialling(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		w.hub.Close()
		time.Sleep(time.Second) // it dials, and nobody accepts
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestSubscription_BreakAndGoOn(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		sub, err := s.Subscribe(w.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			w.publish("n", i)
		}
		synctest.Wait()
		n := 0
		for n < 10 {
			for ev := range sub.Events() {
				if string(ev.Payload) != fmt.Sprint(n) {
					t.Fatalf("event %s, want %d", ev.Payload, n)
				}
				if n++; n%3 == 0 || n == 10 {
					break
				}
			}
		}
		sub.Close()
		for range sub.Events() {
			t.Error("an event after Close")
		}
		s.Close()
	})
}
