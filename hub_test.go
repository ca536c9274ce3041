package irohub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/irohubtest"
)

// A world is a hub in memory, in a bubble of its own: when the test function returns,
// synctest waits for every goroutine of the bubble, so that each test is a leak check.
type world struct {
	*testing.T
	network  *irohubtest.Network
	endpoint *irohubtest.Endpoint
	hub      *irohub.Hub
	served   chan error
}

// inWorld runs a test in a bubble with a hub, which it closes at the end.
func inWorld(t *testing.T, opts irohub.HubOptions, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		network := irohubtest.NewNetwork()
		w := &world{T: t, network: network, endpoint: network.Endpoint(), served: make(chan error, 1)}
		w.hub = irohub.NewHub(w.endpoint, opts)
		go func() { w.served <- w.hub.Serve(t.Context()) }()
		synctest.Wait()
		test(w)
		w.hub.Close()
		if err := <-w.served; !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Serve returned %v, want ErrHubClosed", err)
		}
		w.endpoint.Close()
	})
}

// A testSpoke is a Spoke with an endpoint of its own.
type testSpoke struct {
	*irohub.Spoke
	w  *world
	id irohub.NodeID
}

func (w *world) dial(opts irohub.SpokeOptions) (*testSpoke, error) {
	ep := w.network.Endpoint()
	s, err := irohub.Dial(w.Context(), ep, w.endpoint.Addr(), opts)
	if err != nil {
		return nil, err
	}
	return &testSpoke{s, w, ep.ID()}, nil
}

// spoke dials; the test ends with the Spoke's Close.
func (w *world) spoke() *testSpoke {
	w.Helper()
	s, err := w.dial(irohub.SpokeOptions{})
	if err != nil {
		w.Fatalf("dial: %v", err)
	}
	return s
}

// A feed is a Subscription whose events a goroutine collects.
type feed struct {
	w      *world
	sub    *irohub.Subscription
	events []irohub.Event // read after synctest.Wait
	ended  bool
}

func (w *world) collect(sub *irohub.Subscription, err error) *feed {
	w.Helper()
	if err != nil {
		w.Fatalf("subscribe: %v", err)
	}
	f := &feed{w: w, sub: sub}
	go func() {
		for ev := range sub.Events() {
			f.events = append(f.events, ev)
		}
		f.ended = true
	}()
	return f
}

func (s *testSpoke) feed(topics ...string) *feed {
	s.w.Helper()
	return s.w.collect(s.Subscribe(s.w.Context(), topics...))
}

func (w *world) feed(topics ...string) *feed {
	w.Helper()
	return w.collect(w.hub.Subscribe(w.Context(), topics...))
}

// want checks the payloads of all that has come since the last want, in order.
func (f *feed) want(payloads ...string) {
	f.w.Helper()
	synctest.Wait()
	var got []string
	for _, ev := range f.events {
		got = append(got, string(ev.Payload))
	}
	f.events = nil
	if fmt.Sprint(got) != fmt.Sprint(payloads) {
		f.w.Errorf("got %q, want %q", got, payloads)
	}
}

// publish publishes n as payload.
func (w *world) publish(topic string, n int) {
	w.Helper()
	if err := w.hub.Publish(w.Context(), event(topic, n)); err != nil {
		w.Fatalf("publish: %v", err)
	}
}

func (s *testSpoke) publish(topic string, n int) {
	s.w.Helper()
	if err := s.Publish(s.w.Context(), event(topic, n)); err != nil {
		s.w.Fatalf("publish: %v", err)
	}
}

func event(topic string, n int) irohub.Event {
	return irohub.Event{Type: topic, Payload: json.RawMessage(fmt.Sprint(n))}
}

func TestHub_PublishReachesSubscribers(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		one, two, none := w.spoke(), w.spoke(), w.spoke()
		exact := one.feed("file:a")
		all := two.feed("file:*")
		both := two.feed("file:a", "file:*")
		other := none.feed("other")
		w.publish("file:a", 1)
		w.publish("file:b", 2)
		w.publish("file", 3)
		exact.want("1")
		all.want("1", "2", "3")
		both.want("1", "2", "3")
		other.want()
		for _, s := range []*testSpoke{one, two, none} {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		synctest.Wait()
		if topics := w.hub.Topics(); len(topics) != 0 {
			t.Errorf("topics left: %v", topics)
		}
		if n := len(w.hub.Spokes()); n != 0 {
			t.Errorf("%d spokes left", n)
		}
	})
}

func TestHub_ShutdownDeliversWhatWasPublished(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		lost := make(chan error, 1)
		s, err := w.dial(irohub.SpokeOptions{NoReconnect: true, OnDisconnect: func(err error) { lost <- err }})
		if err != nil {
			t.Fatal(err)
		}
		f := s.feed("n")
		want := []string{}
		for i := range 100 {
			w.publish("n", i)
			want = append(want, fmt.Sprint(i))
		}
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		if err := w.hub.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		f.want(want...)
		var end *irohub.CloseError
		if !f.ended || !errors.As(f.sub.Err(), &end) || end.Code != irohub.CodeShutdown {
			t.Errorf("subscription ended=%v with %v, want code 1", f.ended, f.sub.Err())
		}
	})
}
