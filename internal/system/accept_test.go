package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/irohubtest"
)

// These tests are about connections without a spoke, and about the hub's log lines.

// A connection whose stream is refused still has no spoke, even if it opens other
// streams.
func TestHub_ConnectionWithoutASpokeEndsInTime(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxSpokes: 1}, func(w *world) {
		good := w.spoke()
		start := time.Now()
		conn := w.rawConn(w.network.Endpoint())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for conn.Wait(canceled()) == context.Canceled {
				// The hub is full, so it refuses the first stream. The second has an incomplete frame.
				for _, first := range []string{"\x00\x00\x00\x0c{\"type\":\"a\"}", "\x00"} {
					if s, err := conn.OpenStream(w.Context()); err == nil {
						s.Write(w.Context(), []byte(first))
					}
				}
				time.Sleep(6 * time.Second)
			}
		}()
		synctest.Wait()
		conn.Wait(w.Context())
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("the connection lived for %v", d)
		}
		<-done
		synctest.Wait()
		if stats := w.hub.Stats(); stats.Pending != 0 || stats.Spokes != 1 {
			t.Errorf("stats %+v", stats)
		}
		good.Close()
	})
}

// canceled returns a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Before its first spoke, a connection may have one stream.
func TestHub_StreamsBeforeTheFirstSpokeAreTurnedAway(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		a := w.raw()
		a.write([]byte{0})
		synctest.Wait()
		early := w.rawOn(a.conn, a.id)
		early.write([]byte{0})
		early.wantClosed(irohub.CodeTooMany)
		a.write([]byte("\x00\x00\x39" + `{"type":"__subscribe","id":"1","payload":{"topic":"a:*"}}`))
		a.want(`{"type":"__ack","id":"1"}`)
		b := w.rawOn(a.conn, a.id)
		b.greet()
	})
}

// After that, a connection may have one stream more than it has spokes.
func TestHub_OneStreamMoreThanSpokes(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		a := w.frozen("a")
		b, c := w.rawOn(a.conn, a.id), w.rawOn(a.conn, a.id)
		b.write([]byte{0})
		synctest.Wait()
		c.write([]byte{0})
		c.wantClosed(irohub.CodeTooMany)
		b.write([]byte("\x00\x00\x39" + `{"type":"__subscribe","id":"1","payload":{"topic":"a:*"}}`))
		b.want(`{"type":"__ack","id":"1"}`)
		w.rawOn(a.conn, a.id).greet()
	})
}

// If the hub accepts a connection late, after its node has given it up, the node's newer ones
// stay.
func TestHub_LateConnectionReplacesNoNewerOne(t *testing.T) {
	slow := make(chan struct{})
	var calls atomic.Int32
	admit := func(context.Context, irohub.NodeID) error {
		if calls.Add(1) == 1 {
			<-slow
		}
		return nil
	}
	inWorld(t, irohub.HubOptions{MaxSpokesPerNode: 2, Admit: admit}, func(w *world) {
		slow = make(chan struct{})
		id := irohub.NodeID{7}
		ep := w.network.EndpointOf(id)
		late := w.rawOf(ep)
		late.write([]byte("\x00\x00\x00\x0c{\"type\":\"a\"}"))
		synctest.Wait()
		one, two := w.rawOf(ep), w.rawOf(ep)
		one.greet()
		two.greet()
		close(slow)
		late.wantClosed(irohub.CodeTooMany)
		for _, r := range []*rawSpoke{one, two} {
			r.greet()
		}
		// A newer one still replaces the oldest.
		w.rawOf(ep).greet()
		one.wantClosed(irohub.CodeTooMany)
		two.greet()
	})
}

