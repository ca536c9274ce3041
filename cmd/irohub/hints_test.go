package main

import (
	"os"
	"strings"
	"testing"

	"irohub/internal/transports"
)

// These tests are about hints for users who probably want something else.

func TestSub_SaysWhatMatchesLessThanItLooksLike(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		hub := startHub(t)
		sub := startSub(t, hub.addr, "a*", "b:*", "c", "d:*:e")
		sub.signal(os.Interrupt)
		sub.wantExit(0, "topic=a*", "topic=d:*:e")
		said := strings.Join(sub.stderr.all(), "\n")
		if n := strings.Count(said, "this topic is not a pattern"); n != 2 {
			t.Errorf("%d warnings, want 2:\n%s", n, said)
		}
		hub.stop()
	})
}

func TestSub_SaysAfterAWhileThatATypeAloneMatchesNoIDs(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		hub := startHub(t, "-stdin")
		sub := startSub(t, hub.addr, "q")
		hub.write(`{"type":"q","id":"1"}`)
		sub.wantSaid("no event has come yet: a topic without an id matches only events without an id")
		hub.stop()
	})
}

// The hub says so once, with and without --quiet.
func TestHub_SaysThatItDoesNotForward(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		for _, args := range [][]string{nil, {"--quiet"}, {"--forward"}} {
			hub := startHub(t, args...)
			for range 2 {
				start(t, "pub", hub.addr, "chat:1", "1").wantExit(0)
			}
			hub.stop()
			want := 1
			if len(args) > 0 && args[0] == "--forward" {
				want = 0
			}
			said := strings.Join(hub.stderr.all(), "\n")
			if n := strings.Count(said, "not forwarded to other spokes"); n != want {
				t.Errorf("%v: said %d times, want %d:\n%s", args, n, want, said)
			}
		}
	})
}

func TestPub_SaysThatAMailboxIsInLowerCase(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		hub := startHub(t)
		start(t, "pub", hub.addr, "direct:"+strings.ToUpper(someID)).wantExit(0, "in lower case", "mailbox=direct:"+someID)
		hub.stop()
	})
}

func TestSub_TooManyTopicsIsSaidOnceWithTheLimit(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		hub := startHub(t, "--max-subscriptions", "2")
		sub := start(t, "sub", hub.addr, "a", "b", "c")
		sub.wantExit(1, "the limit is 2 topics")
		if said := strings.Join(sub.stderr.all(), "\n"); strings.Count(said, "too many") != 1 {
			t.Errorf("said:\n%s", said)
		}
		hub.stop()
	})
}

// If the library is missing, the error says how to get it, and that TLS needs none.
func TestMissingLibrary(t *testing.T) {
	transports.Need(t, overIroh)
	t.Setenv("IROH_LIB", "")
	for _, args := range [][]string{{"hub"}, {"sub", someID + "@127.0.0.1:1", "n"}, {"pub", "endpointabc", "n"}} {
		p := newProcess(t, args...)
		p.cmd.Dir = t.TempDir()
		p.run().wantExit(1, "pip download", "IROH_LIB", "--transport tls")
	}
	p := newProcess(t, "version")
	p.cmd.Dir = t.TempDir()
	p.run().wantExit(0)
	if line, _ := p.stdout.line(4); !strings.Contains(line, "was not found") {
		t.Errorf("version says %q", line)
	}
}

func TestHub_WhoseFirstLineNobodyTakesEnds(t *testing.T) {
	overEach(t, func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		defer w.Close()
		p := newProcess(t, over(t, []string{"hub", "-addr", "127.0.0.1:0"})...)
		p.cmd.Stdout = w
		p.start()
		p.stdout = read(strings.NewReader(""))
		p.wantExit(1, "standard output", "broken pipe")
	})
}
