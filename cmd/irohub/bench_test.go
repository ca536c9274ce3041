package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
)

func TestBench_WrongUsage(t *testing.T) {
	for args, says := range map[string]string{
		"extra":                            `unexpected argument "extra"`,
		"-transport udp":                   "iroh or tls is wanted",
		"-spokes 0":                        "-spokes",
		"-spokes many":                     "-spokes",
		"-topics 0":                        "-topics",
		"-topics 65":                       "leave some of 65 topics without a subscriber",
		"-subscriptions 0":                 "-subscriptions",
		"-subscriptions 2":                 "-subscriptions",
		"-size 10":                         "--size: a number from",
		"-size 16777217":                   "--size: a number from",
		"-rate -1":                         "-rate",
		"-rate NaN":                        "-rate",
		"-rate Inf":                        "-rate",
		"-for 0":                           "-for",
		"-for 10":                          "-for",
		"-processes -1":                    "-processes",
		"-processes 65":                    "-processes",
		"-relays n0":                       "--relays: this flag needs --hub",
		"-key k":                           "unknown flag: --key",
		"-transport tls -hub abc":          "not NODEID@HOST:PORT",
		"-transport tls -hub " + someID:    "no address",
		"-hub " + someID + "@127.0.0.1":    "HOST:PORT",
		"-hub " + someID + " -transport x": "iroh or tls is wanted",
	} {
		t.Run(args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), append([]string{"bench"}, strings.Fields(args)...), strings.NewReader(""), &stdout, &stderr)
			if status != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), says) {
				t.Errorf("status %d, printed %q, said:\n%s\nwant status 2 and %q", status, &stdout, &stderr, says)
			}
		})
	}
}

// figures parses the output of a bench with -json.
func (p *process) figures() *figures {
	p.t.Helper()
	text := strings.Join(p.stdout.all(), "\n")
	in := json.NewDecoder(strings.NewReader(text))
	in.DisallowUnknownFields()
	f := new(figures)
	if err := in.Decode(f); err != nil || in.More() {
		p.t.Fatalf("it printed %s (%v)", text, err)
	}
	return f
}

// wantWhole checks that the figures agree with each other and with the plan.
func (f *figures) wantWhole(t *testing.T) {
	t.Helper()
	p := benchPlan{Topics: f.Topics, Subscriptions: f.Subscriptions}
	want := 0
	for spoke := range f.Spokes {
		want += p.due(spoke, f.Events)
	}
	if f.Events == 0 || f.Deliveries != want || f.Lost != 0 || f.CutOff != 0 {
		t.Errorf("%d events made %d deliveries, %d lost, %d spokes cut off; want %d deliveries", f.Events, f.Deliveries, f.Lost, f.CutOff, want)
	}
	if !(0 < *f.P50 && *f.P50 <= *f.P90 && *f.P90 <= *f.P99 && *f.P99 <= *f.P999 && *f.P999 <= *f.Max) {
		t.Errorf("latencies %v %v %v %v %v", *f.P50, *f.P90, *f.P99, *f.P999, *f.Max)
	}
	if *f.Max > 1e6*f.Seconds {
		t.Errorf("a latency of %v µs in %v s", *f.Max, f.Seconds)
	}
	if *f.CPU <= 0 || *f.CPUPerDelivery <= 0 || *f.Memory <= 0 || f.Connect <= 0 || f.ConnectsPerS <= 0 {
		t.Errorf("figures that cannot be: %+v", f)
	}
}

func TestBench_AtARateInSeveralProcesses(t *testing.T) {
	t.Setenv("IROHUB_QUIETLY", "true") // only the bench warns of it, not its workers
	overEach(t, func(t *testing.T) {
		p := start(t, "bench", "-v", "-json", "-spokes", "5", "-topics", "3", "-subscriptions", "2", "-rate", "200", "-for", "1.5s", "-processes", "2")
		p.wantExit(0, "msg=running", "deliveries_per_s")
		if n := strings.Count(strings.Join(p.stderr.all(), "\n"), "name=IROHUB_QUIETLY"); n != 1 {
			t.Errorf("a variable that is no flag is remarked on %d times", n)
		}
		f := p.figures()
		f.wantWhole(t)
		if f.Events != 300 || f.Transport != transportOf(t) || f.Processes != 2 || f.Seconds < 1.4 {
			t.Errorf("figures %+v", f)
		}
	})
}

func TestBench_AtFullSpeed(t *testing.T) {
	overEach(t, func(t *testing.T) {
		p := start(t, "bench", "-json", "-spokes", "4", "-topics", "300", "-subscriptions", "100", "-size", "1000", "-for", "1100ms")
		p.wantExit(0)
		if said := p.stderr.all(); len(said) > 0 {
			t.Errorf("it says %q where there is no terminal", said)
		}
		f := p.figures()
		f.wantWhole(t)
		if f.PayloadBytes != 1000 || f.Seconds < 0.3 {
			t.Errorf("figures %+v", f)
		}
	})
}

