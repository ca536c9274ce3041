package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/irohubtest"
)

// These tests are about faults of the other side, and about calls that end at a bad moment.

// fakeHub accepts connections, and the first stream of each.
func fakeHub(t *testing.T, n *irohubtest.Network) (*irohubtest.Endpoint, chan *rawSpoke) {
	ep := n.Endpoint()
	c := make(chan *rawSpoke, 10)
	go func() {
		for {
			in, err := ep.Accept(t.Context())
			if err != nil {
				return
			}
			conn, err := in.Handshake(t.Context())
			if err != nil {
				return
			}
			st, err := conn.AcceptStream(t.Context())
			if err != nil {
				return
			}
			c <- &rawSpoke{w: &world{T: t}, conn: conn, stream: st}
		}
	}()
	return ep, c
}

// dialFake dials a fakeHub, and answers the greeting.
func dialFake(t *testing.T, opts irohub.SpokeOptions) (*irohub.Spoke, *irohubtest.Endpoint, *rawSpoke) {
	t.Helper()
	n := irohubtest.NewNetwork()
	ep, hubs := fakeHub(t, n)
	var s *irohub.Spoke
	go func() {
		var err error
		if s, err = irohub.Dial(t.Context(), n.Endpoint(), ep.Addr(), opts); err != nil {
			t.Error(err)
		}
	}()
	h := <-hubs
	f, _ := h.frame()
	_, id := idOf(t, f)
	h.send(`{"type":"__ack","id":"` + id + `"}`)
	synctest.Wait()
	return s, ep, h
}

// idOf reads the type and id of a frame.
func idOf(t *testing.T, body string) (typ, id string) {
	var e struct{ Type, ID string }
	json.Unmarshal([]byte(body), &e)
	return e.Type, e.ID
}

// A connection is lost while more data is queued than one write takes.
func TestSpoke_ComesBackFromAFailedWrite(t *testing.T) {
	slow := func(irohub.NodeID, string) error { time.Sleep(time.Second); return nil }
	inWorld(t, irohub.HubOptions{AllowPublish: slow}, func(w *world) {
		s := w.spoke()
		big := json.RawMessage(`"` + strings.Repeat("x", 8000) + `"`)
		go func() {
			for range 200 {
				if s.Publish(w.Context(), irohub.Event{Type: "a", Payload: big}) != nil {
					return
				}
			}
		}()
		time.Sleep(30 * time.Second)
		w.restart(irohub.HubOptions{})
		time.Sleep(10 * time.Minute)
		if n := len(w.hub.Spokes()); n != 1 {
			t.Fatalf("%d spokes ten minutes after the hub's restart, want 1", n)
		}
	})
}

// After a Subscribe has given up, a new one for the same topic waits for its own answer.
func TestSpoke_OldAnswerDoesNotSettleNewRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ep, h := dialFake(t, irohub.SpokeOptions{NoReconnect: true})
		ctx1, cancel1 := context.WithCancel(t.Context())
		go s.Subscribe(ctx1, "a")
		f, _ := h.frame()
		_, id1 := idOf(t, f)
		cancel1()
		synctest.Wait()
		done := make(chan error, 1)
		go func() { _, err := s.Subscribe(t.Context(), "a"); done <- err }()
		synctest.Wait()
		h.send(`{"type":"__ack","id":"` + id1 + `"}`)
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("second Subscribe returned %v on the first's ack", err)
		default:
		}
		h.conn.Close(0, "")
		ep.Close()
		s.Close()
	})
}

// Subscribe ends with its context, even during Close.
func TestSpoke_SubscribeEndsDuringClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ep, h := dialFake(t, irohub.SpokeOptions{NoReconnect: true})
		s.Publish(t.Context(), event("a", 1)) // not read: Close waits
		synctest.Wait()
		go s.Close()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		back := 0
		for range 40 {
			go func() { s.Subscribe(ctx, "x"); back++ }()
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if back != 40 {
			t.Errorf("%d of 40 Subscribe calls came back", back)
		}
		h.conn.Close(0, "")
		ep.Close()
	})
}

