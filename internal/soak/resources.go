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

// A usage is the resources of the process at one moment.
type usage struct {
	goroutines int
	files      int   // open descriptors; -1 if unknown
	heap       int64 // bytes in use after a garbage collection
	resident   int64 // bytes of the whole process, including the native library; -1 if unknown
}

func measure() usage {
	// The second collection frees what finalizers and cleanups of the first have released.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), files: -1, heap: int64(m.HeapAlloc), resident: -1}
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(list) - 1 // one of them is the directory being read
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

// over lists what in u exceeds the base by more than the slack; empty if nothing does.
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

// steady waits until background work has ended, and then measures.
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

// settled waits until the usage is back at the base: goroutines and sockets end a moment after what they
// wait for. It returns what is still above the base in the end.
func settled(base, slack usage) (u usage, over string) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		u = measure()
		if over = u.over(base, slack); over == "" || time.Now().After(end) {
			return u, over
		}
	}
}

// typical returns the long-term usage: the median of each figure, except for the heap. There it takes the
// minimum, because queued events enlarge the heap for a while.
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
