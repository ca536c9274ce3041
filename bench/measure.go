package main

import (
	"runtime"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	step          = 64 // events published together at full speed
	warmUp        = 8  // steps: TLS uses larger records only after 128 KiB
	latencyRate   = 200
	latencyNumber = 64 // subscribers
)

// run starts a system, measures it, and closes it.
func run(s system, n, step int, timed bool, measure func(*audience) error) (err error) {
	a := newAudience(n, step, timed)
	defer func() {
		s.close()
		runtime.GC() // the next measurement starts with a clean heap
	}()
	if err := start(s, n, a); err != nil {
		return err
	}
	return measure(a)
}

// check publishes some events to n subscribers and fails unless all arrive.
func check(s system, n, events int) error {
	return run(s, n, step, false, func(a *audience) error {
		for int(a.seq) < events {
			if err := a.publish(s); err != nil {
				return err
			}
		}
		return a.drain()
	})
}

// throughput runs fullSpeed with server and subscribers in this process.
func throughput(s system, n int, about time.Duration) (rate float64, cpu time.Duration, err error) {
	err = run(s, n, step, false, func(a *audience) error {
		rate, cpu, err = fullSpeed(s, a, n, about)
		return err
	})
	return rate, cpu, err
}

// fullSpeed publishes as fast as the window allows, for approximately the given time. It returns the
// deliveries per second, and this process's CPU time per million deliveries.
func fullSpeed(s system, a *audience, n int, about time.Duration) (rate float64, cpu time.Duration, err error) {
	for range warmUp {
		if err := a.publish(s); err != nil {
			return 0, 0, err
		}
	}
	if err := a.drain(); err != nil {
		return 0, 0, err
	}
	first, cpuBefore, begin := a.seq, cpuTime(), time.Now()
	for more := true; more; more = time.Since(begin) < about {
		if err := a.publish(s); err != nil {
			return 0, 0, err
		}
	}
	if err := a.drain(); err != nil { // events in flight count, and so does their time
		return 0, 0, err
	}
	elapsed, used := time.Since(begin), cpuTime()-cpuBefore
	deliveries := float64(a.seq-first) * float64(n)
	return deliveries / elapsed.Seconds(), time.Duration(float64(used) / deliveries * 1e6), nil
}

// latency publishes latencyRate events per second for the given time. It returns percentiles of the time
// from publishing an event until a subscriber has it.
func latency(s system, n int, length time.Duration) (p50, p99 time.Duration, err error) {
	err = run(s, n, 1, true, func(a *audience) error {
		warm := latencyRate / 10
		total := warm + max(1, int(length*latencyRate/time.Second))
		for i := range a.subs {
			a.subs[i].delays = make([]time.Duration, 0, total)
		}
		due := time.Now()
		for range total {
			time.Sleep(time.Until(due))
			if err := a.publish(s); err != nil {
				return err
			}
			due = due.Add(time.Second / latencyRate)
		}
		if err := a.drain(); err != nil {
			return err
		}
		h := hdrhistogram.New(1, int64(patience), 3)
		for i := range a.subs {
			for _, d := range a.subs[i].delays[warm:] {
				if err := h.RecordValue(int64(d)); err != nil {
					return err
				}
			}
		}
		p50 = time.Duration(h.ValueAtPercentile(50))
		p99 = time.Duration(h.ValueAtPercentile(99))
		return nil
	})
	return p50, p99, err
}

// cpuTime returns this process's CPU time, in user and kernel mode, for all threads.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
