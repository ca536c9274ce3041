//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"irohub/internal/transports"
)

// These tests run processes whose output is read slowly or not at all, or is closed.

// startUnreadHub starts a hub and reads only the first line of its standard output.
func startUnreadHub(t *testing.T, args ...string) (hub *testHub, stdout *os.File) {
	t.Helper()
	p, stdout := startUnread(t, append([]string{"hub", "-addr", "127.0.0.1:0"}, args...)...)
	var line []byte
	for b := make([]byte, 1); b[0] != '\n'; line = append(line, b[0]) {
		if _, err := io.ReadFull(stdout, b); err != nil {
			t.Fatal(err)
		}
	}
	return p.readyAs(string(line)), stdout
}

// wantServing checks that a spoke gets an event from the hub's standard input.
func (h *testHub) wantServing() {
	h.t.Helper()
	sub := startSub(h.t, "-n", "1", h.addr, "served")
	h.write(`{"type":"served"}`)
	sub.wantExit(0)
}

// flood publishes the given number of events.
func flood(t *testing.T, hub *testHub, count int) {
	t.Helper()
	pub := start(t, "pub", hub.addr)
	pub.write(strings.Repeat(`{"type":"flood"}`+"\n", count-1) + `{"type":"flood"}`)
	pub.stdin.Close()
	pub.wantExit(0)
}

func TestHub_OutlivesAFloodThatNobodyReads(t *testing.T) {
	overEach(t, func(t *testing.T) {
		hub, _ := startUnreadHub(t, "-stdin", "-max-queue", "65536")
		flood(t, hub, 20_000)
		hub.wantSaid("events missed: standard output is too slow")
		hub.wantServing()
		hub.signal(syscall.SIGTERM)
		hub.wantExit(1, "events were not printed")
	})
}

// Each event of a flood is either printed or counted as missed.
func TestHub_OutlivesAFloodThatIsReadSlowly(t *testing.T) {
	overEach(t, func(t *testing.T) {
		const count = 20_000
		hub, stdout := startUnreadHub(t, "-stdin", "-max-queue", "65536")
		flood(t, hub, count)
		hub.wantSaid("events missed: standard output is too slow")
		printed := make(chan int)
		go func() {
			text, _ := io.ReadAll(stdout)
			printed <- bytes.Count(text, []byte("\n"))
		}()
		hub.wantServing()
		hub.signal(syscall.SIGTERM)
		hub.wantExit(1, "events were not printed")
		said := strings.Join(hub.stderr.all(), "\n")
		_, last, _ := strings.Cut(said, "irohub hub: ")
		var missed int
		if n := <-printed; strings.HasPrefix(last, "more than") {
			fmt.Sscanf(last, "more than %d", &missed)
			if n+missed >= count {
				t.Errorf("%d printed, and %s", n, last)
			}
		} else if fmt.Sscanf(last, "%d", &missed); n+missed != count {
			t.Errorf("%d printed of %d, and %s", n, count, last)
		}
	})
}

func TestHub_OutlivesItsStandardOutput(t *testing.T) {
	overEach(t, func(t *testing.T) {
		hub, stdout := startUnreadHub(t, "-stdin")
		stdout.Close()
		start(t, "pub", hub.addr, "n").wantExit(0)
		hub.wantSaid("events missed: nobody reads standard output any more")
		hub.wantServing()
		hub.signal(syscall.SIGTERM)
		hub.wantExit(1, "1 events were not printed")
	})
}

func TestSub_EndsWithItsStandardOutput(t *testing.T) {
	overEach(t, func(t *testing.T) {
		hub := startHub(t, "-stdin")
		sub, stdout := startUnread(t, "sub", hub.addr, "n")
		sub.wantSaid("msg=subscribed")
		hub.write(`{"type":"n"}`)
		stdout.Close()
		hub.write(`{"type":"n"}`)
		sub.wantExit(1, "standard output")
		hub.stop()
	})
}

// It ends even if no event comes.
func TestSub_EndsWhenNobodyCanReadItsStandardOutput(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can detect this")
	}
	overEach(t, func(t *testing.T) {
		hub := startHub(t)
		sub, stdout := startUnread(t, "sub", hub.addr, "n:1")
		sub.wantSaid("msg=subscribed")
		stdout.Close()
		sub.wantExit(1, "nobody reads it any more")
		hub.stop()
	})
}

func TestSub_SlowStandardOutput(t *testing.T) {
	overEach(t, func(t *testing.T) {
		const count = 2000
		hub := startHub(t, "-stdin", "-max-queue", "16777216")
		slow, _ := startUnread(t, "sub", "-max-queue", "2048", hub.addr, "n")
		slow.wantSaid("msg=subscribed")
		other := startSub(t, "-max-queue", "16777216", "-n", fmt.Sprint(count), hub.addr, "n")
		for range count {
			hub.write(`{"type":"n","payload":"` + strings.Repeat("x", 1000) + `"}`)
		}
		other.wantExit(0)
		slow.wantExit(1, "too slow", "-max-queue")
		hub.stop()
	})
}