// A connection that ends with code 0 before the hub has read all is a loss.
func TestSpoke_CloseIsNotFooledByCodeZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ep, _ := dialFake(t, irohub.SpokeOptions{})
		s.Publish(t.Context(), event("a", 1)) // never read
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- s.Close() }()
		synctest.Wait()
		ep.Close() // the hub's process ends: code 0
		if err := <-done; err == nil {
			t.Error("Close returned nil, the event was never read")
		}
	})
}

// Flush reports that an earlier connection may have lost events.
func TestSpoke_FlushTellsOfAnEarlierLoss(t *testing.T) {
	inWorld(t, irohub.HubOptions{AllowPublish: func(irohub.NodeID, string) error { time.Sleep(time.Second); return nil }}, func(w *world) {
		s := w.spoke()
		for i := range 5 {
			s.publish("a", i)
		}
		synctest.Wait()
		w.restart(irohub.HubOptions{})
		time.Sleep(time.Minute)
		if err := s.Flush(w.Context()); err == nil && w.hub.Stats().Received == 0 {
			t.Error("Flush returned nil; the hub got none of 5 events")
		}
		time.Sleep(time.Minute)
	})
}

// The next Flush reports a refusal that no call has reported yet.
func TestSpoke_FlushThatGaveUpTakesNoRefusalAway(t *testing.T) {
	inWorld(t, irohub.HubOptions{AllowPublish: func(irohub.NodeID, string) error { time.Sleep(time.Second); return errors.New("no") }}, func(w *world) {
		s := w.spoke()
		s.publish("a", 1)
		ctx, cancel := context.WithTimeout(w.Context(), time.Millisecond)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.Flush(w.Context()); err == nil {
			t.Error("Flush: nil, though the event was refused")
		}
	})
}

// Streams that never become spokes do not keep a connection open.
func TestHub_ConnectionEndsWithItsLastSpoke(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxSpokes: 2, MaxSpokesPerNode: 1, MaxPending: 2}, func(w *world) {
		id := irohub.NodeID{9}
		ep := w.network.EndpointOf(id)
		var conns []irohub.Conn
		roll := func(c irohub.Conn) {
			if st, err := c.OpenStream(w.Context()); err == nil {
				st.Write(w.Context(), []byte{0})
			}
		}
		for range 100 {
			c := w.rawConn(ep)
			r := w.rawOn(c, id)
			r.send(`{"type":"__subscribe","id":"1","payload":{"topics":[]}}`)
			r.want(`{"type":"__ack","id":"1"}`)
			roll(c)
			synctest.Wait()
			conns = append(conns, c)
		}
		for range 20 {
			time.Sleep(9 * time.Second)
			for _, c := range conns {
				roll(c)
			}
			synctest.Wait()
		}
		open := w.open(conns)
		st := w.hub.Stats()
		if open > 5 {
			t.Errorf("after 3 minutes %d connections are open; spokes %d, pending %d", open, st.Spokes, st.Pending)
		}
		for _, c := range conns {
			c.Close(0, "")
		}
	})
}

// open counts the connections that have not ended.
func (w *world) open(conns []irohub.Conn) (n int) {
	for _, c := range conns {
		ctx, cancel := context.WithTimeout(w.Context(), 0)
		if err := c.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
			n++
		}
		cancel()
	}
	return n
}

// A spoke that has closed its half and does not read counts as long as its queue is not empty.
func TestHub_SpokeThatEndsCountsUntilItIsGone(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxSpokes: 2, MaxSpokesPerNode: 1}, func(w *world) {
		id := irohub.NodeID{9}
		ep := w.network.EndpointOf(id)
		conns := []irohub.Conn{}
		big := strings.Repeat("i", 900_000)
		for range 50 {
			c := w.rawConn(ep)
			r := w.rawOn(c, id)
			r.greet()
			r.send(`{"type":"__subscribe","id":"` + big + `","payload":{"topics":[]}}`)
			ctx, cancel := context.WithTimeout(w.Context(), time.Millisecond)
			r.stream.CloseWrite(ctx)
			cancel()
			synctest.Wait()
			conns = append(conns, c)
		}
		open := w.open(conns)
		if open > 2 {
			t.Errorf("%d connections with 900 kB waiting for each; spokes %d, MaxSpokes 2", open, w.hub.Stats().Spokes)
		}
		for _, c := range conns {
			c.Close(0, "")
		}
	})
}

