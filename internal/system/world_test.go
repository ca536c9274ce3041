package system_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"irohub"
	"irohub/internal/assert"
	"irohub/irohubtest"
)

// A world is a hub in memory, in a synctest bubble of its own. When the test function returns,
// synctest waits for every goroutine of the bubble, so that each test also finds leaks.
type world struct {
	*testing.T
	network  *irohubtest.Network
	endpoint *irohubtest.Endpoint
	hub      *irohub.Hub
	served   chan error
	spokes   []*irohub.Spoke // closed at the end
}

// checkRounds checks the invariants of every router in the test at the end of each round.
func checkRounds(t *testing.T) {
	assert.Round = func(check func() error) {
		if err := check(); err != nil {
			panic(err)
		}
	}
	t.Cleanup(func() { assert.Round = nil }) // the bubble and all routers have ended by then
}

// newHub makes a hub from valid endpoints.
func newHub(t testing.TB, opts irohub.HubOptions, endpoints ...irohub.Endpoint) *irohub.Hub {
	t.Helper()
	hub, err := irohub.NewHub(opts, endpoints...)
	if err != nil {
		t.Fatal(err)
	}
	return hub
}

// inWorld runs a test in a bubble with a hub, which it closes at the end.
func inWorld(t *testing.T, opts irohub.HubOptions, test func(w *world)) {
	checkRounds(t)
	synctest.Test(t, func(t *testing.T) {
		network := irohubtest.NewNetwork()
		w := &world{T: t, network: network, endpoint: network.Endpoint(), served: make(chan error, 1)}
		w.hub = newHub(t, opts, w.endpoint)
		go func() { w.served <- w.hub.Serve(t.Context()) }()
		synctest.Wait()
		test(w)
		w.check()
		for _, s := range w.spokes {
			s.Close()
		}
		w.hub.Close()
		if err := <-w.served; !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Serve returned %v, want ErrHubClosed", err)
		}
		w.endpoint.Close()
	})
}

// A journal collects notes of callbacks from several goroutines.
type journal[T any] struct {
	mu    sync.Mutex
	notes []T
}

func (j *journal[T]) add(note T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = append(j.notes, note)
}

func (j *journal[T]) take() []T {
	j.mu.Lock()
	defer j.mu.Unlock()
	notes := j.notes
	j.notes = nil
	return notes
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
	w.spokes = append(w.spokes, s)
	return &testSpoke{s, w, ep.ID()}, nil
}

// spoke dials with the default options.
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
	f.w.check()
	for i, ev := range f.events {
		if i == len(payloads) || string(ev.Payload) != payloads[i] {
			f.w.Errorf("event %d of %d is %.50q, want %.50q of %d", i, len(f.events), ev.Payload, append(payloads, "none")[i], len(payloads))
			break
		}
	}
	if len(f.events) < len(payloads) {
		f.w.Errorf("got %d events, want %d; the first that is missing is %.50q", len(f.events), len(payloads), payloads[len(f.events)])
	}
	f.events = nil
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

// check compares the router's tables with each other.
func (w *world) check() {
	w.Helper()
	synctest.Wait()
	ofTopics, ofSpokes := 0, 0
	for topic, n := range w.hub.Topics() {
		if n == 0 {
			w.Errorf("topic %q is kept for nobody", topic)
		}
		ofTopics += n
	}
	spokes := w.hub.Spokes()
	for _, s := range spokes {
		ofSpokes += s.Subscriptions
	}
	stats := w.hub.Stats()
	if stats.Listeners == 0 && ofTopics != ofSpokes {
		w.Errorf("topics have %d subscribers, spokes %d subscriptions", ofTopics, ofSpokes)
	}
	if stats.Spokes != len(spokes) || stats.Spokes == 0 && stats.Listeners == 0 && stats.Topics != 0 {
		w.Errorf("stats %+v do not fit %d spokes", stats, len(spokes))
	}
}

// A rawSpoke speaks the protocol by hand.
type rawSpoke struct {
	w      *world
	conn   irohub.Conn
	stream irohub.Stream
	id     irohub.NodeID
	buf    []byte
}

func (w *world) rawConn(ep *irohubtest.Endpoint) irohub.Conn {
	w.Helper()
	conn, err := ep.Dial(w.Context(), w.endpoint.Addr())
	if err != nil {
		w.Fatalf("dial: %v", err)
	}
	return conn
}

func (w *world) raw() *rawSpoke { return w.rawOf(w.network.Endpoint()) }

func (w *world) rawOf(ep *irohubtest.Endpoint) *rawSpoke {
	w.Helper()
	return w.rawOn(w.rawConn(ep), ep.ID())
}

func (w *world) rawOn(conn irohub.Conn, id irohub.NodeID) *rawSpoke {
	w.Helper()
	stream, err := conn.OpenStream(w.Context())
	if err != nil {
		w.Fatalf("open: %v", err)
	}
	return &rawSpoke{w: w, conn: conn, stream: stream, id: id}
}

// greet makes the stream a spoke.
func (r *rawSpoke) greet() {
	r.w.Helper()
	r.send(`{"type":"__subscribe","id":"0","payload":{"topics":[]}}`)
	r.want(`{"type":"__ack","id":"0"}`)
}

// send writes one frame.
func (r *rawSpoke) send(body string) {
	r.w.Helper()
	r.write(binary.BigEndian.AppendUint32(nil, uint32(len(body))))
	r.write([]byte(body))
}

func (r *rawSpoke) write(p []byte) {
	r.w.Helper()
	if _, err := r.stream.Write(r.w.Context(), p); err != nil {
		r.w.Fatalf("write: %v", err)
	}
}

// frame reads one frame, or returns why there is none.
func (r *rawSpoke) frame() (string, error) {
	for {
		if len(r.buf) >= 4 {
			if n := 4 + int(binary.BigEndian.Uint32(r.buf)); len(r.buf) >= n {
				body := string(r.buf[4:n])
				r.buf = r.buf[n:]
				return body, nil
			}
		}
		p := make([]byte, 4096)
		n, err := r.stream.Read(r.w.Context(), p)
		if err != nil {
			return "", err
		}
		r.buf = append(r.buf, p[:n]...)
	}
}

// want reads frames and compares them.
func (r *rawSpoke) want(bodies ...string) {
	r.w.Helper()
	for _, body := range bodies {
		got, err := r.frame()
		if err != nil {
			r.w.Fatalf("read: %v, want %s", err, body)
		}
		if got != body {
			r.w.Errorf("frame %s, want %s", got, body)
		}
	}
}

// wantClosed reads until the end, which must be a close with this code.
func (r *rawSpoke) wantClosed(code uint64) {
	r.w.Helper()
	for {
		if _, err := r.frame(); err != nil {
			r.w.wantCode(err, code)
			return
		}
	}
}

// wantCode checks that err is a close with this code.
func (w *world) wantCode(err error, code uint64) {
	w.Helper()
	var end *irohub.CloseError
	if !errors.As(err, &end) || end.Code != code {
		w.Errorf("ended with %v, want code %d", err, code)
	}
}

// dialFails dials and checks the code with which the hub turns the spoke away.
func (w *world) dialFails(code uint64) {
	w.Helper()
	s, err := w.dial(irohub.SpokeOptions{})
	if err == nil {
		s.Close()
		w.Errorf("the hub took a spoke in, want code %d", code)
		return
	}
	w.wantCode(err, code)
}

func newEndpoint() *irohubtest.Endpoint { return irohubtest.NewNetwork().Endpoint() }
