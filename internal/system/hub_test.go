package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
)

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

func TestHub_ShutdownEndsSpokesWithCodeAndEOF(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.raw()
		r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"n"}}`)
		r.want(`{"type":"__ack","id":"1"}`)
		w.publish("n", 1)
		done := make(chan error, 1)
		go func() { done <- w.hub.Shutdown(w.Context()) }()
		r.want(`{"type":"n","payload":1}`)
		if _, err := r.frame(); err != io.EOF {
			t.Errorf("after the last event: %v, want the stream's end", err)
		}
		w.wantCode(r.conn.Wait(w.Context()), irohub.CodeShutdown)
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := w.hub.Publish(w.Context(), event("n", 2)); !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("publish after shutdown: %v", err)
		}
		if _, err := w.hub.Subscribe(w.Context()); !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("subscribe after shutdown: %v", err)
		}
	})
}

func TestHub_ShutdownGivesUpWhenContextEnds(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.raw() // never reads
		r.send(`{"type":"__subscribe","payload":{"topic":"n"}}`)
		synctest.Wait()
		w.publish("n", 1)
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := w.hub.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		w.wantCode(r.conn.Wait(w.Context()), irohub.CodeShutdown)
	})
}

func TestHub_ShutdownSaysThatItWasCutShort(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.raw() // never reads
		r.send(`{"type":"__subscribe","payload":{"topic":"n"}}`)
		synctest.Wait()
		w.publish("n", 1)
		time.AfterFunc(time.Second, func() { w.hub.Close() })
		if err := w.hub.Shutdown(w.Context()); !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("shutdown: %v, want ErrHubClosed", err)
		}
	})
}

func TestHub_ShutdownGivesUpSpokesThatTakeNothing(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.raw()
		r.send(`{"type":"__subscribe","payload":{"topic":"n"}}`)
		synctest.Wait()
		w.publish("n", 1)
		if err := w.hub.Shutdown(w.Context()); !errors.Is(err, irohub.ErrUndelivered) {
			t.Errorf("shutdown: %v, want ErrUndelivered", err)
		}
		w.wantCode(r.conn.Wait(w.Context()), irohub.CodeTimeout)
	})
}

func TestHub_CloseIsIdempotentAndUnblocks(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		f, g := s.feed("n"), w.feed()
		for range 3 {
			go w.hub.Close()
			go w.hub.Shutdown(w.Context())
		}
		w.hub.Close()
		synctest.Wait()
		if !g.ended || !errors.Is(g.sub.Err(), irohub.ErrHubClosed) {
			t.Errorf("listener ended=%v: %v", g.ended, g.sub.Err())
		}
		if f.ended {
			t.Error("the spoke's subscription ended with the connection, though it may come back")
		}
		if err := s.Close(); err != nil {
			t.Errorf("close of a disconnected spoke: %v", err)
		}
		synctest.Wait()
		if !f.ended {
			t.Error("the spoke's subscription outlives it")
		}
		w.wantCode(f.sub.Err(), 0)
		if stats := w.hub.Stats(); stats.Spokes != 0 {
			t.Errorf("after close: %+v", stats)
		}
	})
}

func TestHub_ServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hub := newHub(t, irohub.HubOptions{}, newEndpoint())
		time.AfterFunc(time.Second, cancel)
		if err := hub.Serve(ctx); !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Serve: %v", err)
		}
		if err := hub.Serve(ctx); err == nil || errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("second Serve: %v", err)
		}
	})
}

func TestHub_ServeFailsWithItsEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		hub := newHub(t, irohub.HubOptions{}, ep)
		time.AfterFunc(time.Second, func() { ep.Close() })
		if err := hub.Serve(t.Context()); err == nil || errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Serve: %v, want the endpoint's error", err)
		}
	})
}

func TestHub_NeverServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(t, irohub.HubOptions{}, newEndpoint())
		if err := hub.Publish(t.Context(), event("n", 1)); err != nil {
			t.Error(err)
		}
		sub, err := hub.Subscribe(t.Context())
		if err != nil {
			t.Error(err)
		}
		if err := hub.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		for ev := range sub.Events() {
			t.Errorf("event %v", ev)
		}
		if err := sub.Err(); !errors.Is(err, irohub.ErrHubClosed) {
			t.Error(err)
		}
		sub.Close()
	})
}

func TestHub_PublishRefusesBadEvents(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxFrame: 100}, func(w *world) {
		for _, ev := range []irohub.Event{
			{},
			{ID: "id"},
			{Type: "__ack"},
			{Type: "a\nb"},
			{Type: "a", ID: "\xff"},
			{Type: strings.Repeat("a", 1025)},
			{Type: "a", Payload: []byte(`{`)},
			{Type: "a", Payload: []byte(`1 2`)},
			{Type: "a", Payload: []byte{}},
			{Type: "a", Payload: []byte(`"` + strings.Repeat("x", 100) + `"`)},
		} {
			if err := w.hub.Publish(w.Context(), ev); !errors.Is(err, irohub.ErrInvalid) {
				t.Errorf("%q: %v, want ErrInvalid", ev, err)
			}
		}
		if _, err := w.hub.Subscribe(w.Context(), "__x"); !errors.Is(err, irohub.ErrInvalid) {
			t.Errorf("subscribe: %v", err)
		}
	})
}

// A publisher whose context has ended publishes nothing, even if the queue has room.
func TestPublish_WithAnEndedContextPublishesNothing(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		s := w.spoke()
		heard := w.feed()
		feed := s.feed("n")
		ended, cancel := context.WithCancel(w.Context())
		cancel()
		for range 50 { // often enough to detect a random choice
			for name, publish := range map[string]func(context.Context, irohub.Event) error{"hub": w.hub.Publish, "spoke": s.Publish} {
				if err := publish(ended, event("n", 1)); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := w.hub.Subscribe(ended); !errors.Is(err, context.Canceled) {
				t.Errorf("hub's subscribe: %v", err)
			}
			if _, err := s.Subscribe(ended, "n"); !errors.Is(err, context.Canceled) {
				t.Errorf("spoke's subscribe: %v", err)
			}
		}
		synctest.Wait()
		feed.want()
		heard.want()
	})
}

func TestHub_AnswersControlEvents(t *testing.T) {
	refuseSecret := func(_ irohub.NodeID, topic string) error {
		if strings.HasPrefix(topic, "secret") {
			return errors.New("no secrets")
		}
		return nil
	}
	opts := irohub.HubOptions{AllowSubscribe: refuseSecret, AllowPublish: refuseSecret, MaxSubscriptions: 3}
	inWorld(t, opts, func(w *world) {
		r := w.raw()
		mailbox := "direct:" + r.id.String()
		for _, step := range []struct{ send, want string }{
			{`{"type":"__subscribe","id":"1","payload":{"topics":[]}}`, `{"type":"__ack","id":"1"}`},
			{`{"type":"__subscribe","id":"2","payload":{"topics":["a","b:*","a"]}}`, `{"type":"__ack","id":"2"}`},
			{`{"type":"__subscribe","payload":{"topic":"a"}}`, ``},
			{`{"id":"\u00e9\"","type":"__unsubscribe","payload":{"topic":"never"}}`, `{"type":"__ack","id":"é\""}`},
			{`{"type":"__subscribe","id":"3","payload":{"topic":"secret"}}`, `{"type":"__error","id":"3","payload":{"code":"forbidden","topic":"secret","message":"no secrets"}}`},
			{`{"type":"__subscribe","payload":{"topic":"secret:*"}}`, `{"type":"__error","payload":{"code":"forbidden","topic":"secret:*","message":"no secrets"}}`},
			{`{"type":"__subscribe","id":"4","payload":{"topics":["c","d"]}}`, `{"type":"__error","id":"4","payload":{"code":"too_many_subscriptions","topic":"d","message":"the limit is 3 topics"}}`},
			{`{"type":"__subscribe","id":"5","payload":{"topic":"` + mailbox + `"}}`, `{"type":"__ack","id":"5"}`},
			{`{"type":"__subscribe","id":"6","payload":{"topic":"direct:*"}}`, `{"type":"__error","id":"6","payload":{"code":"forbidden","topic":"direct:*","message":"the mailbox of another node"}}`},
			{`{"type":"__subscribe","id":"6","payload":{"topic":"direct:` + strings.ToUpper(r.id.String()) + `"}}`, `{"type":"__error","id":"6","payload":{"code":"forbidden","topic":"direct:` + strings.ToUpper(r.id.String()) + `","message":"the NodeID of a mailbox is written in lower case"}}`},
			{`{"type":"__subscribe","id":"7","payload":{"topic":7}}`, `{"type":"__error","id":"7","payload":{"code":"invalid_payload","topic":"","message":"the payload is neither {\"topic\":string} nor {\"topics\":[string]}"}}`},
			{`{"type":"__unsubscribe","id":"8"}`, `{"type":"__error","id":"8","payload":{"code":"invalid_payload","topic":"","message":"the payload is neither {\"topic\":string} nor {\"topics\":[string]}"}}`},
			{`{"type":"__subscribe","id":"9","payload":{"topic":""}}`, `{"type":"__error","id":"9","payload":{"code":"invalid_topic","topic":"","message":"irohub: invalid topic: empty"}}`},
			{`{"type":"__later","id":"10","payload":{}}`, ``},
			{`{"type":"__ack","id":"11"}`, ``},
			{`{"type":"secret"}`, `{"type":"__error","payload":{"code":"forbidden","topic":"secret","message":"no secrets"}}`},
			{`{"type":"a\u0001"}`, `{"type":"__error","payload":{"code":"invalid_topic","topic":"a\u0001","message":"irohub: invalid topic \"a\\x01\": control character at byte 1"}}`},
		} {
			r.send(step.send)
			if step.want != "" {
				r.want(step.want)
			}
		}
		w.check()
		topics := w.hub.Topics()
		if len(topics) != 3 || topics["a"] != 1 || topics["b:*"] != 1 || topics[mailbox] != 1 {
			t.Errorf("topics: %v", topics)
		}
		if stats := w.hub.Stats(); stats.Ignored != 2 || stats.Refused != 10 {
			t.Errorf("stats: %+v", stats)
		}
	})
}

func TestHub_AcknowledgesInOrderWithEvents(t *testing.T) {
	inWorld(t, irohub.HubOptions{Forward: forwardAll}, func(w *world) {
		r := w.raw()
		r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"a"}}`)
		r.want(`{"type":"__ack","id":"1"}`)
		w.publish("a", 1)
		synctest.Wait()
		r.send(`{"type":"__unsubscribe","id":"2","payload":{"topic":"a"}}`)
		synctest.Wait()
		w.publish("a", 2)
		synctest.Wait()
		r.send(`{"type":"__subscribe","id":"3","payload":{"topics":["a","a:*"]}}`)
		synctest.Wait()
		w.publish("a", 3)
		r.want(`{"type":"a","payload":1}`, `{"type":"__ack","id":"2"}`, `{"type":"__ack","id":"3"}`, `{"type":"a","payload":3}`)
	})
}