// The first frame of a stream must be small. A spoke's later frames may be larger.
func TestHub_FirstFrameIsSmall(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		body := func(size int) string {
			return `{"type":"a","payload":"` + strings.Repeat("x", size-len(`{"type":"a","payload":""}`)) + `"}`
		}
		s := w.feed()
		large := w.raw()
		large.stream.Write(w.Context(), []byte("\x00\x00\x80\x01")) // 32 KiB and one
		large.wantClosed(irohub.CodeProtocol)
		fits := w.raw()
		fits.send(body(32 << 10))
		fits.send(body(32<<10 + 1)) // it is a spoke now
		synctest.Wait()
		if len(s.events) != 2 {
			t.Errorf("%d events", len(s.events))
		}
	})
	inWorld(t, irohub.HubOptions{MaxFrame: 100}, func(w *world) { // a lower limit holds from the first
		r := w.raw()
		r.stream.Write(w.Context(), []byte("\x00\x00\x00\x65"))
		r.wantClosed(irohub.CodeProtocol)
	})
}

// The hub does not send a peer's own code back to it.
func TestHub_PeersCodeIsNotGivenBack(t *testing.T) {
	var gone journal[error]
	inWorld(t, irohub.HubOptions{OnDisconnect: func(_ irohub.SpokeInfo, err error) { gone.add(err) }}, func(w *world) {
		r := w.frozen("a")
		r.stream.Abort(irohub.CodeForbidden)
		w.wantCode(r.conn.Wait(w.Context()), 0)
		synctest.Wait()
		errs := gone.take()
		if len(errs) != 1 {
			t.Fatalf("OnDisconnect: %v", errs)
		}
		w.wantCode(errs[0], irohub.CodeForbidden)
	})
}

