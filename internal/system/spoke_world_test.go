package system_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/irohubtest"
)

// These tests are about what a Spoke and its application can do to each other, and what a hub can
// do to both.

// A fakeWorld is a Spoke whose hubs a test plays by hand, one for each connection.
type fakeWorld struct {
	*testing.T
	s    *irohub.Spoke
	ep   *irohubtest.Endpoint // the hub's
	own  *irohubtest.Endpoint // the spoke's
	hubs chan *rawSpoke
}

// withFakeHub dials a hub that answers the greeting, and runs a test with its connection.
func withFakeHub(t *testing.T, opts irohub.SpokeOptions, test func(w *fakeWorld, h *rawSpoke)) {
	checkRounds(t)
	synctest.Test(t, func(t *testing.T) {
		n := irohubtest.NewNetwork()
		w := &fakeWorld{T: t, own: n.Endpoint()}
		w.ep, w.hubs = fakeHub(t, n)
		dialled := make(chan *irohub.Spoke, 1)
		go func() {
			s, err := irohub.Dial(t.Context(), w.own, w.ep.Addr(), opts)
			if err != nil {
				t.Error(err)
			}
			dialled <- s
		}()
		h := <-w.hubs
		h.answerOne()
		w.s = <-dialled
		test(w, h)
		w.ep.Close()
		w.s.Close()
		w.own.Close()
	})
}

// request reads the next request.
func (r *rawSpoke) request() (id string, topics []string) {
	r.w.Helper()
	body, err := r.frame()
	if err != nil {
		r.w.Fatalf("read: %v", err)
	}
	var e struct {
		Type, ID string
		Payload  struct{ Topics []string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		r.w.Fatal(err)
	}
	return e.ID, e.Payload.Topics
}

func (r *rawSpoke) ack(id string) { r.send(`{"type":"__ack","id":"` + id + `"}`) }

func (r *rawSpoke) refuse(id, topic string) {
	r.send(fmt.Sprintf(`{"type":"__error","id":%q,"payload":{"code":"forbidden","topic":%q,"message":"no"}}`, id, topic))
}

// endLast ends as a hub does once the spoke has ended its stream.
func (r *rawSpoke) endLast() {
	if _, err := r.frame(); err != io.EOF {
		r.w.Errorf("read: %v, want the end of the stream", err)
	}
	r.stream.CloseWrite(r.w.Context())
	r.conn.Close(0, "")
}

// answerOne acknowledges the next request.
func (r *rawSpoke) answerOne() {
	r.w.Helper()
	id, _ := r.request()
	r.ack(id)
}

// A Spoke ignores answers without a request, second answers, and answers to requests of an
// earlier connection. An answer on one link never settles a request of another.
func TestSpoke_AnswersThatNobodyAskedForAreIgnored(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		subscribed := make(chan error, 1)
		go func() {
			_, err := w.s.Subscribe(w.Context(), "a")
			subscribed <- err
		}()
		old, _ := h.request()
		h.conn.Close(0, "")
		for i := range 20 { // each hub answers all possible requests before the Spoke sends any
			h = <-w.hubs
			for id := range 200 {
				h.ack(fmt.Sprint(id))
				if id%10 == i%10 {
					h.refuse(fmt.Sprint(id+1000), "a")
				}
			}
			h.ack(old)
			h.ack(strings.Repeat("9", 1000))
			synctest.Wait()
			h.conn.Close(0, "")
		}
		<-w.hubs
		synctest.Wait()
		select {
		case err := <-subscribed: // the Spoke has accepted an answer without a request
			if err != nil {
				t.Errorf("Subscribe: %v", err)
			}
		default:
		}
	})
}

// The hubs of an earlyEndpoint send their answers before the Spoke's requests.
type earlyEndpoint struct {
	irohub.Endpoint
	early  []byte
	opened func()
}

type earlyConn struct {
	irohub.Conn
	of *earlyEndpoint
}