func TestBench_LargeEvents(t *testing.T) {
	overEach(t, func(t *testing.T) {
		p := start(t, "bench", "-json", "-spokes", "2", "-size", "3000000", "-for", "200ms", "-processes", "1")
		p.wantExit(0)
		p.figures().wantWhole(t)
	})
}

func TestBench_HubElsewhere(t *testing.T) {
	overEach(t, func(t *testing.T) {
		hub := startHub(t, "-forward", "-quiet")
		p := start(t, "bench", "-json", "-hub", hub.addr, "-spokes", "3", "-for", "300ms", "-processes", "1")
		p.wantExit(0)
		f := p.figures()
		f.wantWhole(t)
		if f.Hub != hub.addr {
			t.Errorf("the hub is %s, want %s", f.Hub, hub.addr)
		}
		hub.stop()
		if lines := hub.stdout.all(); len(lines) != 1 {
			t.Errorf("the hub printed %d lines, though quiet", len(lines))
		}
		said := strings.Join(hub.stderr.all(), "\n")
		if n := strings.Count(said, "spoke disconnected"); n != 4 || strings.Contains(said, "err=") {
			t.Errorf("%d spokes said goodbye, want those of the bench and its own:\n%s", n, said)
		}
	})
}

func TestBench_HubThatDoesNotForward(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		hub := startHub(t, "-quiet")
		for _, duration := range []string{"1ms", "1m"} { // shorter and longer than the stallTimeout
			p := start(t, "bench", "-json", "-hub", hub.addr, "-spokes", "3", "-for", duration)
			p.wantExit(1, "irohub hub --forward")
			if said := strings.Join(p.stderr.all(), "\n"); strings.Contains(said, "lost") {
				t.Errorf("said:\n%s", said)
			}
			if f := p.figures(); f.Deliveries != 0 || f.P50 != nil || f.Lost != 3*f.Events {
				t.Errorf("figures %+v", f)
			}
		}
		hub.stop()
	})
}

func TestBench_HubGoesAway(t *testing.T) {
	overEach(t, func(t *testing.T) {
		hub := startHub(t, "-forward", "-quiet")
		p, workers := startLong(t, "-json", "-hub", hub.addr)
		hub.stop()
		p.wantExit(1, "shutting down")
		if f := p.figures(); f.Deliveries == 0 {
			t.Errorf("figures %+v", f)
		}
		wantGone(t, workers)
	})
}

// startLong starts a bench that does not end by itself. When it is running, startLong returns it
// with the process ids of its workers.
func startLong(t *testing.T, args ...string) (p *process, workers []int) {
	t.Helper()
	p = start(t, append([]string{"bench", "-v", "-spokes", "4", "-for", "1h", "-processes", "2"}, args...)...)
	p.wantSaid("msg=running")
	pid := regexp.MustCompile(`msg=started .*pid=(\d+)`)
	for i := range 100 {
		line, ok := p.stderr.line(i)
		if found := pid.FindStringSubmatch(line); found != nil {
			n, _ := strconv.Atoi(found[1])
			workers = append(workers, n)
		}
		if !ok || len(workers) == 2 {
			return p, workers
		}
	}
	t.Fatal("no process ids of workers")
	return nil, nil
}

func signalTo(pid int, s os.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Signal(s)
}

// wantGone checks that processes have ended and that their parent has waited for them.
func wantGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if err := signalTo(pid, syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("process %d is left behind (%v)", pid, err)
		}
	}
}

func TestBench_InterruptedPrintsWhatThereIs(t *testing.T) {
	overEach(t, func(t *testing.T) {
		for _, rate := range []string{"0", "100"} {
			p, workers := startLong(t, "-json", "-rate", rate)
			p.signal(os.Interrupt)
			for _, pid := range workers { // as a terminal does
				signalTo(pid, os.Interrupt)
			}
			p.wantExit(1, "interrupted after")
			p.figures().wantWhole(t)
			wantGone(t, workers)
		}
	})
}

func TestBench_InterruptedWhileConnecting(t *testing.T) {
	overEach(t, func(t *testing.T) {
		p := start(t, "bench", "-v", "-spokes", "1000", "-processes", "1")
		p.wantSaid("msg=connecting")
		p.signal(os.Interrupt)
		p.wantExit(1, "interrupted")
		if lines := p.stdout.all(); len(lines) > 0 {
			t.Errorf("printed %q", lines)
		}
	})
}

func TestBench_KilledLeavesNoWorkerBehind(t *testing.T) {
	overEach(t, func(t *testing.T) {
		p, _ := startLong(t)
		p.signal(os.Kill)
		p.stderr.all() // standard error ends when its last process has ended
		p.cmd.Wait()
	})
}

func TestBench_WorkerDies(t *testing.T) {
	overEach(t, func(t *testing.T) {
		p, workers := startLong(t, "-json")
		signalTo(workers[1], os.Kill)
		p.wantExit(1, "worker 2 has ended too early")
		if f := p.figures(); f.Deliveries == 0 {
			t.Errorf("figures %+v", f)
		}
		wantGone(t, workers)
	})
}