// Every spoke gets each event that Publish has accepted, even during a Shutdown.
func TestHub_PublishBesideShutdown(t *testing.T) {
	const publishers, rounds = 48, 30
	for range rounds {
		inWorld(t, irohub.HubOptions{MaxQueue: 64 << 20}, func(w *world) {
			s, err := w.dial(irohub.SpokeOptions{MaxQueue: 64 << 20, NoReconnect: true})
			if err != nil {
				t.Fatal(err)
			}
			f := s.feed("a")
			var accepted atomic.Int64
			for range publishers {
				go func() {
					for i := 0; ; i++ {
						err := w.hub.Publish(w.Context(), event("a", i))
						if errors.Is(err, irohub.ErrHubClosed) {
							return
						}
						if err != nil {
							w.Error(err)
						}
						accepted.Add(1)
					}
				}()
			}
			for accepted.Load() < 100 {
				time.Sleep(0)
			}
			if err := w.hub.Shutdown(w.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			synctest.Wait()
			if n := accepted.Load(); int64(len(f.events)) != n {
				t.Errorf("%d events were accepted, %d delivered", n, len(f.events))
			}
		})
		if t.Failed() {
			return
		}
	}
}

// Shutdown returns how many events it could not deliver.
func TestHub_ShutdownSaysWhatWasLost(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxQueue: 10 << 20}, func(w *world) {
		good := w.spoke().feed("a")
		w.frozen("a")
		w.frozen("a")
		for range 400 {
			w.hub.Publish(w.Context(), framed("a", 1000))
		}
		synctest.Wait()
		err := w.hub.Shutdown(w.Context())
		if !errors.Is(err, irohub.ErrUndelivered) || !strings.Contains(err.Error(), "2 spokes") {
			t.Errorf("Shutdown: %v", err)
		}
		synctest.Wait()
		if len(good.events) != 400 {
			t.Errorf("the good spoke has %d events", len(good.events))
		}
	})
	// A spoke that was lost before the Shutdown does not count.
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.frozen("a")
		w.publish("a", 1)
		synctest.Wait()
		r.conn.Close(irohub.CodeProtocol, "")
		synctest.Wait()
		if err := w.hub.Shutdown(w.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	// A spoke that closes by itself does not count.
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		r := w.frozen("a")
		w.publish("a", 1)
		time.AfterFunc(time.Second, func() { r.conn.Close(0, "") })
		if err := w.hub.Shutdown(w.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// The hub reads more slowly from a spoke that sends too fast. It refuses nothing.
func TestHub_RateLimits(t *testing.T) {
	for name, opts := range map[string]irohub.HubOptions{
		"events": {MaxEventRate: 100},
		"bytes":  {MaxByteRate: 100 * 1000},
		"both":   {MaxEventRate: 1_000_000, MaxByteRate: 100 * 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, opts, func(w *world) {
				f := w.feed("a")
				fast, free := w.spoke(), w.spoke()
				start := time.Now()
				for range 1000 {
					if err := fast.Publish(w.Context(), framed("a", 1000)); err != nil {
						t.Fatal(err)
					}
				}
				if err := fast.Flush(w.Context()); err != nil {
					t.Fatal(err)
				}
				// The first second's allowance passes at once.
				if d := time.Since(start); d < 8900*time.Millisecond || d > 9500*time.Millisecond {
					t.Errorf("1,000 events at 100 a second took %v", d)
				}
				start = time.Now()
				if err := free.Publish(w.Context(), event("a", 1)); err != nil {
					t.Fatal(err)
				}
				if err := free.Flush(w.Context()); err != nil || time.Since(start) != 0 {
					t.Errorf("another's event took %v: %v", time.Since(start), err)
				}
				synctest.Wait()
				if len(f.events) != 1001 {
					t.Errorf("%d events", len(f.events))
				}
				// A spoke that is delayed can be ended.
				for range 300 {
					fast.Publish(w.Context(), framed("a", 1000))
				}
				if err := w.hub.Shutdown(w.Context()); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
		})
	}
}

// A handler collects the log lines as text.
type handler struct {
	journal[string]
	block atomic.Pointer[chan struct{}] // if set, the handler waits for it
}

func (h *handler) Enabled(context.Context, slog.Level) bool { return true }
func (h *handler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *handler) WithGroup(string) slog.Handler            { return h }
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if block := h.block.Load(); block != nil {
		<-*block
	}
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	h.add(line)
	return nil
}

// wantLines checks the beginnings of the lines since the last call.
func (w *world) wantLines(h *handler, begins ...string) (lines []string) {
	w.Helper()
	synctest.Wait()
	lines = h.take()
	for i, line := range lines {
		if i >= len(begins) || !strings.HasPrefix(line, begins[i]) {
			w.Errorf("line %d is %q", i, line)
		}
	}
	if len(lines) < len(begins) {
		w.Errorf("%d lines, want %q", len(lines), begins)
	}
	return lines
}

// A handler that never returns blocks nobody, and few lines are kept for it.
func TestHub_LogHandlerThatHangsHoldsUpNobody(t *testing.T) {
	h := &handler{}
	admit := func(_ context.Context, id irohub.NodeID) error {
		if id == (irohub.NodeID{66}) {
			return errors.New("not you")
		}
		return nil
	}
	inWorld(t, irohub.HubOptions{Logger: slog.New(h), Admit: admit}, func(w *world) {
		block := make(chan struct{})
		h.block.Store(&block)
		start := time.Now()
		for range 500 {
			s := w.spoke()
			s.Close()
			bad := w.network.EndpointOf(irohub.NodeID{66})
			if conn, err := bad.Dial(w.Context(), w.endpoint.Addr()); err == nil {
				conn.Wait(w.Context())
			}
		}
		synctest.Wait()
		if err := w.hub.Shutdown(w.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %v", d)
		}
		h.block.Store(nil)
		close(block)
		synctest.Wait()
		lines := h.take()
		if len(lines) > 300 {
			t.Errorf("%d lines were kept", len(lines))
		}
		if !strings.Contains(strings.Join(lines, "\n"), "log lines dropped") {
			t.Errorf("nothing says that lines were dropped; the last is %q", lines[len(lines)-1])
		}
	})
}

// One log line sums up rejected connections and names the most frequent host.
func TestHub_TurnedAwayAreSummedUp(t *testing.T) {
	h := &handler{}
	inWorld(t, irohub.HubOptions{Logger: slog.New(h), Admit: func(context.Context, irohub.NodeID) error { return errors.New("no") }}, func(w *world) {
		knock := func(n int) {
			for range n {
				w.dialFails(irohub.CodeForbidden)
			}
			synctest.Wait()
		}
		knock(1)
		line := w.wantLines(h, "INFO connection turned away")[0]
		for _, want := range []string{"addr=memory:", "node=", "err=irohub: closed: forbidden: no"} {
			if !strings.Contains(line, want) {
				t.Errorf("the line %q does not have %q", line, want)
			}
		}
		knock(1200)
		w.wantLines(h)
		time.Sleep(10 * time.Second)
		line = w.wantLines(h, "INFO connections turned away count=1200 within=10s most from=memory")[0]
		if !strings.Contains(line, "forbidden: no") {
			t.Errorf("the line %q does not say why", line)
		}
		knock(3)
		time.Sleep(10 * time.Second)
		w.wantLines(h, "INFO connections turned away count=3")
		time.Sleep(10 * time.Second)
		w.wantLines(h)
		knock(1) // after a pause, the next one is logged at once
		w.wantLines(h, "INFO connection turned away")
	})
}

// A full hub, or one that evicts pending connections, logs one warning, not one for each.
func TestHub_BeingFullIsAWarningOnce(t *testing.T) {
	h := &handler{}
	inWorld(t, irohub.HubOptions{Logger: slog.New(h), MaxSpokes: 1, MaxPending: 2}, func(w *world) {
		s := w.spoke()
		w.wantLines(h, "INFO spoke connected")
		for range 10 {
			w.dialFails(irohub.CodeTooMany)
		}
		w.wantLines(h, "WARN hub is full", "INFO connection turned away")
		for range 10 {
			w.rawConn(w.network.Endpoint())
			synctest.Wait()
		}
		w.wantLines(h, "WARN too many connections without a spoke")
		time.Sleep(2 * time.Minute)
		h.take()
		w.dialFails(irohub.CodeTooMany)
		if line := w.wantLines(h, "WARN hub is full", "INFO connection turned away")[0]; !strings.Contains(line, "turned away=10") {
			t.Errorf("%q does not count those before", line)
		}
		s.Close()
	})
}

// A flaky endpoint sometimes has no descriptor left.
type flaky struct {
	*irohubtest.Endpoint
	fails atomic.Int32
}

type scarce struct{}

func (scarce) Error() string   { return "out of descriptors" }
func (scarce) Temporary() bool { return true }

func (f *flaky) Accept(ctx context.Context) (irohub.Incoming, error) {
	if f.fails.Add(-1) >= 0 {
		return nil, fmt.Errorf("accept: %w", scarce{})
	}
	return f.Endpoint.Accept(ctx)
}

func TestHub_AcceptingMayFailForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{}
		network := irohubtest.NewNetwork()
		ep := &flaky{Endpoint: network.Endpoint()}
		ep.fails.Store(100)
		hub := newHub(t, irohub.HubOptions{Logger: slog.New(h)}, ep)
		served := make(chan error, 1)
		go func() { served <- hub.Serve(t.Context()) }()
		s, err := irohub.Dial(t.Context(), network.Endpoint(), ep.Addr(), irohub.SpokeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		hub.Close()
		if err := <-served; !errors.Is(err, irohub.ErrHubClosed) {
			t.Error(err)
		}
		synctest.Wait()
		if lines := strings.Join(h.take(), "\n"); strings.Count(lines, "accepting fails for now") != 1 {
			t.Errorf("logged: %s", lines)
		}
	})
}