type earlyStream struct {
	irohub.Stream
	early []byte
}

func (e *earlyEndpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	conn, err := e.Endpoint.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &earlyConn{conn, e}, nil
}

func (c *earlyConn) OpenStream(ctx context.Context) (irohub.Stream, error) {
	stream, err := c.Conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if c.of.opened != nil {
		c.of.opened()
	}
	return &earlyStream{stream, c.of.early}, nil
}

func (s *earlyStream) Read(ctx context.Context, p []byte) (int, error) {
	if len(s.early) > 0 {
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	}
	return s.Stream.Read(ctx, p)
}

// A hub may answer the requests of an earlier connection over a new one, before that has
// requests of its own. This has no effect.
func TestSpoke_AnswersThatComeBeforeTheGreeting(t *testing.T) {
	var early []byte
	for id := range 300 {
		body := fmt.Sprintf(`{"type":"__ack","id":"%d"}`, id)
		early = append(binary.BigEndian.AppendUint32(early, uint32(len(body))), body...)
	}
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			n := irohubtest.NewNetwork()
			ep, hubs := fakeHub(t, n)
			own := &earlyEndpoint{Endpoint: n.Endpoint()}
			dialled := make(chan *irohub.Spoke, 1)
			go func() {
				s, err := irohub.Dial(t.Context(), own, ep.Addr(), irohub.SpokeOptions{})
				if err != nil {
					t.Error(err)
				}
				dialled <- s
			}()
			h := <-hubs
			h.answerOne()
			s := <-dialled
			for i := range 3 {
				go s.Subscribe(t.Context(), fmt.Sprint("t", i))
			}
			h.conn.Close(0, "")
			h = <-hubs // answers nothing
			synctest.Wait()
			var busy sync.WaitGroup // keeps the router busy
			stop, gone := context.WithCancel(t.Context())
			gone()
			own.opened = func() {
				for range 8 {
					busy.Go(func() {
						for range 20 {
							s.Subscribe(stop, "other")
						}
					})
				}
			}
			own.early = early
			h.conn.Close(0, "")
			h = <-hubs
			busy.Wait()
			synctest.Wait()
			h.conn.Close(0, "")
			ep.Close()
			s.Close()
		})
	}
}

// A second acknowledgement of the same request has no effect.
func TestSpoke_SecondAckCountsForNothing(t *testing.T) {
	back := 0
	withFakeHub(t, irohub.SpokeOptions{OnReconnect: func() { back++ }}, func(w *fakeWorld, h *rawSpoke) {
		go func() {
			id, _ := h.request()
			h.ack(id)
		}()
		if _, err := w.s.Subscribe(w.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		go func() {
			id, _ := h.request()
			h.ack(id)
		}()
		if _, err := w.s.Subscribe(w.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		h.conn.Close(0, "")
		h = <-w.hubs
		first, _ := h.request()
		second, _ := h.request()
		third, _ := h.request()
		for range 5 {
			h.ack(first)
			h.ack(second)
		}
		synctest.Wait()
		if back != 0 {
			t.Error("the link is ready, though one topic is not acknowledged")
		}
		h.ack(third)
		synctest.Wait()
		if back != 1 {
			t.Errorf("%d times reconnected, want 1", back)
		}
	})
}

// Flush reports each loss of a connection that may have lost events. Events that are still queued
// are not lost with that connection, but may be lost with the next one.
func TestSpoke_FlushTellsOfEachLoss(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		h.conn.Close(0, "")
		synctest.Wait()
		for i := range 3 { // these events wait for the next connection
			if err := w.s.Publish(w.Context(), event("n", i)); err != nil {
				t.Fatal(err)
			}
		}
		h = <-w.hubs
		h.answerOne()
		synctest.Wait()
		h.conn.Close(0, "") // and are lost with it
		h = <-w.hubs
		flushed := make(chan error, 1)
		go func() { flushed <- w.s.Flush(w.Context()) }()
		h.answerOne()
		h.answerOne()
		if err := <-flushed; err == nil {
			t.Error("Flush returned nil, and three events were lost")
		}
		go func() { flushed <- w.s.Flush(w.Context()) }()
		h.answerOne()
		if err := <-flushed; err != nil {
			t.Errorf("a loss is told of again: %v", err)
		}
		// No event is in transit now, so none is lost.
		h.conn.Close(0, "")
		h = <-w.hubs
		h.answerOne()
		go func() { flushed <- w.s.Flush(w.Context()) }()
		h.answerOne()
		if err := <-flushed; err != nil {
			t.Errorf("a connection without events was lost, and Flush returns %v", err)
		}
	})
}