func forwardAll(irohub.NodeID, string) bool { return true }

func TestHub_ForwardsWithVerifiedFrom(t *testing.T) {
	var asked journal[string]
	opts := irohub.HubOptions{Forward: func(from irohub.NodeID, topic string) bool {
		asked.add(topic)
		return topic != "private"
	}}
	inWorld(t, opts, func(w *world) {
		sender, receiver := w.raw(), w.raw()
		local := w.feed()
		for _, r := range []*rawSpoke{sender, receiver} {
			r.send(`{"type":"__subscribe","id":"1","payload":{"topics":["a:x","a:*","private"]}}`)
			r.want(`{"type":"__ack","id":"1"}`)
		}
		forged := receiver.id.String()
		sender.send(`{"from":"` + forged + `","payload": {"n" : 1},"id":"x","type":"a","extra":[1,2]}`)
		sender.send(`{"type":"private","payload":2}`)
		sender.send(`{"type":"a:x","payload":null}`)
		sender.send(`{"type":"a:x"}`)
		from := `"from":"` + sender.id.String() + `"`
		receiver.want(
			`{"type":"a","id":"x",`+from+`,"payload":{"n" : 1}}`,
			`{"type":"a:x",`+from+`,"payload":null}`,
			`{"type":"a:x",`+from+`}`,
		)
		synctest.Wait()
		if len(local.events) != 4 {
			t.Fatalf("the hub's listener got %d events, want 4", len(local.events))
		}
		for _, ev := range local.events {
			if ev.From != sender.id {
				t.Errorf("from %s, want %s", ev.From, sender.id)
			}
		}
		if ev := local.events[0]; ev.Type != "a" || ev.ID != "x" || string(ev.Payload) != `{"n" : 1}` {
			t.Errorf("listener got %q", ev)
		}
		if ev := local.events[3]; ev.Type != "a:x" || ev.ID != "" || ev.Payload != nil {
			t.Errorf("listener got %q", ev)
		}
		// The sender does not get its own event, but it gets the hub's next answer.
		sender.send(`{"type":"__unsubscribe","id":"2","payload":{"topics":[]}}`)
		sender.want(`{"type":"__ack","id":"2"}`)
		if asked := fmt.Sprint(asked.take()); asked != "[a:x private a:x a:x]" {
			t.Errorf("Forward was asked about %v", asked)
		}
	})
}