// A refusal names the first refused topic in the order of the request.
func TestHub_RefusalNamesTheFirstOfTheRequest(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxSubscriptions: 3}, func(w *world) {
		r := w.raw()
		r.greet()
		for _, topics := range []string{`["ok","z\u0000","a\u0000"]`, `["__z","__a"]`} {
			r.send(`{"type":"__subscribe","id":"1","payload":{"topics":` + topics + `}}`)
			frame, err := r.frame()
			var answer struct{ Payload struct{ Topic string } }
			json.Unmarshal([]byte(frame), &answer)
			if got := answer.Payload.Topic; err != nil || !strings.Contains(got, "z") {
				t.Errorf("of %s, %q is refused: %s", topics, got, frame)
			}
		}
		// Repetitions count.
		r.send(`{"type":"__subscribe","id":"2","payload":{"topics":["a","a","a","a"]}}`)
		r.want(`{"type":"__error","id":"2","payload":{"code":"too_many_subscriptions","topic":"a","message":"the limit is 3 topics"}}`)
		r.send(`{"type":"__subscribe","id":"3","payload":{"topics":["a","a","a"]}}`)
		r.want(`{"type":"__ack","id":"3"}`)
	})
}

func TestHub_SpokesHaveAnAddress(t *testing.T) {
	var infos journal[irohub.SpokeInfo]
	inWorld(t, irohub.HubOptions{OnConnect: infos.add, OnDisconnect: func(i irohub.SpokeInfo, _ error) { infos.add(i) }}, func(w *world) {
		s := w.spoke()
		for _, info := range append(w.hub.Spokes(), infos.take()...) {
			if !strings.HasPrefix(info.RemoteAddr, "memory:") {
				t.Errorf("the address is %q", info.RemoteAddr)
			}
		}
		s.Close()
		synctest.Wait()
		if got := infos.take(); len(got) != 1 || got[0].RemoteAddr == "" {
			t.Errorf("OnDisconnect got %+v", got)
		}
	})
}