func TestSub_EndsOnASignalThoughItsOutputIsStuck(t *testing.T) {
	overEach(t, func(t *testing.T) {
		const count = 200 // more than fit into a pipe, and fewer than may wait
		hub := startHub(t, "-stdin")
		sub, _ := startUnread(t, "sub", hub.addr, "n")
		sub.wantSaid("msg=subscribed")
		other := startSub(t, "-n", fmt.Sprint(count), hub.addr, "n")
		for range count {
			hub.write(`{"type":"n","payload":"` + strings.Repeat("x", 1000) + `"}`)
		}
		other.wantExit(0)
		sub.signal(syscall.SIGTERM)
		sub.wantExit(1, "standard output is blocked")
		hub.stop()
	})
}

// resident returns a process's resident memory in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Each connection of a flood causes a log line, and nobody reads the log.
func TestHub_OutlivesALogThatNobodyReads(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this test reads a process's memory from /proc, which only Linux has")
	}
	t.Run(overTLS, func(t *testing.T) {
		const warm, count, growth = 4000, 12_000, 64 << 20
		unread, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer unread.Close()
		p := newProcess(t, over(t, []string{"hub", "-addr", "127.0.0.1:0", "-stdin"})...)
		p.cmd.Stderr = w
		hub := p.run().ready()
		w.Close()

		_, addr, _ := strings.Cut(hub.addr, "@")
		turnedAway := func(n int) {
			var running sync.WaitGroup
			for range 4 {
				running.Go(func() {
					for range n / 4 {
						c, err := net.Dial("tcp", addr)
						if err != nil {
							t.Error(err)
							return
						}
						c.Write([]byte("this is no TLS\r\n\r\n"))
						io.Copy(io.Discard, c) // until it is turned away
						c.Close()
					}
				})
			}
			running.Wait()
		}
		hub.write(strings.Repeat("no event\n", 20_000)) // each causes a log line; together more than may wait
		turnedAway(warm)
		before := resident(t, p.cmd.Process.Pid)
		turnedAway(count)
		if after := resident(t, p.cmd.Process.Pid); after > before+growth {
			t.Errorf("%d connections took %d MiB of memory", count, (after-before)>>20)
		}
		hub.wantServing()
		hub.stop()
	})
}

// When standard error is read again, a line says how many lines are missing in its place.
func TestHub_SaysHowMuchOfItsLogIsMissing(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		stderr, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stderr.Close()
		p := newProcess(t, over(t, []string{"hub", "-addr", "127.0.0.1:0", "-stdin"})...)
		p.cmd.Stderr = w
		hub := p.run().ready()
		w.Close()
		hub.write(strings.Repeat("no event\n", 20_000))
		hub.wantServing() // after all those lines
		p.stderr = read(stderr)
		p.wantSaid("lines are missing here")
		hub.stop()
	})
}

// Spokes that receive nothing lose their events, and the hub reports that when it ends.
func TestHub_SaysThatNotAllWasHandedOver(t *testing.T) {
	overEach(t, func(t *testing.T) {
		const count, frozen = 100, 2
		hub := startHub(t, "-stdin", "-quiet")
		for range frozen {
			startSub(t, hub.addr, "n").signal(syscall.SIGSTOP)
		}
		awake := startSub(t, "-n", fmt.Sprint(count), hub.addr, "n")
		hub.write(strings.Repeat(`{"type":"n","payload":"`+strings.Repeat("x", 1000)+`"}`+"\n", count))
		awake.wantExit(0)
		hub.signal(syscall.SIGTERM)
		hub.wantExit(1, "not everything was handed over", "2 spokes")
	})
}

func TestHub_EndsWhileItWaitsForARelayServer(t *testing.T) {
	transports.Need(t, overIroh)
	hub := start(t, "hub", "-addr", "127.0.0.1:0", "-relays", "https://127.0.0.1:1")
	hub.wantSaid("waiting for a relay server")
	hub.signal(syscall.SIGTERM)
	hub.wantExit(0)
	if said := hub.stderr.all(); len(said) != 1 || len(hub.stdout.all()) > 0 {
		t.Errorf("printed %q, said %q", hub.stdout.all(), said)
	}
}

func TestEvents_ArePrintedPrintable(t *testing.T) {
	overEach(t, func(t *testing.T) {
		const topic, payload = "chat\u202e:\U000e0041", "\"\u009b\u2028\x7f\""
		hub := startHub(t, "-forward")
		sub := startSub(t, "-n", "1", hub.addr, topic)
		start(t, "pub", hub.addr, topic, payload).wantExit(0)
		sub.wantExit(0)
		hub.wantEvent(1, topic, `"\u009b\u2028\u007f"`)
		hub.stop()
		for _, out := range []*output{hub.stdout, hub.stderr, sub.stdout, sub.stderr} {
			wantPrintable(t, "output", strings.Join(out.all(), "\n"))
		}
	})
}
