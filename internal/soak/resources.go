package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A usage is what the process holds at one moment.
type usage struct {
	goroutines int
	files      int   // open descriptors; -1 where the system does not say
	heap       int64 // bytes that are in use after a collection
	resident   int64 // bytes of the whole process, the native library's included; -1 likewise
}

func measure() usage {
	// The second frees what finalizers and cleanups of the first let go of.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), files: -1, heap: int64(m.HeapAlloc), resident: -1}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(list) - 1 // one of them is this directory
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			if pages, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				u.resident = pages * int64(os.Getpagesize())
			}
		}
	}
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d fds, %.1f MiB heap, %.0f MiB resident",
		u.goroutines, u.files, mebi(u.heap), mebi(u.resident))
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

// over says what of u is more than the base by more than the slack; empty: nothing.
func (u usage) over(base, slack usage) string {
	var faults []string
	check := func(what string, is, was, slack int64) {
		if is > was+slack {
			faults = append(faults, fmt.Sprintf("%d %s, %d before; %d more are allowed", is, what, was, slack))
		}
	}
	check("goroutines", int64(u.goroutines), int64(base.goroutines), int64(slack.goroutines))
	check("file descriptors", int64(u.files), int64(base.files), int64(slack.files))
	check("bytes of heap", u.heap, base.heap, slack.heap)
	check("bytes resident", u.resident, base.resident, slack.resident)
	return strings.Join(faults, "; ")
}

// steady waits until what ends in the background has ended, and measures then.
func steady() usage {
	u := measure()
	end := time.Now().Add(30 * time.Second)
	for same := 0; same < 5 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		before := u
		if u = measure(); u.goroutines == before.goroutines && u.files == before.files {
			same++
		} else {
			same = 0
		}
	}
	return u
}

// settled waits until u is back at the base: goroutines and sockets end a moment after what
// they wait for. It returns what is over in the end.
func settled(base, slack usage) (u usage, over string) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		u = measure()
		if over = u.over(base, slack); over == "" || time.Now().After(end) {
			return u, over
		}
	}
}

// typical is what is in use for long: of each figure the median, but of the heap the least,
// as events that wait for somebody make it larger for a while.
func typical(of []usage) usage {
	sorted := func(figure func(usage) int64) []int64 {
		var all []int64
		for _, u := range of {
			all = append(all, figure(u))
		}
		slices.Sort(all)
		return all
	}
	mid := len(of) / 2
	return usage{
		goroutines: int(sorted(func(u usage) int64 { return int64(u.goroutines) })[mid]),
		files:      int(sorted(func(u usage) int64 { return int64(u.files) })[mid]),
		heap:       sorted(func(u usage) int64 { return u.heap })[0],
		resident:   sorted(func(u usage) int64 { return u.resident })[mid],
	}
}
