package transporttest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
)

// A hubEnv is a hub that is served until the test ends.
type hubEnv struct {
	*env
	endpoint irohub.Endpoint
	hub      *irohub.Hub
	served   chan error
}

func (e *env) serve(opts irohub.HubOptions) *hubEnv {
	e.Helper()
	h := &hubEnv{env: e, endpoint: e.endpoint(0)}
	h.start(opts)
	e.Cleanup(h.stop)
	return h
}

func (h *hubEnv) start(opts irohub.HubOptions) {
	hub, err := irohub.NewHub(opts, h.endpoint)
	if err != nil {
		h.Fatal(err)
	}
	served := make(chan error, 1)
	h.hub, h.served = hub, served
	go func() { served <- hub.Serve(h.ctx) }()
}

func (h *hubEnv) stop() {
	h.hub.Close()
	if err := <-h.served; !errors.Is(err, irohub.ErrHubClosed) {
		h.Errorf("Serve: %v", err)
	}
}

// dial connects a spoke. Unless the test observes reconnections, the spoke does not reconnect:
// a gap in its events would make the test wait for ever.
func (h *hubEnv) dial(key Key, opts irohub.SpokeOptions) (*irohub.Spoke, irohub.Endpoint) {
	h.Helper()
	opts.NoReconnect = opts.OnReconnect == nil
	ep := h.env.endpoint(key)
	s, err := irohub.Dial(h.ctx, ep, h.endpoint.Addr(), opts)
	h.must(err)
	h.Cleanup(func() { s.Close() })
	return s, ep
}

func (h *hubEnv) publish(ev irohub.Event) {
	h.Helper()
	h.must(h.hub.Publish(h.ctx, ev))
}

// numbered returns the n-th event of a topic.
func numbered(topic string, n int) irohub.Event {
	return irohub.Event{Type: topic, Payload: json.RawMessage(fmt.Sprint(n))}
}

// wantNumbered reads the events 0 to n-1.
func (e *env) wantNumbered(sub *irohub.Subscription, n int) {
	e.Helper()
	defer context.AfterFunc(e.ctx, sub.Close)()
	want := 0
	for ev := range sub.Events() {
		if string(ev.Payload) != fmt.Sprint(want) {
			e.Errorf("event %s, want %d", ev.Payload, want)
			return
		}
		if want++; want == n {
			return
		}
	}
	e.Errorf("ended after %d of %d events: %v", want, n, sub.Err())
}