// A request for more topics than a spoke may have is refused without asking AllowSubscribe.
func TestHub_RequestForTooManyTopicsAsksNobody(t *testing.T) {
	n := 0
	inWorld(t, irohub.HubOptions{AllowSubscribe: func(irohub.NodeID, string) error { n++; return nil }}, func(w *world) {
		r := w.raw()
		r.greet()
		var b strings.Builder
		for i := range 100_000 {
			fmt.Fprintf(&b, `,"%x"`, i)
		}
		r.send(`{"type":"__subscribe","id":"1","payload":{"topics":[` + b.String()[1:] + `]}}`)
		f, _ := r.frame()
		if n > 1025 {
			t.Errorf("asked %d times; %s", n, f)
		}
	})
}

// A call during the end of a Spoke returns the error that ended it.
func TestSpoke_SaysWhatEndedItWhileItEnds(t *testing.T) {
	for range 30 {
		inWorld(t, irohub.HubOptions{}, func(w *world) {
			s, err := w.dial(irohub.SpokeOptions{NoReconnect: true})
			if err != nil {
				w.Fatal(err)
			}
			for i := range 300 { // so many that ending them takes a while
				if _, err := s.Subscribe(w.Context(), fmt.Sprintf("t:%d", i)); err != nil {
					w.Fatal(err)
				}
			}
			failed := make(chan error)
			go func() {
				var err error
				for err == nil {
					err = s.Publish(w.Context(), irohub.Event{Type: "n"})
				}
				failed <- err
			}()
			w.hub.Close()
			var end *irohub.CloseError
			if err := <-failed; !errors.As(err, &end) || end.Code != irohub.CodeShutdown {
				w.Errorf("Publish says %v, not that the hub is shutting down", err)
			}
		})
	}
}

// If a connection is lost before the hub has acknowledged all subscriptions, the application
// never learns that it existed. So it must not complete a Subscribe or deliver events: there would
// be an unreported gap after them.
func TestSpoke_HalfMadeConnectionCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := irohubtest.NewNetwork()
		ep, hubs := fakeHub(t, n)
		// answer reads a number of requests. It acknowledges those with a topic that contains
		// some, or all if some is empty.
		answer := func(h *rawSpoke, requests int, some string) {
			for range requests {
				f, err := h.frame()
				if err != nil {
					t.Fatal(err)
				}
				if _, id := idOf(t, f); strings.Contains(f, some) {
					h.send(`{"type":"__ack","id":"` + id + `"}`)
				}
			}
			synctest.Wait()
		}
		losses := 0
		dialled := make(chan *irohub.Spoke)
		go func() {
			s, err := irohub.Dial(t.Context(), n.Endpoint(), ep.Addr(), irohub.SpokeOptions{OnDisconnect: func(error) { losses++ }})
			if err != nil {
				t.Error(err)
			}
			dialled <- s
		}()
		h := <-hubs
		answer(h, 1, "")
		s := <-dialled
		defer s.Close()
		defer ep.Close()
		subscribe := func(topic string) chan *irohub.Subscription {
			c := make(chan *irohub.Subscription, 1)
			go func() {
				sub, err := s.Subscribe(t.Context(), topic)
				if err != nil {
					t.Error(err)
				}
				c <- sub
			}()
			synctest.Wait()
			return c
		}
		waiting := subscribe("a")
		answer(h, 1, "")
		a := <-waiting
		h.conn.Close(0, "")
		synctest.Wait()
		waiting = subscribe("b")

		h = <-hubs // it asks for the empty request, a and b
		answer(h, 3, `"b"`)
		h.send(`{"type":"a","payload":1}`)
		synctest.Wait()
		select {
		case <-waiting:
			t.Error("Subscribe has returned over a connection that is not made yet")
		default:
		}
		h.conn.Close(0, "")
		synctest.Wait()

		// Events that are published now are in the gap that the reported loss explains.
		h = <-hubs
		answer(h, 3, "")
		h.send(`{"type":"a","payload":3}`)
		time.Sleep(time.Second)
		if losses != 1 {
			t.Errorf("%d losses were told of", losses)
		}
		for ev := range a.Events() {
			if string(ev.Payload) != "3" {
				t.Errorf("event %s came over a connection that was never made", ev.Payload)
			}
			break
		}
		s.Close()
	})
}