func TestHub_ForwardsNothingByDefault(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		one, two := w.spoke(), w.spoke()
		f, local := two.feed("a"), w.feed("a")
		one.publish("a", 1)
		local.want("1")
		f.want()
		w.publish("a", 2)
		f.want("2")
		local.want() // the hub's own events are for spokes
		one.Close()
		two.Close()
	})
}

func TestHub_DirectReachesOneNode(t *testing.T) {
	inWorld(t, irohub.HubOptions{Forward: forwardAll}, func(w *world) {
		one, two := w.spoke(), w.spoke()
		f := one.feed("direct:" + one.id.String())
		if _, err := two.Subscribe(w.Context(), "direct:"+one.id.String()); !errors.Is(err, irohub.ErrForbidden) {
			t.Errorf("another's mailbox: %v, want ErrForbidden", err)
		}
		if _, err := two.Subscribe(w.Context(), "direct:"+strings.ToUpper(two.id.String())); !errors.Is(err, irohub.ErrForbidden) {
			t.Errorf("a mailbox in capitals: %v, want ErrForbidden", err)
		}
		w.hub.Publish(w.Context(), irohub.Event{Type: "direct", ID: one.id.String(), Payload: []byte("1")})
		two.publish("direct:"+one.id.String(), 2)
		f.want("1", "2")
		one.Close()
		two.Close()
	})
}

