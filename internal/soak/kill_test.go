package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/key"
)

// If this variable names a transport, the test binary runs a hub, as a separate process that the test
// kills.
const asHub = "IROHUB_TEST_AS_HUB"

// runHub prints the hub's address, then publishes an event for each byte that it reads.
func runHub(transport, seed, addr string) {
	err := func() error {
		var s [32]byte
		if _, err := hex.Decode(s[:], []byte(seed)); err != nil {
			return err
		}
		ep, err := transports.Bind(context.Background(), transport, key.FromSeed(s), addr)
		if err != nil {
			return err
		}
		hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
		if err != nil {
			return err
		}
		go hub.Serve(context.Background())
		fmt.Println(ep.Addr())
		in := bufio.NewReader(os.Stdin)
		for n := 0; ; n++ {
			if _, err := in.ReadByte(); err == io.EOF {
				return hub.Close()
			}
			ev := irohub.Event{Type: "n", Payload: fmt.Append(nil, n)}
			if err := hub.Publish(context.Background(), ev); err != nil {
				return err
			}
		}
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A hubProcess is a hub in a separate process.
type hubProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	addr  irohub.Addr
}

func startHub(t *testing.T, transport string, secret key.Secret, addr string) *hubProcess {
	t.Helper()
	seed := secret.Seed()
	h := &hubProcess{t: t, cmd: exec.Command(os.Args[0], hex.EncodeToString(seed[:]), addr)}
	h.cmd.Env = append(os.Environ(), asHub+"="+transport, "GORACE=atexit_sleep_ms=0")
	h.cmd.Stderr = t.Output()
	var err error
	if h.stdin, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the hub does not start: %v", err)
	}
	if h.addr, err = irohub.ParseAddr(line[:len(line)-1]); err != nil {
		t.Fatal(err)
	}
	return h
}

// kill sends SIGKILL, so the hub cannot tell anyone.
func (h *hubProcess) kill() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

func (h *hubProcess) publish(n int) {
	h.t.Helper()
	if _, err := h.stdin.Write(make([]byte, n)); err != nil {
		h.t.Fatal(err)
	}
}

// A survivor is a spoke whose hub is killed.
type survivor struct {
	spoke *irohub.Spoke
	sub   *irohub.Subscription
	lost  atomic.Int64 // the time of the loss, in nanoseconds
	pause atomic.Int64 // from the loss to the first dial
	back  chan struct{}
}

// A stopwatch is an endpoint that records the Spoke's first dial after a loss.
type stopwatch struct {
	irohub.Endpoint
	of *survivor
}

func (w stopwatch) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	if lost := w.of.lost.Load(); lost != 0 {
		w.of.pause.CompareAndSwap(0, time.Now().UnixNano()-lost)
	}
	return w.Endpoint.Dial(ctx, addr)
}

// TestHubKilled kills a hub with many spokes and starts it again. All spokes must reconnect, at different
// times, and miss no event that is published after that.
func TestHubKilled(t *testing.T) {
	for _, transport := range transports.Names() {
		transports.Start(t.Context(), transport) // a missing transport is reported below
	}
	before := runtime.NumGoroutine()
	t.Run("over", func(t *testing.T) {
		transports.Each(t, func(t *testing.T, transport string) {
			t.Parallel() // mostly waits until iroh notices the loss
			count := 200
			if testing.Short() {
				count = 50
			}
			testHubKilled(t, transport, count)
		})
	})
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func testHubKilled(t *testing.T, transport string, count int) {
	const (
		events   = 20
		perNode  = 8 // as many as a hub has by default
		backoff  = 4 * time.Second
		failsafe = 3 * time.Minute
	)
	ctx, cancel := context.WithTimeout(t.Context(), failsafe)
	defer cancel()
	secret := key.New()
	hub := startHub(t, transport, secret, transports.OwnLoopback())
	if len(hub.addr.Hosts) != 1 {
		t.Fatalf("the hub is at %v, one address is wanted", hub.addr.Hosts)
	}

	survivors := make([]*survivor, count)
	var ep irohub.Endpoint
	for i := range survivors {
		if i%perNode == 0 {
			var err error
			if ep, err = transports.Bind(ctx, transport, key.Secret{}, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ep.Close() })
		}
		survivors[i] = survive(t, ctx, ep, hub.addr, backoff)
	}
	want := func(what string) {
		t.Helper()
		hub.publish(events)
		var wg sync.WaitGroup
		for i, s := range survivors {
			wg.Go(func() {
				if err := s.wantEvents(ctx, events); err != nil {
					t.Errorf("spoke %d, %s: %v", i, what, err)
				}
			})
		}
		wg.Wait()
	}
	want("before")

	hub.kill()
	hub = startHub(t, transport, secret, hub.addr.Hosts[0])
	for i, s := range survivors {
		select {
		case <-s.back:
		case <-ctx.Done():
			t.Fatalf("spoke %d has not come back", i)
		}
	}
	want("after")
	for i, s := range survivors { // while the hub is running
		if err := s.spoke.Close(); err != nil {
			t.Errorf("closing spoke %d: %v", i, err)
		}
	}

	// A pause is a random time from half of the backoff to all of it. So each tenth of that range should
	// contain about a tenth of the spokes. Without randomness, one would contain all.
	const tenth = backoff / 2 / 10
	var found []int // spokes by tenths; on a busy machine, some are beyond the tenth one
	for i, s := range survivors {
		pause := time.Duration(s.pause.Load())
		if pause < backoff/2 {
			t.Errorf("spoke %d dialled after %v", i, pause)
			continue
		}
		at := int((pause - backoff/2) / tenth)
		for len(found) <= at {
			found = append(found, 0)
		}
		found[at]++
	}
	t.Logf("%d spokes dialled, from %v on, by tenths of that: %v", count, backoff/2, found)
	if n := slices.Max(found); n > count*2/5 {
		t.Errorf("%d of %d spokes dialled in the same tenth", n, count)
	}
}

func survive(t *testing.T, ctx context.Context, ep irohub.Endpoint, addr irohub.Addr, backoff time.Duration) *survivor {
	t.Helper()
	s := &survivor{back: make(chan struct{}, 1)}
	var err error
	s.spoke, err = irohub.Dial(ctx, stopwatch{ep, s}, addr, irohub.SpokeOptions{
		MinBackoff:  backoff,
		Logger:      slog.New(lossLog{slog.DiscardHandler, s}),
		OnReconnect: func() { s.back <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.spoke.Close() })
	if s.sub, err = s.spoke.Subscribe(ctx, "n"); err != nil {
		t.Fatal(err)
	}
	return s
}

// A lossLog records when a connection was lost, from the time of the log line. A callback may be later.
type lossLog struct {
	slog.Handler
	s *survivor
}

func (lossLog) Enabled(context.Context, slog.Level) bool { return true }

func (l lossLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "disconnected" {
		l.s.lost.CompareAndSwap(0, r.Time.UnixNano())
	}
	return nil
}

// wantEvents checks that events 0 to n-1 arrive.
func (s *survivor) wantEvents(ctx context.Context, n int) error {
	defer context.AfterFunc(ctx, s.sub.Close)()
	next := 0
	for ev := range s.sub.Events() {
		if string(ev.Payload) != fmt.Sprint(next) {
			return fmt.Errorf("event %s, want %d", ev.Payload, next)
		}
		if next++; next == n {
			return nil
		}
	}
	return fmt.Errorf("%d of %d events came: %v", next, n, s.sub.Err())
}
