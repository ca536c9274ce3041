// Package siege tests a hub under attack and under load over the real transports: floods,
// frozen readers, stalled handshakes, malformed frames, racing callers. Tests that need no
// network are in the root package, in memory. The tests are not in _test.go files, so that the
// module of another transport can run them.
//
// The flag -siege sets how long a flood or a churn lasts. No assertion of a test depends on a
// clock. Benchmarks measure how fair the hub is to well-behaved spokes, as that is a matter of
// time:
//
//	go test -run '^$' -bench . -benchtime 5x ./internal/siege
package siege

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/key"
)

var duration = flag.Duration("siege", time.Second, "how long a flood or a churn lasts")

// Main is the TestMain of a package that runs these tests. A child process is the same test
// binary.
func Main(m *testing.M) {
	flag.Parse()
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

type endpoint = irohub.Endpoint

// bind opens an endpoint for a new node.
func bind(ctx context.Context, transport string) (endpoint, error) {
	return transports.Bind(ctx, transport, key.Secret{}, transports.Loopback)
}

// A siege is a hub on a transport and its attackers.
type siege struct {
	testing.TB
	ctx       context.Context
	transport string
	endpoint  endpoint
	hub       *irohub.Hub
	served    chan error
}

// overEach runs a test over each transport, and checks that nothing is left running.
func overEach(t *testing.T, test func(s *siege)) {
	transports.Each(t, func(t *testing.T, transport string) { test(newSiege(t, transport)) })
}

func newSiege(t testing.TB, transport string) *siege {
	// Ends a test that hangs; no test depends on its length.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+20**duration)
	t.Cleanup(cancel)
	s := &siege{TB: t, ctx: ctx, transport: transport}
	s.wantNoGoroutines()
	return s
}

// wantNoGoroutines fails the test if more goroutines run after its cleanups than now.
func (s *siege) wantNoGoroutines() {
	before := runtime.NumGoroutine()
	s.Cleanup(func() {
		for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				s.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
}

// serve starts the hub, which is closed when the test ends.
func (s *siege) serve(opts irohub.HubOptions) {
	s.Helper()
	s.endpoint = s.bind()
	var err error
	if s.hub, err = irohub.NewHub(opts, s.endpoint); err != nil {
		s.Fatal(err)
	}
	s.served = make(chan error, 1)
	go func() { s.served <- s.hub.Serve(s.ctx) }()
	s.Cleanup(func() {
		s.hub.Close()
		if err := <-s.served; !errors.Is(err, irohub.ErrHubClosed) {
			s.Errorf("Serve: %v", err)
		}
	})
}

func (s *siege) bind() endpoint {
	s.Helper()
	ep, err := bind(s.ctx, s.transport)
	s.must(err)
	s.Cleanup(func() { ep.Close() })
	return ep
}

func (s *siege) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// dial connects a spoke with a new NodeID.
func (s *siege) dial(opts irohub.SpokeOptions) *irohub.Spoke {
	s.Helper()
	spoke, err := irohub.Dial(s.ctx, s.bind(), s.endpoint.Addr(), opts)
	s.must(err)
	s.Cleanup(func() { spoke.Close() })
	return spoke
}

func (s *siege) subscribe(spoke *irohub.Spoke, topics ...string) *irohub.Subscription {
	s.Helper()
	sub, err := spoke.Subscribe(s.ctx, topics...)
	s.must(err)
	return sub
}

// numbered returns the n-th event of a topic.
func numbered(topic string, n int) irohub.Event {
	return irohub.Event{Type: topic, Payload: json.RawMessage(fmt.Sprint(n))}
}

// wantServed checks that the hub serves one more well-behaved spoke.
func (s *siege) wantServed() {
	s.Helper()
	s.wantServes(s.dial(irohub.SpokeOptions{NoReconnect: true}))
}

func (s *siege) wantServes(spoke *irohub.Spoke) {
	s.Helper()
	sub := s.subscribe(spoke, "good")
	for i := range 3 {
		s.must(s.hub.Publish(s.ctx, numbered("good", i)))
	}
	s.wantNumbered(sub, 3)
}

// wantNumbered reads the events 0 to n-1.
func (s *siege) wantNumbered(sub *irohub.Subscription, n int) {
	s.Helper()
	next := 0
	for ev := range sub.Events() {
		if string(ev.Payload) != fmt.Sprint(next) {
			s.Errorf("event %s, want %d", ev.Payload, next)
			return
		}
		if next++; next == n {
			return
		}
	}
	s.Errorf("ended after %d of %d events: %v", next, n, sub.Err())
}

// eventually waits until a condition is true.
func (s *siege) eventually(what string, ok func() bool) {
	s.Helper()
	for !ok() {
		if s.ctx.Err() != nil {
			s.Fatalf("never came true: %s; the hub has %+v", what, s.hub.Stats())
		}
		time.Sleep(time.Millisecond)
	}
}

// heap returns the heap in use after garbage collection.
func heap() int {
	for range 2 { // a sync.Pool is empty only after the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A raw spoke speaks the protocol directly, and reads only when told to.
type raw struct {
	*siege
	conn   irohub.Conn
	stream irohub.Stream
}

// raw opens a stream on a new connection.
func (s *siege) raw(from endpoint) *raw {
	s.Helper()
	conn, err := from.Dial(s.ctx, s.endpoint.Addr())
	s.must(err)
	stream, err := conn.OpenStream(s.ctx)
	s.must(err)
	s.Cleanup(func() {
		stream.Abort(0) // otherwise iroh would reset it once it is forgotten
		conn.Close(0, "")
	})
	return &raw{s, conn, stream}
}

// frame returns a body with its length before it.
func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func (r *raw) write(p []byte) {
	r.Helper()
	_, err := r.stream.Write(r.ctx, p)
	r.must(err)
}

// subscribe returns once the hub has acknowledged.
func (r *raw) subscribe(topic string) {
	r.Helper()
	r.write(frame(`{"type":"__subscribe","id":"1","payload":{"topic":"` + topic + `"}}`))
	r.want(`{"type":"__ack","id":"1"}`)
}

// want reads one frame.
func (r *raw) want(body string) {
	r.Helper()
	want := string(frame(body))
	for got := ""; got != want; {
		p := make([]byte, len(want)-len(got))
		n, err := r.stream.Read(r.ctx, p)
		if got += string(p[:n]); err != nil || got != want[:len(got)] {
			r.Fatalf("frame %q, %v, want %q", got, err, want)
		}
	}
}

// wantClosed reads to the end, which must be a close with this code.
func (r *raw) wantClosed(code uint64) {
	r.Helper()
	for p := make([]byte, 64<<10); ; {
		if _, err := r.stream.Read(r.ctx, p); err != nil {
			r.wantCode(err, code)
			return
		}
	}
}

func (s *siege) wantCode(err error, code uint64) {
	s.Helper()
	if end, ok := errors.AsType[*irohub.CloseError](err); !ok || end.Code != code {
		s.Errorf("ended with %v, want code %d", err, code)
	}
}