// Without a Flush, Close reports that events were lost with an earlier connection.
func TestSpoke_CloseTellsOfAnEarlierLoss(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
			if lossy {
				if err := w.s.Publish(w.Context(), event("n", 1)); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			h.conn.Close(0, "")
			h = <-w.hubs
			h.answerOne()
			synctest.Wait()
			go h.endLast()
			if err := w.s.Close(); (err != nil) != lossy {
				t.Errorf("lost=%v: Close returned %v", lossy, err)
			}
		})
	}
}

// A hub that does not answer the end of the stream does not hold up Close for ever.
func TestSpoke_CloseGivesUp(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		go h.frame() // the end of the stream, and nothing follows
		start := time.Now()
		err := w.s.Close()
		if end, ok := errors.AsType[*irohub.CloseError](err); !ok || end.Code != irohub.CodeTimeout {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

// Close gives the hub the WriteTimeout from the moment at which all was written.
func TestSpoke_CloseGivesUpBehindTheLastWrite(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		if err := w.s.Publish(w.Context(), event("n", 1)); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(3 * time.Second) // what is written is not acknowledged before
			h.frame()
			h.frame()
		}()
		start := time.Now()
		err := w.s.Close()
		if took := time.Since(start); took != 13*time.Second || !strings.Contains(fmt.Sprint(err), "did not end its stream") {
			t.Errorf("after %v, Close returned %v", took, err)
		}
	})
}

// An event that Publish accepts during Close is delivered, or Close reports that it was not.
func TestSpoke_PublishBesideCloseLosesNothing(t *testing.T) {
	for round := range 200 {
		inWorld(t, irohub.HubOptions{MaxQueue: 64 << 20}, func(w *world) {
			s, f := w.spoke(), w.feed("n")
			var accepted atomic.Int64
			var publishers sync.WaitGroup
			for range 48 {
				publishers.Go(func() {
					for s.Publish(w.Context(), event("n", 1)) == nil {
						accepted.Add(1)
					}
				})
			}
			for range round % 7 {
				time.Sleep(0)
			}
			err := s.Close()
			publishers.Wait()
			synctest.Wait()
			if n := int(accepted.Load()); err == nil && len(f.events) != n {
				t.Errorf("round %d: %d events were accepted, %d delivered", round, n, len(f.events))
			}
		})
	}
}

