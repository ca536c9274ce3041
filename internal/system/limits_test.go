package system_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/irohubtest"
)

// frozen makes a spoke that subscribes and then stops reading.
func (w *world) frozen(topic string) *rawSpoke {
	w.Helper()
	r := w.raw()
	r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"` + topic + `"}}`)
	r.want(`{"type":"__ack","id":"1"}`)
	return r
}

func TestHub_SlowSpokeIsCutOff(t *testing.T) {
	var slow journal[irohub.SpokeInfo]
	var gone journal[error]
	opts := irohub.HubOptions{
		MaxQueue:       100_000,
		OnBackpressure: slow.add,
		OnDisconnect:   func(_ irohub.SpokeInfo, err error) { gone.add(err) },
	}
	inWorld(t, opts, func(w *world) {
		frozen := w.frozen("a")
		var feeds []*feed
		for range 8 {
			feeds = append(feeds, w.spoke().feed("a"))
		}
		payload := `"` + strings.Repeat("x", 971) + `"` // a frame of 1,000 bytes
		var want []string
		for range 300 {
			w.hub.Publish(w.Context(), irohub.Event{Type: "a", Payload: []byte(payload)})
			synctest.Wait()
			want = append(want, payload)
		}
		cut := slow.take()
		if len(cut) != 1 || cut[0].ID != frozen.id {
			t.Fatalf("OnBackpressure got %+v, want the frozen spoke once", cut)
		}
		// The transport has taken one window. The writer's call for the rest of
		// its buffer has not returned, so all of that still counts.
		if b, n := cut[0].WaitingBytes, cut[0].WaitingEvents; b > 100_000 || b < 100_000-cost(1000) || n < b/cost(1000) || n > b/cost(1000)+1 {
			t.Errorf("waiting: %d bytes, %d events", b, n)
		}
		ends := gone.take()
		if len(ends) != 1 {
			t.Fatalf("%d spokes are gone, want the frozen one alone", len(ends))
		}
		w.wantCode(ends[0], irohub.CodeSlow)
		if want := fmt.Sprintf("irohub: closed: too slow: the next event of %d bytes does not fit beside %d bytes that wait; the limit is 100000", cost(1000), cut[0].WaitingBytes); ends[0].Error() != want {
			t.Errorf("it is gone for %v, want %s", ends[0], want)
		}
		frozen.wantClosed(irohub.CodeSlow)
		for _, f := range feeds {
			f.want(want...)
		}
		if stats := w.hub.Stats(); stats.CutOff != 1 || stats.Spokes != 8 {
			t.Errorf("stats %+v", stats)
		}
	})
}

func TestHub_EventOverTheQueueGoesToWhoHasNothingWaiting(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxQueue: 1000}, func(w *world) {
		s := w.spoke()
		f := s.feed("a")
		big := `"` + strings.Repeat("x", 500_000) + `"`
		for range 3 {
			w.hub.Publish(w.Context(), irohub.Event{Type: "a", Payload: []byte(big)})
			// Spoke's own limit is 1 MiB; the hub's, 1,000 bytes.
			f.want(big)
		}
		s.Close()
	})
}

func TestHub_SlowListenerIsCutOff(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxQueue: 10_000}, func(w *world) {
		s := w.spoke()
		slow, err := w.hub.Subscribe(w.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		f := w.feed("a")
		var want []string
		for i := range 1000 {
			s.publish("a", i)
			synctest.Wait()
			want = append(want, fmt.Sprint(i))
		}
		f.want(want...)
		n := 0
		for ev := range slow.Events() {
			if string(ev.Payload) != fmt.Sprint(n) {
				t.Fatalf("event %s, want %d", ev.Payload, n)
			}
			n++
		}
		if n == 0 || n > 100 {
			t.Errorf("%d events were queued within 10,000 bytes", n)
		}
		w.wantCode(slow.Err(), irohub.CodeSlow)
		s.Close()
	})
}

func TestHub_WriteTimeout(t *testing.T) {
	inWorld(t, irohub.HubOptions{WriteTimeout: 3 * time.Second, MaxQueue: 10 << 20}, func(w *world) {
		start := time.Now()
		frozen := w.frozen("a")
		for range 200 {
			w.hub.Publish(w.Context(), irohub.Event{Type: "a", Payload: []byte(`"` + strings.Repeat("x", 1000) + `"`)})
		}
		w.wantCode(frozen.conn.Wait(w.Context()), irohub.CodeTimeout)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("after %v, want 3s", d)
		}
	})
}

func TestHub_SilentPeersAreReaped(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		start := time.Now()
		silent := w.rawConn(w.network.Endpoint())
		half := w.raw()
		half.write([]byte("\x00\x00\x00\x10{"))
		// Sending one byte at a time does not extend the deadline.
		drip := w.raw()
		drip.write([]byte("\x00\x00\x10\x00{"))
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			for {
				if _, err := drip.stream.Write(w.Context(), []byte{' '}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		synctest.Wait()
		if n := w.hub.Stats().Pending; n != 3 {
			t.Errorf("%d pending, want 3", n)
		}
		for _, conn := range []irohub.Conn{silent, half.conn, drip.conn} {
			w.wantCode(conn.Wait(w.Context()), irohub.CodeTimeout)
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("reaped after %v, want 10s", d)
			}
		}
		<-dripped
		synctest.Wait()
		if n := w.hub.Stats().Pending; n != 0 {
			t.Errorf("%d pending, want none", n)
		}
	})
}

func TestHub_SecondSilentStreamIsReapedAlone(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.frozen("a")
		silent := w.rawOn(r.conn, r.id)
		silent.write([]byte{0})
		silent.wantClosed(irohub.CodeTimeout)
		w.publish("a", 1)
		r.want(`{"type":"a","payload":1}`)
	})
}

func TestHub_FullOfPendingReplacesTheOldest(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxPending: 4}, func(w *world) {
		var silent []irohub.Conn
		for range 10 {
			silent = append(silent, w.rawConn(w.network.Endpoint()))
			synctest.Wait()
		}
		s := w.spoke() // at once
		if stats := w.hub.Stats(); stats.Pending != 3 || stats.Rejected != 7 {
			t.Errorf("stats %+v", stats)
		}
		for _, conn := range silent[:7] {
			w.wantCode(conn.Wait(w.Context()), irohub.CodeTooMany)
		}
		s.Close()
	})
}

func TestHub_AdmitTurnsAway(t *testing.T) {
	opts := irohub.HubOptions{HandshakeTimeout: 2 * time.Second}
	opts.Admit = func(ctx context.Context, id irohub.NodeID) error {
		switch id[0] {
		case 1:
			return errors.New("not you")
		case 2:
			panic("admit")
		case 3:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	inWorld(t, opts, func(w *world) {
		dial := func(first byte) error {
			ep := w.network.EndpointOf(irohub.NodeID{first})
			s, err := irohub.Dial(w.Context(), ep, w.endpoint.Addr(), irohub.SpokeOptions{})
			if err == nil {
				s.Close()
			}
			return err
		}
		err := dial(1)
		w.wantCode(err, irohub.CodeForbidden)
		if err == nil || !strings.Contains(err.Error(), "not you") {
			t.Errorf("the reason is lost: %v", err)
		}
		w.wantCode(dial(2), irohub.CodeForbidden)
		if err := dial(4); err != nil {
			t.Errorf("a good node: %v", err)
		}
		start := time.Now()
		w.wantCode(dial(3), irohub.CodeTimeout)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("a hanging Admit took %v", d)
		}
		synctest.Wait()
		if stats := w.hub.Stats(); stats.Spokes != 0 || stats.Pending != 0 || stats.Topics != 0 {
			t.Errorf("left behind: %+v", stats)
		}
	})
}

// A refusal is an error whose Error is code of the application.
type refusal func() string

func (r refusal) Error() string { return r() }

// If the Error of a refusal panics, the hub refuses all the same and goes on.
func TestHub_RefusalsThatPanic(t *testing.T) {
	no := refusal(func() string { panic("no text") })
	opts := irohub.HubOptions{
		Admit: func(_ context.Context, id irohub.NodeID) error {
			if id[0] == 1 {
				return no
			}
			return nil
		},
		AllowSubscribe: func(irohub.NodeID, string) error { return no },
		AllowPublish:   func(irohub.NodeID, string) error { return no },
	}
	inWorld(t, opts, func(w *world) {
		_, err := irohub.Dial(w.Context(), w.network.EndpointOf(irohub.NodeID{1}), w.endpoint.Addr(), irohub.SpokeOptions{})
		w.wantCode(err, irohub.CodeForbidden)
		s, err := irohub.Dial(w.Context(), w.network.EndpointOf(irohub.NodeID{2}), w.endpoint.Addr(), irohub.SpokeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Subscribe(w.Context(), "a"); !errors.Is(err, irohub.ErrForbidden) {
			t.Errorf("Subscribe: %v, want ErrForbidden", err)
		}
		if err := s.Publish(w.Context(), irohub.Event{Type: "a"}); err != nil {
			t.Error(err)
		}
		if err := s.Flush(w.Context()); !errors.Is(err, irohub.ErrForbidden) {
			t.Errorf("Flush: %v, want ErrForbidden", err)
		}
	})
}

// If the Error of Admit's refusal hangs, Close does not wait for it.
func TestHub_RefusalThatHangsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		network := irohubtest.NewNetwork()
		ep := network.Endpoint()
		hub := newHub(t, irohub.HubOptions{Admit: func(context.Context, irohub.NodeID) error {
			return refusal(func() string { <-release; return "no" })
		}}, ep)
		served := make(chan error, 1)
		go func() { served <- hub.Serve(t.Context()) }()
		go irohub.Dial(t.Context(), network.EndpointOf(irohub.NodeID{1}), ep.Addr(), irohub.SpokeOptions{})
		synctest.Wait()
		hub.Close()
		<-served
		close(release)
	})
}

// An event without From is the hub's own. So the hub admits no node with a zero NodeID.
func TestHub_TheZeroNodeIDIsNobodys(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		_, err := irohub.Dial(w.Context(), w.network.EndpointOf(irohub.NodeID{}), w.endpoint.Addr(), irohub.SpokeOptions{})
		w.wantCode(err, irohub.CodeForbidden)
		_, err = irohub.Dial(w.Context(), w.network.Endpoint(), irohub.Addr{Hosts: w.endpoint.Addr().Hosts}, irohub.SpokeOptions{})
		if !errors.Is(err, irohub.ErrInvalid) {
			t.Errorf("dialling nobody: %v, want ErrInvalid", err)
		}
	})
}

func TestHub_AdmitThatNeverReturnsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		network := irohubtest.NewNetwork()
		ep := network.Endpoint()
		hub := newHub(t, irohub.HubOptions{Admit: func(_ context.Context, id irohub.NodeID) error {
			if id[0] == 1 {
				<-release
			}
			return nil
		}}, ep)
		served := make(chan error, 1)
		go func() { served <- hub.Serve(t.Context()) }()
		go irohub.Dial(t.Context(), network.EndpointOf(irohub.NodeID{1}), ep.Addr(), irohub.SpokeOptions{})
		synctest.Wait()
		s, err := irohub.Dial(t.Context(), network.Endpoint(), ep.Addr(), irohub.SpokeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		hub.Close() // does not wait for Admit
		<-served
		s.Close()
		close(release)
	})
}

func TestHub_MaxSpokesTurnsNewcomersAway(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxSpokes: 2}, func(w *world) {
		one, two := w.spoke(), w.spoke()
		f := one.feed("a")
		w.dialFails(irohub.CodeTooMany)
		w.publish("a", 1)
		f.want("1")
		two.Close()
		synctest.Wait()
		three := w.spoke()
		one.Close()
		three.Close()
	})
}

func TestHub_NewestSpokeOfANodeWins(t *testing.T) {
	var gone journal[uint64]
	opts := irohub.HubOptions{
		MaxSpokesPerNode: 2,
		MaxSpokes:        3,
		OnDisconnect:     func(info irohub.SpokeInfo, _ error) { gone.add(info.Number) },
	}
	inWorld(t, opts, func(w *world) {
		other := w.spoke()
		id := irohub.NodeID{7}
		var rs []*rawSpoke
		for range 4 { // though the hub is full, a node makes room for itself
			r := w.rawOf(w.network.EndpointOf(id))
			r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"direct:` + id.String() + `"}}`)
			r.want(`{"type":"__ack","id":"1"}`)
			rs = append(rs, r)
		}
		rs[0].wantClosed(irohub.CodeTooMany)
		rs[1].wantClosed(irohub.CodeTooMany)
		synctest.Wait()
		replaced := gone.take()
		slices.Sort(replaced)
		if fmt.Sprint(replaced) != "[2 3]" {
			t.Errorf("gone: %v", replaced)
		}
		// The late end of the old spokes does not affect the new ones.
		w.hub.Publish(w.Context(), irohub.Event{Type: "direct", ID: id.String(), Payload: []byte("1")})
		for _, r := range rs[2:] {
			r.want(`{"type":"direct","id":"` + id.String() + `","payload":1}`)
		}
		other.Close()
	})
}