// The hub adds a listener with very many topics in parts. The listener gets events of all of them.
func TestHub_SubscribesToManyTopics(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		topics := make([]string, 5000)
		for i := range topics {
			topics[i] = fmt.Sprint("t", i)
		}
		sub, err := w.hub.Subscribe(w.Context(), topics...)
		f := w.collect(sub, err)
		if n := len(w.hub.Topics()); n != len(topics) {
			t.Errorf("%d topics", n)
		}
		s := w.spoke()
		s.publish("t0", 1)
		s.publish("t4999", 2)
		f.want("1", "2")
		sub.Close()
		synctest.Wait() // it is forgotten in turns
		if n := len(w.hub.Topics()); n != 0 {
			t.Errorf("%d topics are left", n)
		}
	})
}

// A call whose context has ended returns, even if the router is busy.
func TestHub_SubscribeWithAnEndedContextReturns(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		for range 200 {
			if sub, err := w.hub.Subscribe(canceled(), "a"); err == nil {
				sub.Close()
			}
		}
		if n := w.hub.Stats().Listeners; n != 0 {
			t.Errorf("%d listeners are left", n)
		}
	})
}

// The list of spokes is valid even if current events cause some of them to be cut off.
func TestHub_SpokesWhileSomeAreCutOff(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxQueue: 10_000, MaxSpokesPerNode: 1000}, func(w *world) {
		for range 20 {
			for range 20 {
				w.frozen("a")
			}
			go func() {
				for range 200 {
					w.hub.Publish(w.Context(), framed("a", 1000))
				}
			}()
			for range 200 {
				for _, info := range w.hub.Spokes() {
					if info.Number == 0 {
						t.Fatal("a spoke without a number")
					}
				}
			}
			synctest.Wait()
		}
	})
}

// A spoke leaves as soon as its connection has ended, even if it has exceeded its rate by far.
func TestHub_SpokeThatOwesMuchCanLeave(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxByteRate: 1000}, func(w *world) {
		r := w.raw()
		r.greet()
		r.send(`{"type":"a","payload":"` + strings.Repeat("x", 900_000) + `"}`)
		synctest.Wait()
		if n := w.hub.Stats().Spokes; n != 1 {
			t.Errorf("%d spokes", n)
		}
		r.conn.Close(0, "")
		synctest.Wait()
		if n := w.hub.Stats().Spokes; n != 0 {
			t.Errorf("%d spokes after its end", n)
		}
	})
}

