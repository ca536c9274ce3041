package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"irohub/iroh"
)

// TestMain lets the tests run their own binary as the command.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const asCommand = "IROHUB_BENCH_COMMAND"

// TestSystems_DeliverEverything also checks that a closed system leaves no goroutines behind, except for
// those that its library starts once per process.
func TestSystems_DeliverEverything(t *testing.T) {
	for _, c := range contestants {
		t.Run(c.name, func(t *testing.T) {
			before := 0
			for range 2 {
				err := check(c.new(), 4, 8*step)
				if missing(err) {
					t.Skip(err)
				}
				if err != nil {
					t.Fatal(err)
				}
				if before == 0 {
					before = settled()
				}
			}
			for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; {
				if time.Now().After(deadline) {
					stacks := make([]byte, 1<<20)
					t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// missing reports whether err means that the native library is missing, if that is no reason to fail. It
// also returns how to get the library.
func missing(err error) bool {
	return os.Getenv("CI") != "true" && (errors.Is(err, iroh.ErrNoLibrary) || errors.Is(err, iroh.ErrUnsupported))
}

// settled returns the number of goroutines once it has stopped changing.
func settled() int {
	n := runtime.NumGoroutine()
	for still := 0; still < 50; still++ {
		time.Sleep(10 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != n {
			n, still = now, 0
		}
	}
	return n
}

// A faultySystem passes each event through a function on the way to its one subscriber.
type faultySystem struct {
	audience *audience
	pass     func(seq uint32, event []byte) [][]byte
}

func (s *faultySystem) serve(to *audience) (place, error) {
	s.audience = to
	return place{}, nil
}

func (s *faultySystem) subscribe(int, place, *audience) error { return nil }

func (s *faultySystem) publish(event []byte) error {
	seq, err := seqOf(event)
	if err != nil {
		return err
	}
	for _, p := range s.pass(seq, event) {
		s.audience.deliver(0, p)
	}
	return nil
}

func (s *faultySystem) close() {}

func TestAudience_NoticesFaults(t *testing.T) {
	const at = step + 5
	var held []byte
	for _, test := range []struct {
		name  string
		fault func(event []byte) [][]byte // applied to the event with that number
		next  func(event []byte) [][]byte // applied to the event after it
	}{
		{name: "lost", fault: func([]byte) [][]byte { return nil }},
		{name: "twice", fault: func(event []byte) [][]byte { return [][]byte{event, event} }},
		{name: "cut", fault: func(event []byte) [][]byte { return [][]byte{event[:100]} }},
		{
			name:  "swapped",
			fault: func(event []byte) [][]byte { held = event; return nil },
			next:  func(event []byte) [][]byte { return [][]byte{event, held} },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &faultySystem{pass: func(seq uint32, event []byte) [][]byte {
				switch {
				case seq == at:
					return test.fault(event)
				case seq == at+1 && test.next != nil:
					return test.next(event)
				}
				return [][]byte{event}
			}}
			if err := check(s, 1, 4*step); err == nil {
				t.Error("the run passed")
			}
		})
	}
}

// The publisher is never ahead of a stuck subscriber by more than the window.
func TestAudience_BoundsWhatIsUnderway(t *testing.T) {
	published := 0
	a := newAudience(1, step, false)
	s := &faultySystem{audience: a, pass: func(uint32, []byte) [][]byte { published++; return nil }}
	publishing := make(chan error, 1)
	go func() {
		for {
			if err := a.publish(s); err != nil {
				publishing <- err
				return
			}
		}
	}()
	time.Sleep(100 * time.Millisecond) // long enough to publish more, if there were no limit
	stop := errors.New("enough")
	a.fail(stop)
	if err := <-publishing; err != stop {
		t.Fatal(err)
	}
	if published != window {
		t.Errorf("%d events underway, not %d", published, window)
	}
}

func TestEvent_IsReadBack(t *testing.T) {
	before := time.Since(epoch)
	event := newEvent(0xDEADBEEF)
	if len(event) != eventSize {
		t.Errorf("%d bytes", len(event))
	}
	seq, err := seqOf(event)
	if err != nil || seq != 0xDEADBEEF {
		t.Errorf("number %#x, %v", seq, err)
	}
	at, err := timeOf(event)
	if err != nil || at < before || at > time.Since(epoch) {
		t.Errorf("published at %v, %v; not between %v and now", at, err, before)
	}
}

func TestLatency_IsWhatASystemTakes(t *testing.T) {
	const delay = 2 * time.Millisecond
	s := &faultySystem{pass: func(_ uint32, event []byte) [][]byte {
		time.Sleep(delay)
		return [][]byte{event}
	}}
	p50, p99, err := latency(s, 1, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if p50 < delay*99/100 || p99 < p50 { // the histogram keeps three digits
		t.Errorf("p50 %v, p99 %v of events that take %v", p50, p99, delay)
	}
}

func TestSummarize(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   summary
	}{
		{[]float64{7}, summary{7, 7, 7}},
		{[]float64{3, 1}, summary{1, 2, 3}},
		{[]float64{5, 1, 4, 2, 3}, summary{1, 3, 5}},
	} {
		given := slices.Clone(test.values)
		if got := summarize(given); got != test.want {
			t.Errorf("%v: %v, not %v", test.values, got, test.want)
		}
		if !slices.Equal(given, test.values) {
			t.Error("the rounds' order is lost")
		}
	}
}

// made returns results of two rounds.
func made() *results {
	r := &results{Systems: []string{"irohub-tls", "nats", "mochi", "bare-tls"}, Numbers: []int{8}, Rounds: 2}
	for system, rates := range map[string][]float64{
		"irohub-tls": {3e6, 2e6}, "nats": {1e6, 2e6}, "mochi": {1.2e6, 1.2e6}, "bare-tls": {4e6, 4e6},
	} {
		for _, rate := range rates {
			r.add(system, metricRate, 8, rate)
			r.add(system, metricCPU, 8, 0.5)
			r.add(system, metricServer, 8, 10*rate)
			r.add(system, metricP50, latencyNumber, 1)
			r.add(system, metricP99, latencyNumber, 2)
			r.add(system, metricMemory, 8, 100)
		}
	}
	return r
}

func TestReport_ComparesRoundByRound(t *testing.T) {
	var text bytes.Buffer
	report(&text, made())
	for _, want := range []string{
		" of nats-server |", // the best peer by median
		"| irohub over TLS    | 2.000 |  2.500 | 3.000 | 0.62 (0.50–0.75) | 2.00 (1.00–3.00) |    0.50 |",
		"| bare loop over TLS | 4.000 |  4.000 | 4.000 |                – | 3.00 (2.00–4.00) |    0.50 |",
		"| irohub over TLS    | 20.000 | 25.000 | 30.000 | 0.62 (0.50–0.75) | 2.00 (1.00–3.00) |",
		"| mochi-mqtt         | 100 |    100 | 100 |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("missing: %s\nin:\n%s", want, text.String())
		}
	}
}

func TestWrite_KeepsWhatIsNotGenerated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("before\n"+markBegin+"old\n"+markEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := made()
	for range 2 {
		if err := replaceGenerated(file, []byte("new\n")); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + markBegin + "new\n" + markEnd + "after\n"; string(doc) != want {
		t.Errorf("%q, not %q", doc, want)
	}
	svg := filepath.Join(t.TempDir(), "plot.svg")
	if err := drawRates(svg, r); err != nil {
		t.Fatal(err)
	}
	plot, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nats-server", "irohub over TLS", "8 subscribers"} {
		if !bytes.Contains(plot, []byte(want)) {
			t.Errorf("the plot does not say %q", want)
		}
	}
}

func TestApart_DeliversEverything(t *testing.T) {
	t.Setenv(asCommand, "1")
	for _, c := range contestants {
		t.Run(c.name, func(t *testing.T) {
			cpu, err := serverCPU(c, 4, 50*time.Millisecond)
			if missing(err) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if cpu <= 0 {
				t.Errorf("a million deliveries take %v", cpu)
			}
		})
	}
}

// A faultyClient passes the server's place through a function before its one subscriber connects.
type faultyClient struct {
	faultySystem
	get func(at place) ([]byte, error)
}

func (s *faultyClient) subscribe(i int, at place, to *audience) error {
	event, err := s.get(at)
	to.deliver(i, event)
	return err
}

func TestApart_NoticesFaults(t *testing.T) {
	t.Setenv(asCommand, "1")
	fault := errors.New("faulty")
	for _, test := range []struct {
		name, in string
		get      func(place) ([]byte, error)
	}{
		{name: "no place", in: "", get: func(place) ([]byte, error) { return newEvent(0), nil }},
		{name: "not subscribed", in: "{}", get: func(place) ([]byte, error) { return newEvent(0), fault }},
		{name: "wrong event", in: "{}", get: func(place) ([]byte, error) { return newEvent(1), nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := contestant{new: func() system { return &faultyClient{get: test.get} }}
			in, stop := io.Pipe()
			defer stop.Close()
			go func() {
				io.WriteString(stop, test.in)
				if test.in == "" {
					stop.Close()
				}
			}()
			if err := subscribersMain(c, 1, in, io.Discard); err == nil {
				t.Error("the subscribers have noticed nothing")
			}
		})
	}
	t.Run("no process", func(t *testing.T) {
		if _, err := subscribeApart("nothing", 1, place{}, newAudience(0, step, false)); err == nil {
			t.Error("no error of a process that ends at once")
		}
	})
	t.Run("process ends", func(t *testing.T) {
		bare, err := find("bare-tls")
		if err != nil {
			t.Fatal(err)
		}
		err = apart(bare, 2, func(s system, a *audience) error {
			s.(*bareSystem).conns[0].Close() // so that a subscriber receives nothing more
			for range 3 * window {
				if err := a.publish(s); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			t.Error("no error of a subscriber that gets nothing")
		}
	})
}

func TestMemory_GrowsWithSubscribers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("resident memory is known on Linux alone")
	}
	t.Setenv(asCommand, "1")
	size, err := memory("bare-tls", 128)
	if err != nil {
		t.Fatal(err)
	}
	// Two TLS connections, four goroutines, and the reader's 64 KiB, which are mostly untouched.
	if size < 8<<10 || size > 1<<20 {
		t.Errorf("%.0f bytes per subscriber", size)
	}
}

func TestCommand_SaysHowToGetTheLibrary(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, system := range []string{"irohub-iroh", "bare-iroh"} {
		cmd := exec.Command(program, "-systems", system)
		cmd.Env = append(os.Environ(), asCommand+"=1", "IROH_LIB="+filepath.Join(t.TempDir(), "missing"))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "bench: "+system+": irohub/iroh: ") {
			t.Errorf("%v: %s", err, out)
		}
	}
}