func TestHub_PartsWithProtocolBreakers(t *testing.T) {
	half := "\x00\x00\x00\x10{"
	for name, test := range map[string]struct {
		bytes string
		end   bool // the spoke ends its stream after them
	}{
		"empty frame":          {"\x00\x00\x00\x00", false},
		"frame over the limit": {"\x00\x10\x00\x01", false},
		"largest length":       {"\xff\xff\xff\xff", false},
		"not JSON":             {"\x00\x00\x00\x01x", false},
		"not an object":        {"\x00\x00\x00\x02[]", false},
		"no type":              {"\x00\x00\x00\x02{}", false},
		"repeated type":        {"\x00\x00\x00\x17" + `{"type":"a","type":"a"}`, false},
		"lone surrogate":       {"\x00\x00\x00\x11" + `{"type":"\ud800"}`, false},
		"end inside a frame":   {half, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, irohub.HubOptions{}, func(w *world) {
				good, bad := w.spoke(), w.raw()
				f := good.feed("a")
				bad.send(`{"type":"__subscribe","id":"1","payload":{"topic":"a"}}`)
				bad.want(`{"type":"__ack","id":"1"}`)
				bad.write([]byte(test.bytes))
				if test.end {
					bad.stream.CloseWrite(w.Context())
				}
				bad.wantClosed(irohub.CodeProtocol)
				w.publish("a", 1)
				f.want("1")
				if n := len(w.hub.Spokes()); n != 1 {
					t.Errorf("%d spokes, want the good one", n)
				}
				good.Close()
			})
		})
	}
}

func TestHub_SpokeThatEndsStillGetsWhatWaits(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.raw()
		local := w.feed()
		r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"a"}}`)
		r.send(`{"type":"b","payload":1}`)
		go r.stream.CloseWrite(w.Context())
		r.want(`{"type":"__ack","id":"1"}`)
		if _, err := r.frame(); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
		w.wantCode(r.conn.Wait(w.Context()), 0)
		local.want("1")
	})
}

// During a Shutdown, the hub waits for its spokes, but not for connections without a spoke.
func TestHub_ShutdownEndsConnectionsWithoutASpokeAtOnce(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		frozen := w.frozen("n")
		w.publish("n", 1)
		idle := []irohub.Conn{w.rawConn(w.network.Endpoint()), w.rawConn(w.network.Endpoint())}
		synctest.Wait()
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- w.hub.Shutdown(w.Context()) }()
		synctest.Wait()
		if late, err := w.network.Endpoint().Dial(w.Context(), w.endpoint.Addr()); err == nil { // or it is refused
			idle = append(idle, late)
		}
		for _, conn := range idle {
			w.wantCode(conn.Wait(w.Context()), irohub.CodeShutdown)
		}
		if d := time.Since(start); d != 0 || len(done) != 0 {
			t.Errorf("they ended after %v; Shutdown is done: %v", d, len(done) != 0)
		}
		frozen.conn.Close(0, "")
		<-done
	})
}

// Events that a spoke has taken do not count in WaitingBytes and WaitingEvents any more.
func TestHub_NothingWaitsOnceItIsTaken(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		f := w.spoke().feed("n:*", "m:*")
		var want []string
		for i := range 60 { // several runs in one write, and in several
			w.publish([]string{"n:1", "n:2", "m:1"}[i%3], i)
			want = append(want, fmt.Sprint(i))
			if i > 40 {
				synctest.Wait()
			}
		}
		f.want(want...)
		if got := w.hub.Spokes()[0]; got.WaitingBytes != 0 || got.WaitingEvents != 0 || got.Subscriptions != 2 {
			t.Errorf("%+v", got)
		}
	})
}

// MaxFrame also limits a forwarded frame, which has the sender's NodeID.
func TestHub_ForwardsUpToMaxFrame(t *testing.T) {
	const limit, from = 1000, 74
	inWorld(t, irohub.HubOptions{MaxFrame: limit, Forward: forwardAll}, func(w *world) {
		r, f := w.raw(), w.spoke().feed("a")
		r.greet()
		fits := `"` + strings.Repeat("x", limit-from-25) + `"`
		r.send(`{"type":"a","payload":` + fits + `}`)
		r.send(`{"type":"a","payload":"x` + fits[1:] + `}`)
		frame, _ := r.frame()
		if !strings.Contains(frame, `"code":"invalid_payload","topic":"a","message":"with its from, the frame has 1001 bytes, the limit is 1000"`) {
			t.Errorf("one byte more: %s", frame)
		}
		f.want(fits)
	})
}