// eventually waits until a condition is true.
func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	for !ok() {
		if e.ctx.Err() != nil {
			e.Fatalf("never came true: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func testFanOut(e *env) {
	const spokes, events = 8, 500
	h := e.serve(irohub.HubOptions{MaxQueue: 64 << 20})
	var wg sync.WaitGroup
	for i := range spokes {
		s, ep := h.dial(0, irohub.SpokeOptions{})
		topics := []string{"n:*"}
		if i%2 == 0 {
			topics = []string{"n", "n:x", "n:*"} // overlapping topics: each event still arrives once
		}
		sub, err := s.Subscribe(h.ctx, topics...)
		h.must(err)
		own, err := s.Subscribe(h.ctx, "direct:"+ep.ID().String())
		h.must(err)
		if _, err := s.Subscribe(h.ctx, "direct:"+h.endpoint.ID().String()); !errors.Is(err, irohub.ErrForbidden) {
			e.Errorf("another's mailbox: %v", err)
		}
		wg.Go(func() { e.wantNumbered(sub, events) })
		wg.Go(func() { e.wantNumbered(own, 1) })
		h.publish(irohub.Event{Type: "direct", ID: ep.ID().String(), Payload: []byte("0")})
	}
	for i := range events {
		ev := numbered("n", i)
		if i%2 == 1 {
			ev.ID = "x"
		}
		h.publish(ev)
		h.publish(numbered("other", i))
	}
	wg.Wait()
}

func testForward(e *env) {
	const events = 500
	h := e.serve(irohub.HubOptions{MaxQueue: 64 << 20, Forward: func(irohub.NodeID, string) bool { return true }})
	local, err := h.hub.Subscribe(h.ctx)
	h.must(err)
	a, epA := h.dial(0, irohub.SpokeOptions{})
	b, _ := h.dial(0, irohub.SpokeOptions{})
	subA, err := a.Subscribe(h.ctx, "n")
	h.must(err)
	subB, err := b.Subscribe(h.ctx, "n")
	h.must(err)
	go func() {
		for i := range events {
			if err := a.Publish(e.ctx, numbered("n", i)); err != nil {
				e.Error(err)
			}
		}
	}()
	for _, sub := range []*irohub.Subscription{local, subB} {
		n := 0
		for ev := range sub.Events() {
			if string(ev.Payload) != fmt.Sprint(n) || ev.From != epA.ID() {
				e.Fatalf("event %s from %s, want %d from %s", ev.Payload, ev.From, n, epA.ID())
			}
			if n++; n == events {
				break
			}
		}
	}
	// A spoke does not receive its own events: the first one is from the hub.
	h.publish(numbered("n", 0))
	e.wantNumbered(subA, 1)
}

// A rawSpoke speaks the protocol directly, and reads only when told to.
type rawSpoke struct {
	*hubEnv
	conn   irohub.Conn
	stream irohub.Stream
	id     irohub.NodeID
}

func (h *hubEnv) raw(topic string) *rawSpoke {
	h.Helper()
	ep := h.env.endpoint(0)
	conn, err := ep.Dial(h.ctx, h.endpoint.Addr())
	h.must(err)
	h.Cleanup(func() { conn.Close(0, "") })
	return h.rawOn(conn, ep.ID(), topic)
}

func (h *hubEnv) rawOn(conn irohub.Conn, id irohub.NodeID, topic string) *rawSpoke {
	h.Helper()
	stream, err := conn.OpenStream(h.ctx)
	h.must(err)
	r := &rawSpoke{h, conn, stream, id}
	r.send(`{"type":"__subscribe","id":"1","payload":{"topic":"` + topic + `"}}`)
	r.want(`{"type":"__ack","id":"1"}`)
	return r
}

func (r *rawSpoke) send(body string) {
	r.Helper()
	r.write(r.stream, append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
}

func (r *rawSpoke) want(body string) {
	r.Helper()
	if got := string(r.read(r.stream, 4+len(body))[4:]); got != body {
		r.Fatalf("frame %s, want %s", got, body)
	}
}

// wantClosed reads to the end, which must be a close with this code.
func (r *rawSpoke) wantClosed(code uint64) {
	r.Helper()
	for {
		if _, err := r.stream.Read(r.ctx, make([]byte, 64<<10)); err != nil {
			r.wantCode(err, code)
			return
		}
	}
}

func testFrozen(e *env) {
	const limit, good = 1 << 20, 4
	cut := make(chan irohub.SpokeInfo, 100)
	h := e.serve(irohub.HubOptions{
		MaxQueue:       limit,
		WriteTimeout:   time.Hour, // so that only the queue limit cuts a spoke off
		OnBackpressure: func(info irohub.SpokeInfo) { cut <- info },
	})
	frozen := h.raw("n:*")
	// The publisher stays at most half a limit ahead of the good spokes, so they are never too
	// slow. It continues until the frozen one is gone.
	var subs []*irohub.Subscription
	for range good {
		s, _ := h.dial(0, irohub.SpokeOptions{MaxQueue: 64 << 20})
		sub, err := s.Subscribe(h.ctx, "n:*")
		h.must(err)
		subs = append(subs, sub)
	}
	const size, window = 8000, limit / 2 / 8000
	var credits []chan struct{} // one for each spoke, so that each keeps up
	var wg sync.WaitGroup
	for _, sub := range subs {
		credit := make(chan struct{}, window)
		credits = append(credits, credit)
		wg.Go(func() {
			n := 0
			for ev := range sub.Events() {
				if ev.ID == "last" {
					return
				}
				if want := fmt.Sprint(n); ev.ID != want {
					e.Errorf("event %s, want %s", ev.ID, want)
					return
				}
				n++
				credit <- struct{}{}
			}
			e.Errorf("a spoke that reads has ended: %v", sub.Err())
		})
	}
	payload := []byte(`"` + strings.Repeat("x", size) + `"`)
	n := 0
	publish := func(id string) {
		h.publish(irohub.Event{Type: "n", ID: id, Payload: payload})
	}
	var info irohub.SpokeInfo
	for gone := false; !gone; n++ {
		if n >= window {
			for _, credit := range credits {
				select {
				case <-credit:
				case <-e.ctx.Done():
					e.Fatal("a spoke that reads gets nothing")
				}
			}
		}
		publish(fmt.Sprint(n))
		select {
		case info = <-cut:
			gone = true
		default:
		}
	}
	publish("last")
	wg.Wait()
	if info.ID != frozen.id || info.WaitingBytes > limit || info.WaitingEvents == 0 {
		e.Errorf("cut off: %+v, want the frozen spoke", info)
	}
	frozen.wantClosed(irohub.CodeSlow)
	if n := len(h.hub.Spokes()); n != good {
		e.Errorf("%d spokes, want %d", n, good)
	}
}

func testWriteTimeout(e *env) {
	gone := make(chan error, 1)
	h := e.serve(irohub.HubOptions{
		MaxQueue:     64 << 20,
		WriteTimeout: 500 * time.Millisecond,
		OnDisconnect: func(_ irohub.SpokeInfo, err error) { gone <- err },
	})
	frozen := h.raw("n")
	payload := []byte(`"` + strings.Repeat("x", 500_000) + `"`)
	for range 100 { // more than any transport buffers
		h.publish(irohub.Event{Type: "n", Payload: payload})
	}
	e.wantCode(<-gone, irohub.CodeTimeout)
	frozen.wantClosed(irohub.CodeTimeout)
}

func testAdmit(e *env) {
	friend := e.endpoint(0)
	h := e.serve(irohub.HubOptions{Admit: func(_ context.Context, id irohub.NodeID) error {
		if id != friend.ID() {
			return errors.New("unknown node")
		}
		return nil
	}})
	for range 5 {
		_, err := irohub.Dial(h.ctx, e.endpoint(0), h.endpoint.Addr(), irohub.SpokeOptions{})
		if end := e.wantCode(err, irohub.CodeForbidden); end.Reason != "unknown node" {
			e.Errorf("reason %q", end.Reason)
		}
	}
	s, err := irohub.Dial(h.ctx, friend, h.endpoint.Addr(), irohub.SpokeOptions{})
	e.must(err)
	e.must(s.Close())
	h.eventually("the hub is empty", func() bool {
		stats := h.hub.Stats()
		return stats.Spokes == 0 && stats.Pending == 0 && stats.Topics == 0
	})
}

func testSilent(e *env) {
	h := e.serve(irohub.HubOptions{HandshakeTimeout: time.Hour})
	// All spokes share an endpoint, which keeps the test small. Each has its own connection.
	ep := e.endpoint(0)
	for range 100 {
		conn, err := ep.Dial(h.ctx, h.endpoint.Addr())
		h.must(err)
		e.Cleanup(func() { conn.Close(0, "") })
	}
	h.eventually("100 are pending", func() bool { return h.hub.Stats().Pending == 100 })
	s, _ := h.dial(0, irohub.SpokeOptions{})
	sub, err := s.Subscribe(h.ctx, "n")
	h.must(err)
	h.publish(numbered("n", 0))
	e.wantNumbered(sub, 1)
}

func testReplaced(e *env) {
	h := e.serve(irohub.HubOptions{MaxSpokesPerNode: 1})
	back := make(chan struct{}, 10)
	old, _ := h.dial(1, irohub.SpokeOptions{MinBackoff: time.Millisecond, OnReconnect: func() { back <- struct{}{} }})
	subOld, err := old.Subscribe(h.ctx, "n")
	h.must(err)
	newer, _ := h.dial(1, irohub.SpokeOptions{MinBackoff: time.Millisecond, OnReconnect: func() { back <- struct{}{} }})
	sub, err := newer.Subscribe(h.ctx, "n")
	h.must(err)
	stop := context.AfterFunc(e.ctx, subOld.Close)
	for range subOld.Events() {
	}
	stop()
	e.wantCode(subOld.Err(), irohub.CodeTooMany)
	e.wantCode(old.Publish(h.ctx, numbered("n", 0)), irohub.CodeTooMany)
	h.publish(numbered("n", 0))
	e.wantNumbered(sub, 1)
	select {
	case <-back:
		e.Error("a spoke that was replaced came back")
	default:
	}
}

func testStreams(e *env) {
	if e.oneStream() {
		e.Skip("this transport has only one stream per connection, by design")
	}
	h := e.serve(irohub.HubOptions{MaxQueue: 1 << 20, WriteTimeout: time.Hour})
	slow := h.raw("slow")
	bad := h.rawOn(slow.conn, slow.id, "n")
	good := h.rawOn(slow.conn, slow.id, "n")
	bad.send("nonsense")
	bad.wantClosed(irohub.CodeProtocol)
	// The slow spoke's writer is blocked in the transport when it is cut off.
	payload := []byte(`"` + strings.Repeat("x", 100_000) + `"`)
	for h.hub.Stats().CutOff == 0 {
		h.publish(irohub.Event{Type: "slow", Payload: payload})
	}
	slow.wantClosed(irohub.CodeSlow)
	h.publish(numbered("n", 1))
	good.want(`{"type":"n","payload":1}`)
}

// oneStream reports whether a transport's connections refuse a second stream.
func (e *env) oneStream() bool {
	dialled, accepted := e.pair()
	e.stream(dialled, accepted)
	_, err := dialled.OpenStream(e.ctx)
	return errors.Is(err, errors.ErrUnsupported)
}

func testShutdown(e *env) {
	const spokes, events = 8, 1000
	h := e.serve(irohub.HubOptions{MaxQueue: 64 << 20})
	var wg sync.WaitGroup
	for range spokes {
		s, _ := h.dial(0, irohub.SpokeOptions{MaxQueue: 64 << 20})
		sub, err := s.Subscribe(h.ctx, "n")
		h.must(err)
		wg.Go(func() {
			e.wantNumbered(sub, events)
			for range sub.Events() {
				e.Error("an event too many")
			}
			var end *irohub.CloseError
			if err := sub.Err(); !errors.As(err, &end) || end.Code != irohub.CodeShutdown {
				e.Errorf("ended with %v, want code 1", err)
			}
		})
	}
	for i := range events {
		h.publish(numbered("n", i))
	}
	e.must(h.hub.Shutdown(h.ctx))
	wg.Wait()
}

// Close waits until the hub has processed all events, and not only for the transport: a hub
// whose policy is slow has not read them yet.
func testSpokeCloseWaits(e *env) {
	var asked atomic.Int32
	blocked, release := make(chan struct{}), make(chan struct{})
	h := e.serve(irohub.HubOptions{AllowPublish: func(irohub.NodeID, string) error {
		if asked.Add(1) == 1 {
			close(blocked)
			<-release
		}
		return nil
	}})
	s, _ := h.dial(0, irohub.SpokeOptions{})
	for i := range 3 {
		e.must(s.Publish(e.ctx, numbered("n", i)))
	}
	<-blocked
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		e.Errorf("Close returned %v before the hub had processed the events", err)
		close(release)
		return
	case <-time.After(300 * time.Millisecond): // enough for Close to return too early
	}
	close(release)
	e.must(<-closed)
	if n := asked.Load(); n != 3 {
		e.Errorf("the hub has processed %d events, want 3", n)
	}
}

func testSpokeClose(e *env) {
	const events = 3000
	h := e.serve(irohub.HubOptions{MaxQueue: 64 << 20})
	local, err := h.hub.Subscribe(h.ctx, "n")
	h.must(err)
	s, _ := h.dial(0, irohub.SpokeOptions{})
	for i := range events {
		e.must(s.Publish(h.ctx, numbered("n", i)))
	}
	e.must(s.Close())
	e.wantNumbered(local, events)
	h.eventually("the spoke is gone", func() bool { return h.hub.Stats().Spokes == 0 })
}

func testReconnect(e *env) {
	h := e.serve(irohub.HubOptions{})
	back := make(chan struct{}, 1)
	s, _ := h.dial(0, irohub.SpokeOptions{MinBackoff: time.Millisecond, OnReconnect: func() { back <- struct{}{} }})
	sub, err := s.Subscribe(h.ctx, "n")
	h.must(err)
	for range 3 {
		h.publish(numbered("n", 0))
		e.wantNumbered(sub, 1)
		h.stop()
		h.start(irohub.HubOptions{})
		select {
		case <-back:
		case <-e.ctx.Done():
			e.Fatal("the spoke has not come back")
		}
	}
	h.publish(numbered("n", 0))
	e.wantNumbered(sub, 1)
}

func testSizes(e *env) {
	h := e.serve(irohub.HubOptions{MaxQueue: 64 << 20})
	s, _ := h.dial(0, irohub.SpokeOptions{MaxQueue: 64 << 20})
	sub, err := s.Subscribe(h.ctx, "up:*", "down:*")
	h.must(err)
	local, err := h.hub.Subscribe(h.ctx)
	h.must(err)
	const limit = 1<<20 - 200
	sizes := []int{0, 1, 100, 4096, 65_535, 65_536, 65_537, 1 << 19, limit}
	check := func(sub *irohub.Subscription) {
		e.Helper()
		i := 0
		for ev := range sub.Events() {
			if want := sizes[i%len(sizes)] + 2; len(ev.Payload) != want || ev.ID != fmt.Sprint(i) {
				e.Errorf("event %s with %d bytes, want %d with %d", ev.ID, len(ev.Payload), i, want)
			}
			if i++; i == 3*len(sizes) {
				return
			}
		}
		e.Errorf("ended after %d: %v", i, sub.Err())
	}
	for i := range 3 * len(sizes) {
		payload := []byte(`"` + strings.Repeat("x", sizes[i%len(sizes)]) + `"`)
		h.publish(irohub.Event{Type: "down", ID: fmt.Sprint(i), Payload: payload})
		e.must(s.Publish(h.ctx, irohub.Event{Type: "up", ID: fmt.Sprint(i), Payload: payload}))
	}
	check(sub)
	check(local)
}

func testConnects(e *env) {
	h := e.serve(irohub.HubOptions{})
	ep := e.endpoint(0)
	for range 50 {
		s, err := irohub.Dial(h.ctx, ep, h.endpoint.Addr(), irohub.SpokeOptions{})
		e.must(err)
		_, err = s.Subscribe(h.ctx, "n")
		e.must(err)
		e.must(s.Close())
	}
	h.eventually("the hub is empty", func() bool {
		stats := h.hub.Stats()
		return stats.Spokes == 0 && stats.Pending == 0 && stats.Topics == 0
	})
}