// The rate is higher than any hub can reach.
func TestBench_TooFast(t *testing.T) {
	overEach(t, func(t *testing.T) {
		p := start(t, "bench", "-json", "-spokes", "8", "-size", "4000", "-rate", "1e9", "-for", "1m")
		p.wantExit(1, "too slow")
		if f := p.figures(); f.Lost == 0 || f.CutOff == 0 {
			t.Errorf("figures %+v", f)
		}
	})
}

func TestBench_InThisProcessLeavesNothingBehind(t *testing.T) {
	overEach(t, func(t *testing.T) {
		bench := func(args ...string) (status int, stdout string) {
			var out, stderr bytes.Buffer
			args = append([]string{"bench", "-transport", transportOf(t), "-spokes", "3"}, args...)
			status = run(t.Context(), args, strings.NewReader(""), &out, &stderr)
			return status, out.String() + stderr.String()
		}
		bench("-for", "1ms") // now the transport has started its permanent goroutines, which are no leak
		before := runtime.NumGoroutine()
		status, said := bench("-for", "200ms")
		if status != 0 {
			t.Errorf("status %d: %s", status, said)
		}
		for _, row := range []string{"deliveries/s ", "latency p99.9, µs ", "CPU per delivery, µs ", "idle memory per spoke, KiB ", "lost deliveries                         0\n"} {
			if !strings.Contains(said, row) {
				t.Errorf("the table has no row %q:\n%s", row, said)
			}
		}
		for end := time.Now().Add(failsafe); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			}
		}
	})
}

// newPublisher returns a bench that publishes ten events in one second, to a hub that delays the
// event with the number hold.
func newPublisher(hold int, delay time.Duration) (b *bench, published *[]time.Duration) {
	published = new([]time.Duration)
	c := &benchConfig{plan: benchPlan{Topics: 1, Size: 256}, rate: 10, duration: time.Second}
	b = &bench{benchConfig: c, clock: newBenchClock()}
	b.start = b.clock.now()
	b.source.publish = func(_ context.Context, ev irohub.Event) error {
		if len(*published) == hold {
			time.Sleep(delay)
		}
		_, due, err := c.plan.readPayload(ev.Payload)
		*published = append(*published, due-b.start)
		return err
	}
	return b, published
}

// The latency of a delayed event counts from when it was due, not from when it was published.
func TestBench_LatencyCountsFromTheTimeThatAnEventWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, published := newPublisher(3, 550*time.Millisecond)
		if err := b.publish(t.Context()); err != nil {
			t.Error(err)
		}
		if took := b.clock.now() - b.start; took != 900*time.Millisecond {
			t.Errorf("publishing took %v", took)
		}
		for i, due := range *published {
			if want := time.Duration(i) * 100 * time.Millisecond; due != want {
				t.Errorf("event %d was due at %v, want %v", i, due, want)
			}
		}
		if len(*published) != 10 || b.published.Load() != 10 {
			t.Errorf("%d events were published, and %d counted", len(*published), b.published.Load())
		}
	})
}

func TestBench_TheRateIsNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, published := newPublisher(3, time.Minute)
		if err := b.publish(t.Context()); err == nil || !strings.Contains(err.Error(), "event 4: it was due long ago") {
			t.Errorf("error %v", err)
		}
		if len(*published) != 4 {
			t.Errorf("%d events were published", len(*published))
		}
	})
}

// A writerFunc is an io.Writer made of a function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCrew_ClocksMustAgree(t *testing.T) {
	for _, skew := range []time.Duration{0, time.Second, -time.Second} {
		c := &crew{clock: newBenchClock(), told: make(chan told, 2)}
		m := &member{name: "a worker"}
		m.orders = json.NewEncoder(writerFunc(func(p []byte) (int, error) {
			c.told <- told{by: m, report: report{State: atWork, Clock: c.clock.now() + skew}}
			return len(p), nil
		}))
		c.members = []*member{m}
		c.told <- told{by: m, report: report{State: started}}
		if err := c.begin(m, &work{}); (err == nil) != (skew == 0) {
			t.Errorf("a clock that is %v ahead: %v", skew, err)
		}
	}
}

func TestStalling(t *testing.T) {
	now := time.Now()
	c := &benchConfig{hub: "elsewhere", plan: benchPlan{Spokes: 2, Topics: 1, Subscriptions: 1}}
	s := stalling{bench: &bench{benchConfig: c}, since: now}
	for _, step := range []struct {
		seconds, events, deliveries int
		says                        string
	}{
		{20, 0, 0, ""}, // nothing is missing
		{29, 1, 0, ""}, // not for long
		{30, 1, 0, "irohub hub --forward"},
		{31, 1, 1, ""},
		{40, 3, 1, ""},
		{41, 3, 1, "5 deliveries are missing"},
		{42, 3, 6, ""},
		{90, 3, 6, ""},
	} {
		err := s.check(now.Add(time.Duration(step.seconds)*time.Second), step.events, step.deliveries)
		if (err == nil) != (step.says == "") || err != nil && !strings.Contains(err.Error(), step.says) {
			t.Errorf("after %d s, %d events, %d deliveries: %v, want %q", step.seconds, step.events, step.deliveries, err, step.says)
		}
	}
}