// The hub counts the bytes of each spoke's stream. They stay in its statistics after the spoke's
// end, even if the hub ends the spoke.
func TestHub_CountsBytes(t *testing.T) {
	for _, end := range []string{"the spoke's", "the hub's"} {
		inWorld(t, irohub.HubOptions{}, func(w *world) {
			const request, answer = `{"type":"__subscribe","id":"1","payload":{"topic":"n"}}`, `{"type":"__ack","id":"1"}`
			in, out := uint64(4+len(request)), uint64(4+len(answer))
			one, two := w.raw(), w.raw()
			for _, r := range []*rawSpoke{one, two} {
				r.send(request)
				r.want(answer)
			}
			synctest.Wait()
			for _, info := range w.hub.Spokes() {
				if info.BytesIn != in || info.BytesOut != out {
					t.Errorf("%+v, want %d and %d bytes", info, in, out)
				}
			}
			want := func(in, out uint64) {
				t.Helper()
				if stats := w.hub.Stats(); stats.BytesIn != in || stats.BytesOut != out {
					t.Errorf("%s end: %d and %d bytes, want %d and %d", end, stats.BytesIn, stats.BytesOut, in, out)
				}
			}
			want(2*in, 2*out)
			w.publish("n", 7)
			synctest.Wait()
			const event = `{"type":"n","payload":7}`
			out += uint64(4 + len(event))
			if end == "the spoke's" {
				one.conn.Close(0, "")
				synctest.Wait()
				want(2*in, 2*out)
				two.send(event)
				synctest.Wait()
				in := 2*in + uint64(4+len(event))
				want(in, 2*out)
				w.raw().send("nonsense") // on a stream that never becomes a spoke
				synctest.Wait()
				want(in+uint64(4+len("nonsense")), 2*out)
				return
			}
			w.hub.Close()
			want(2*in, 2*out)
		})
	}
}

func TestStats_HaveJSONNames(t *testing.T) {
	info := irohub.SpokeInfo{Number: 1, Since: time.Unix(0, 0).UTC(), RemoteAddr: "a", Subscriptions: 2, WaitingBytes: 3, WaitingEvents: 4, BytesIn: 5, BytesOut: 6}
	stats := irohub.Stats{Spokes: 1, Pending: 2, Listeners: 3, Topics: 4, Published: 5, Received: 6, Delivered: 7, Refused: 8, Ignored: 9, Rejected: 10, CutOff: 11, BytesIn: 12, BytesOut: 13}
	for _, c := range []struct {
		value any
		want  string
	}{
		{info, `{"id":"` + info.ID.String() + `","number":1,"since":"1970-01-01T00:00:00Z","remote_addr":"a","subscriptions":2,"waiting_bytes":3,"waiting_events":4,"bytes_in":5,"bytes_out":6}`},
		{stats, `{"spokes":1,"pending":2,"listeners":3,"topics":4,"published":5,"received":6,"delivered":7,"refused":8,"ignored":9,"rejected":10,"cut_off":11,"bytes_in":12,"bytes_out":13}`},
	} {
		if got, err := json.Marshal(c.value); err != nil || string(got) != c.want {
			t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
		}
	}
}