// A callback may call any method and take any time. The Spoke goes on.
func TestSpoke_CallbacksHoldNothingUp(t *testing.T) {
	calls := map[string]func(ctx context.Context, s *irohub.Spoke) error{
		"Subscribe": func(ctx context.Context, s *irohub.Spoke) error { _, err := s.Subscribe(ctx, "b"); return err },
		"Flush":     func(ctx context.Context, s *irohub.Spoke) error { s.Flush(ctx); return nil },
		"Publish": func(ctx context.Context, s *irohub.Spoke) error {
			for i := range 200 {
				if err := s.Publish(ctx, event("n", i)); err != nil {
					return err
				}
			}
			return nil
		},
		"Close": func(ctx context.Context, s *irohub.Spoke) error { s.Close(); return nil },
	}
	for name, call := range calls {
		for _, callback := range []string{"OnDisconnect", "OnReconnect", "OnRefused"} {
			t.Run(name+" in "+callback, func(t *testing.T) {
				inWorld(t, irohub.HubOptions{AllowPublish: func(_ irohub.NodeID, topic string) error {
					if topic == "secret" {
						return errors.New("no")
					}
					return nil
				}}, func(w *world) {
					var s *testSpoke
					returned := 0
					do := func() {
						if returned == 0 {
							// The connection is lost once more, if there is one.
							if callback != "OnDisconnect" {
								w.restart(irohub.HubOptions{})
							}
							if err := call(w.Context(), s.Spoke); err != nil {
								t.Error(err)
							}
							returned++
						}
					}
					opts := irohub.SpokeOptions{}
					switch callback {
					case "OnDisconnect":
						opts.OnDisconnect = func(error) { do() }
					case "OnReconnect":
						opts.OnReconnect = do
					case "OnRefused":
						opts.OnRefused = func(error) { do() }
					}
					var err error
					if s, err = w.dial(opts); err != nil {
						t.Fatal(err)
					}
					if callback == "OnRefused" {
						s.publish("secret", 1)
					} else {
						w.restart(irohub.HubOptions{})
					}
					time.Sleep(10 * time.Minute)
					synctest.Wait()
					if returned != 1 {
						t.Error("the callback has not returned")
					}
				})
			})
		}
	}
}

// A callback or a Logger that hangs does not block the Spoke. A Logger that hangs does not block
// the callbacks. After a callback has hung, OnDisconnect and OnReconnect still alternate, few
// calls follow, and the last one tells the current state.
func TestSpoke_HangingCallback(t *testing.T) {
	for _, where := range []string{"callback", "logger"} {
		t.Run(where, func(t *testing.T) {
			var hang chan struct{} // of the bubble
			var said []string
			log := func(what string) {
				if len(said) == 0 && where == "callback" {
					said = append(said, what)
					<-hang
					return
				}
				said = append(said, what)
			}
			opts := irohub.SpokeOptions{
				OnDisconnect: func(error) { log("lost") },
				OnReconnect:  func() { log("back") },
			}
			if where == "logger" {
				opts.Logger = slog.New(hangingHandler{slog.DiscardHandler, &hang})
			}
			withFakeHub(t, opts, func(w *fakeWorld, h *rawSpoke) {
				hang = make(chan struct{})
				for range 50 {
					h.conn.Close(0, "")
					h = <-w.hubs
					h.answerOne()
					synctest.Wait()
				}
				flushed := make(chan error, 1)
				go func() { flushed <- w.s.Flush(w.Context()) }()
				h.answerOne()
				if err := <-flushed; err != nil {
					t.Errorf("Flush: %v", err)
				}
				close(hang)
				synctest.Wait()
				if n := len(said); n%2 != 0 || where == "callback" && n > 18 || where == "logger" && n != 100 {
					t.Errorf("%d calls: %v", n, said)
				}
				for i, what := range said {
					if want := [...]string{"lost", "back"}[i%2]; what != want {
						t.Errorf("call %d is %q, want %q", i, what, want)
					}
				}
			})
		})
	}
}

type hangingHandler struct {
	slog.Handler
	hang *chan struct{}
}

func (h hangingHandler) Enabled(context.Context, slog.Level) bool  { <-*h.hang; return false }
func (h hangingHandler) Handle(context.Context, slog.Record) error { <-*h.hang; return nil }
func (h hangingHandler) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h hangingHandler) WithGroup(string) slog.Handler             { return h }

