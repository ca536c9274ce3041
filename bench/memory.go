package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"time"
)

// memory returns the resident memory of one more idle subscriber, in bytes, for both sides together. n must
// be 8 or more. Native memory counts, and freed memory need not be returned to the system, so each figure
// comes from a separate process. To exclude the server's own memory, it is the difference between n
// subscribers and an eighth of them.
func memory(name string, n int) (float64, error) {
	few := n / 8
	low, err := residentChild(name, few)
	if err != nil {
		return 0, err
	}
	high, err := residentChild(name, n)
	return float64(high-low) / float64(n-few), err
}

// residentChild runs this program with -resident.
func residentChild(name string, n int) (int, error) {
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(program, "-resident", name, "-n", strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("the process that measures memory: %w", err)
	}
	return strconv.Atoi(string(bytes.TrimSpace(out)))
}

// resident returns this process's resident memory once a system is idle, with n subscribers that have each
// received an event.
func resident(s system, n int) (size int, err error) {
	err = run(s, n, 1, false, func(a *audience) error {
		if err := a.publish(s); err != nil {
			return err
		}
		if err := a.drain(); err != nil {
			return err
		}
		for range 2 { // buffers in a sync.Pool survive the first collection
			time.Sleep(500 * time.Millisecond)
			debug.FreeOSMemory()
		}
		size, err = residentNow()
		return err
	})
	return size, err
}

// residentNow returns the resident memory. It works only on Linux.
func residentNow() (int, error) {
	text, err := os.ReadFile("/proc/self/statm") // sizes in pages: total, resident, …
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/self/statm: %q", text)
	}
	pages, err := strconv.Atoi(string(fields[1]))
	return pages * os.Getpagesize(), err
}