// If a handler panics, only its line is lost.
func TestHub_LogHandlerThatPanics(t *testing.T) {
	h := &panicky{}
	inWorld(t, irohub.HubOptions{Logger: slog.New(h)}, func(w *world) {
		w.spoke().Close()
		w.spoke().Close()
		synctest.Wait()
		if n := h.calls.Load(); n < 4 {
			t.Errorf("the handler was called %d times", n)
		}
	})
}

type panicky struct {
	handler
	calls atomic.Int32
}

func (h *panicky) Handle(context.Context, slog.Record) error {
	h.calls.Add(1)
	panic("no disk")
}

// Subscribe returns during a Shutdown, whichever of the two begins first.
func TestHub_SubscribeBesideShutdownReturns(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		w.frozen("a")
		w.publish("a", 1) // the spoke does not read it
		done := make(chan error, 1)
		go func() { done <- w.hub.Shutdown(w.Context()) }()
		synctest.Wait()
		for range 20 {
			if _, err := w.hub.Subscribe(w.Context(), "a"); !errors.Is(err, irohub.ErrHubClosed) {
				t.Errorf("Subscribe: %v", err)
			}
		}
		if err := <-done; !errors.Is(err, irohub.ErrUndelivered) {
			t.Errorf("Shutdown: %v", err)
		}
		if n := w.hub.Stats().Topics; n != 0 {
			t.Errorf("%d topics after the end", n)
		}
	})
}

// When a spoke is cut off as too slow, the hub logs a warning with the size of its queue.
func TestHub_LogsWhoIsTooSlow(t *testing.T) {
	h := &handler{}
	inWorld(t, irohub.HubOptions{Logger: slog.New(h), MaxQueue: 10_000}, func(w *world) {
		r := w.frozen("a")
		for range 200 {
			w.hub.Publish(w.Context(), framed("a", 1000))
		}
		lines := w.wantLines(h, "INFO spoke connected", "WARN spoke is too slow bytes=", "INFO spoke disconnected")
		for _, want := range []string{"events=", "node=" + r.id.String(), "spoke=1", "addr=memory:"} {
			if !strings.Contains(lines[1], want) {
				t.Errorf("%q does not have %q", lines[1], want)
			}
		}
	})
}

// The log line about a normal end has no error. About any other end, it has the reason.
func TestHub_LogsNoErrorOfANormalEnd(t *testing.T) {
	h := &handler{}
	inWorld(t, irohub.HubOptions{Logger: slog.New(h)}, func(w *world) {
		w.spoke().Close()
		synctest.Wait()
		r := w.raw()
		r.greet()
		r.send("no JSON")
		lines := w.wantLines(h, "INFO spoke connected", "INFO spoke disconnected", "INFO spoke connected", "INFO spoke disconnected")
		if strings.Contains(lines[1], "err=") || !strings.Contains(lines[3], "err=") {
			t.Errorf("said %q", lines)
		}
	})
}

// A newer spoke of a node replaces the one of the node's oldest connection, even if that spoke
// is not the oldest.
func TestHub_TheOldestConnectionMakesRoom(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxSpokesPerNode: 3}, func(w *world) {
		id := irohub.NodeID{7}
		ep := w.network.EndpointOf(id)
		var conns []irohub.Conn
		for range 4 {
			conns = append(conns, w.rawConn(ep))
			synctest.Wait()
		}
		var spokes [4]*rawSpoke
		for _, i := range []int{2, 0, 1, 3} {
			spokes[i] = w.rawOn(conns[i], id)
			spokes[i].greet()
		}
		spokes[0].wantClosed(irohub.CodeTooMany)
		for _, r := range spokes[1:] {
			r.greet()
		}
	})
}