// A reconnect may take any time while the hub keeps answering.
func TestSpoke_ReconnectsThroughASlowPolicy(t *testing.T) {
	for _, each := range []time.Duration{12 * time.Millisecond, 200 * time.Millisecond, 2 * time.Second} {
		opts := irohub.HubOptions{AllowSubscribe: func(irohub.NodeID, string) error { time.Sleep(each); return nil }}
		inWorld(t, opts, func(w *world) {
			back := 0
			s, err := w.dial(irohub.SpokeOptions{OnReconnect: func() { back++ }})
			if err != nil {
				t.Fatal(err)
			}
			var topics []string
			for i := range 1000 {
				topics = append(topics, fmt.Sprintf("topic:%d", i))
			}
			f := s.feed(topics...)
			w.restart(opts)
			time.Sleep(1000*each + time.Minute)
			synctest.Wait()
			if back != 1 || w.hub.Stats().Topics != 1000 {
				t.Errorf("at %v a topic: reconnected %d times, %d topics", each, back, w.hub.Stats().Topics)
			}
			w.publish("topic:999", 1)
			f.want("1")
		})
	}
}

// A Spoke gives up a hub that stops answering, and dials again.
func TestSpoke_GivesUpAHubThatStopsAnswering(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		h.conn.Close(0, "")
		h = <-w.hubs
		synctest.Wait()
		start := time.Now()
		(&world{T: w.T}).wantCode(h.conn.Wait(w.Context()), irohub.CodeTimeout)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("given up after %v, want 10 s", d)
		}
		h = <-w.hubs
		h.answerOne()
		synctest.Wait()
		time.Sleep(time.Hour) // no request waits for an answer now
		go func() { h.answerOne() }()
		if err := w.s.Flush(w.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A Spoke asks for many topics in few requests, few of them at a time. So even a hub with a small
// queue can answer.
func TestSpoke_ManyTopicsThroughASmallQueue(t *testing.T) {
	inWorld(t, irohub.HubOptions{MaxQueue: 4 << 10, MaxFrame: 4 << 10}, func(w *world) {
		s := w.spoke()
		var subscribers sync.WaitGroup
		for i := range 200 {
			subscribers.Go(func() {
				if _, err := s.Subscribe(w.Context(), fmt.Sprintf("topic:%d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		subscribers.Wait()
		var topics []string
		for i := range 200 {
			topics = append(topics, fmt.Sprintf("%0*d", 600, i))
		}
		f := s.feed(topics...)
		if n := w.hub.Stats().Topics; n != 400 {
			t.Errorf("%d topics, want 400", n)
		}
		f.sub.Close()
		synctest.Wait()
		if n := w.hub.Stats(); n.Topics != 200 || n.Refused != 0 || n.CutOff != 0 {
			t.Errorf("%+v, want 200 topics", n)
		}
	})
}

// At most four requests wait for an answer. Each has up to 64 topics. A refusal that names a
// topic of the request is for that topic only. Any other refusal is for the whole request.
func TestSpoke_RequestsArePutTogether(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		failed := make(map[string]bool)
		var mu sync.Mutex
		var subscribers sync.WaitGroup
		subscribers.Go(func() {
			if _, err := w.s.Subscribe(w.Context(), "first"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		id, _ := h.request()
		h.ack(id)
		subscribers.Wait()
		for i := range 300 {
			subscribers.Go(func() {
				topic := fmt.Sprintf("t:%d", i)
				if _, err := w.s.Subscribe(w.Context(), topic); err != nil {
					mu.Lock()
					failed[topic] = true
					mu.Unlock()
					if !errors.Is(err, irohub.ErrForbidden) {
						t.Errorf("%s: %v", topic, err)
					}
				}
			})
		}
		synctest.Wait()
		bad := map[string]bool{"t:7": true, "t:250": true}
		want, largest, requests := map[string]bool{"t:7": true, "t:250": true}, 0, 0
		type question struct {
			id     string
			topics []string
		}
		var waiting []question
		done := make(chan struct{})
		go func() { subscribers.Wait(); close(done) }()
		frames := make(chan question)
		go func() {
			defer close(frames)
			for {
				body, err := h.frame()
				if err != nil {
					return
				}
				var e struct {
					Type, ID string
					Payload  struct{ Topics []string }
				}
				json.Unmarshal([]byte(body), &e)
				if e.Type == "__subscribe" {
					frames <- question{e.ID, e.Payload.Topics}
				}
			}
		}()
		wholly := false
		for ended := false; !ended; {
			synctest.Wait()
			for more := true; more; {
				select {
				case q := <-frames:
					waiting = append(waiting, q)
					largest, requests = max(largest, len(q.topics)), requests+1
					synctest.Wait()
				default:
					more = false
				}
			}
			if len(waiting) > 4 {
				t.Errorf("%d requests wait for an answer", len(waiting))
			}
			if len(waiting) == 0 {
				select {
				case <-done:
					ended = true
				default:
					t.Fatal("no request, and no end")
				}
				continue
			}
			q := waiting[0]
			waiting = waiting[1:]
			refused := ""
			for _, topic := range q.topics {
				if bad[topic] {
					refused = topic
				}
			}
			switch {
			case refused != "":
				h.refuse(q.id, refused)
			case !wholly && len(q.topics) >= 8:
				wholly = true
				for _, topic := range q.topics {
					want[topic] = true
				}
				h.refuse(q.id, "none of these")
			default:
				h.ack(q.id)
			}
		}
		if largest < 8 || largest > 64 || requests > 40 || !wholly {
			t.Errorf("%d requests, the largest of %d topics", requests, largest)
		}
		if fmt.Sprint(failed) != fmt.Sprint(want) {
			t.Errorf("refused were %v, want %v", failed, want)
		}
		h.conn.Close(0, "")
		for range frames {
		}
	})
}

// A Spoke whose endpoint was closed ends.
func TestSpoke_EndsWithItsEndpoint(t *testing.T) {
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		ep := w.network.Endpoint()
		s, err := irohub.Dial(w.Context(), ep, w.endpoint.Addr(), irohub.SpokeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f := w.collect(s.Subscribe(w.Context(), "a"))
		ep.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if !f.ended || !errors.Is(f.sub.Err(), net.ErrClosed) {
			t.Errorf("an hour later: ended=%v, %v", f.ended, f.sub.Err())
		}
		err = s.Publish(w.Context(), event("a", 1))
		if err == nil || !strings.Contains(err.Error(), "endpoint of the spoke is closed") {
			t.Errorf("Publish: %v", err)
		}
		if s.Close() == nil {
			t.Error("Close returns nil")
		}
	})
}

// A Spoke takes a hub's answers with any MaxFrame, and any value of MaxFrame is allowed.
func TestSpoke_MaxFrameOfAnySize(t *testing.T) {
	for _, size := range []int{1, 4095, math.MaxInt32, math.MaxInt} {
		withFakeHub(t, irohub.SpokeOptions{MaxFrame: size}, func(w *fakeWorld, h *rawSpoke) {
			answered := make(chan error, 1)
			go func() {
				_, err := w.s.Subscribe(w.Context(), "a")
				answered <- err
			}()
			id, _ := h.request()
			frame := fmt.Sprintf(`{"type":"__error","id":%q,"payload":{"code":"forbidden","topic":"a","message":""}}`, id)
			h.send(strings.Replace(frame, `"message":"`, `"message":"`+strings.Repeat("x", 4096-len(frame)), 1))
			if err := <-answered; !errors.Is(err, irohub.ErrForbidden) {
				t.Errorf("MaxFrame %d: %v", size, err)
			}
			if err := w.s.Publish(w.Context(), event("a", 1)); err != nil {
				t.Errorf("MaxFrame %d: %v", size, err)
			}
		})
	}
}

// A Spoke keeps a bounded, printable part of the hub's text about a refusal.
func TestSpoke_RefusalsAreBoundedAndPrintable(t *testing.T) {
	withFakeHub(t, irohub.SpokeOptions{}, func(w *fakeWorld, h *rawSpoke) {
		answered := make(chan error, 1)
		go func() {
			_, err := w.s.Subscribe(w.Context(), "a")
			answered <- err
		}()
		id, _ := h.request()
		words, _ := json.Marshal("\x1b[2J\u202e\u009b\n" + strings.Repeat("ж", 100_000))
		h.send(`{"type":"__error","id":"` + id + `","payload":{"code":"forbidden","topic":"` + strings.Repeat("t", 100_000) + `","message":` + string(words) + `}}`)
		err := <-answered
		if text := err.Error(); len(text) > 3000 || strings.ContainsAny(text, "\x1b\u202e\u009b\n") {
			t.Errorf("%d bytes: %.80q", len(text), text)
		}
	})
}

// A hub sends masses of refusals, and the application's OnRefused hangs.
func TestSpoke_MassesOfRefusals(t *testing.T) {
	var hang chan struct{} // of the bubble
	heard := 0
	opts := irohub.SpokeOptions{OnRefused: func(error) { heard++; <-hang }}
	withFakeHub(t, opts, func(w *fakeWorld, h *rawSpoke) {
		hang = make(chan struct{})
		for range 10_000 {
			h.send(`{"type":"__error","payload":{"code":"forbidden","topic":"a","message":"no"}}`)
		}
		synctest.Wait()
		close(hang)
		synctest.Wait()
		if heard == 0 || heard > 17 {
			t.Errorf("%d refusals were told of, want the one at first and the last 16", heard)
		}
	})
}

// A Spoke logs the changes of its connection.
func TestSpoke_LogsItsConnection(t *testing.T) {
	log := &handler{}
	withFakeHub(t, irohub.SpokeOptions{Logger: slog.New(log)}, func(w *fakeWorld, h *rawSpoke) {
		lines := func(begins ...string) {
			t.Helper()
			for _, line := range (&world{T: w.T}).wantLines(log, begins...) {
				if !strings.Contains(line, "hub="+w.ep.ID().String()) {
					t.Errorf("%q does not name the hub", line)
				}
			}
		}
		lines()
		h.send(`{"type":"__error","payload":{"code":"forbidden","topic":"a","message":"no"}}`)
		lines("WARN event refused")
		h.conn.Close(irohub.CodeShutdown, "")
		h = <-w.hubs
		h.answerOne()
		lines("INFO disconnected", "INFO reconnected")
		h.conn.Close(irohub.CodeShutdown, "")
		h = <-w.hubs
		h.conn.Close(irohub.CodeForbidden, "")
		lines("INFO disconnected", "DEBUG dialing failed")
	})
}

// The connections of a deafEndpoint have no streams. It notes the codes that they are closed with.
type deafEndpoint struct {
	irohub.Endpoint
	closed *journal[uint64]
}

type deafConn struct {
	irohub.Conn
	closed *journal[uint64]
}

func (e deafEndpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	conn, err := e.Endpoint.Dial(ctx, addr)
	return deafConn{conn, e.closed}, err
}

var errNoStream = errors.New("no stream")

func (deafConn) OpenStream(context.Context) (irohub.Stream, error) { return nil, errNoStream }

func (c deafConn) Close(code uint64, reason string) {
	c.closed.add(code)
	c.Conn.Close(code, reason)
}

// A Spoke closes a connection that gets no stream, with code 0.
func TestSpoke_ClosesAConnectionWithoutAStream(t *testing.T) {
	var closed journal[uint64]
	inWorld(t, irohub.HubOptions{}, func(w *world) {
		if _, err := irohub.Dial(w.Context(), deafEndpoint{w.network.Endpoint(), &closed}, w.endpoint.Addr(), irohub.SpokeOptions{}); !errors.Is(err, errNoStream) {
			t.Errorf("Dial: %v", err)
		}
		synctest.Wait()
		if n := w.hub.Stats().Pending; n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if codes := closed.take(); len(codes) != 1 || codes[0] != 0 {
			t.Errorf("it is closed with the codes %v, want 0", codes)
		}
	})
}