func TestHub_StreamsOfAConnectionAreSpokes(t *testing.T) {
	opts := irohub.HubOptions{MaxStreamsPerConn: 3, MaxQueue: 100_000}
	inWorld(t, opts, func(w *world) {
		a := w.frozen("a")
		b, c, d := w.rawOn(a.conn, a.id), w.rawOn(a.conn, a.id), w.rawOn(a.conn, a.id)
		for _, r := range []*rawSpoke{b, c} {
			r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"b"}}`)
			r.want(`{"type":"__ack","id":"1"}`)
		}
		d.write([]byte{0})
		d.wantClosed(irohub.CodeTooMany)
		if n := w.hub.Stats().Spokes; n != 3 {
			t.Fatalf("%d spokes, want 3", n)
		}
		// One breaks the protocol, and one is too slow. The third does not notice.
		c.write([]byte{0, 0, 0, 0})
		c.wantClosed(irohub.CodeProtocol)
		for range 200 {
			w.hub.Publish(w.Context(), irohub.Event{Type: "a", Payload: []byte(`"` + strings.Repeat("x", 1000) + `"`)})
			synctest.Wait()
		}
		a.wantClosed(irohub.CodeSlow)
		w.publish("b", 1)
		b.want(`{"type":"b","payload":1}`)
		// The last stream's end closes the connection.
		go b.stream.CloseWrite(w.Context())
		w.wantCode(b.conn.Wait(w.Context()), 0)
	})
}

func TestHub_CallbacksThatBlockOrPanicHarmTheirSpokeAlone(t *testing.T) {
	for name, misbehave := range map[string]func(release <-chan struct{}){
		"blocks": func(release <-chan struct{}) { <-release },
		"panics": func(<-chan struct{}) { panic("callback") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				bad := irohub.NodeID{1}
				do := func(id irohub.NodeID) {
					if id == bad {
						misbehave(release)
					}
				}
				opts := irohub.HubOptions{
					MaxQueue:       50_000,
					AllowSubscribe: func(id irohub.NodeID, _ string) error { return nil },
					AllowPublish:   func(id irohub.NodeID, _ string) error { do(id); return nil },
					Forward:        func(id irohub.NodeID, _ string) bool { do(id); return true },
					OnConnect:      func(info irohub.SpokeInfo) { do(info.ID) },
					OnBackpressure: func(info irohub.SpokeInfo) { do(info.ID) },
					OnDisconnect:   func(info irohub.SpokeInfo, _ error) { do(info.ID) },
				}
				network := irohubtest.NewNetwork()
				w := &world{T: t, network: network, endpoint: network.Endpoint(), served: make(chan error, 1)}
				w.hub = newHub(t, opts, w.endpoint)
				go func() { w.served <- w.hub.Serve(t.Context()) }()
				r := w.rawOf(network.EndpointOf(bad))
				r.send(`{"type":"__subscribe","payload":{"topic":"a"}}`)
				r.send(`{"type":"a"}`)
				s := w.spoke()
				f := s.feed("a")
				big := `"` + strings.Repeat("x", 1000) + `"`
				var want []string
				for range 200 {
					w.hub.Publish(w.Context(), irohub.Event{Type: "a", Payload: []byte(big)})
					synctest.Wait()
					want = append(want, big)
				}
				f.want(want...)
				s.Close()
				w.hub.Close()
				<-w.served
				close(release)
			})
		})
	}
}

func TestHub_CallbacksMayCallTheHub(t *testing.T) {
	var the atomic.Pointer[irohub.Hub]
	busy := func() *irohub.Hub {
		hub := the.Load()
		hub.Publish(context.Background(), event("a", 1))
		if sub, err := hub.Subscribe(context.Background(), "a"); err == nil {
			sub.Close()
		}
		hub.Stats()
		hub.Spokes()
		hub.Topics()
		return hub
	}
	opts := irohub.HubOptions{
		MaxQueue:       50_000,
		Admit:          func(context.Context, irohub.NodeID) error { busy(); return nil },
		AllowSubscribe: func(irohub.NodeID, string) error { busy(); return nil },
		AllowPublish:   func(irohub.NodeID, string) error { busy(); return nil },
		Forward:        func(irohub.NodeID, string) bool { busy(); return true },
		OnConnect:      func(irohub.SpokeInfo) { busy() },
		OnBackpressure: func(irohub.SpokeInfo) { busy().Close() },
		OnDisconnect:   func(irohub.SpokeInfo, error) { busy().Shutdown(context.Background()) },
	}
	inWorld(t, opts, func(w *world) {
		the.Store(w.hub)
		w.frozen("b")
		s := w.spoke()
		s.publish("a", 1)
		for range 200 {
			w.hub.Publish(w.Context(), irohub.Event{Type: "b", Payload: []byte(`"` + strings.Repeat("x", 1000) + `"`)})
			synctest.Wait()
		}
		if err := <-w.served; !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Serve: %v", err)
		}
		w.served <- irohub.ErrHubClosed
		s.Close()
	})
}
