package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"

	"irohub"
	"irohub/irohubtest"
)

// runFailing runs a command that fails with err.
func runFailing(t *testing.T, err error, stderr io.Writer) (status int) {
	t.Helper()
	all := commands
	defer func() { commands = all }()
	commands = append(slices.Clip(commands), command{name: "test", setup: func(*pflag.FlagSet) action {
		return func(context.Context, []string, stdio) error { return err }
	}})
	return run(t.Context(), []string{"test"}, nil, nil, stderr)
}

// inWorld runs a test with a hub in memory, its listener, and a spoke.
func inWorld(t *testing.T, out *sink, test func(hub *irohub.Hub, l *listener, spoke *irohub.Spoke)) (said string) {
	t.Helper()
	var log bytes.Buffer
	network := irohubtest.NewNetwork()
	endpoint := network.Endpoint()
	hub, err := irohub.NewHub(irohub.HubOptions{MaxQueue: 64 << 10}, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	go hub.Serve(t.Context())
	l, err := listen(hub, out, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	spoke, err := irohub.Dial(t.Context(), network.Endpoint(), endpoint.Addr(), irohub.SpokeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	test(hub, l, spoke)
	spoke.Close()
	hub.Close()
	endpoint.Close()
	synctest.Wait()
	return log.String()
}

func publish(t *testing.T, spoke *irohub.Spoke, n int) {
	t.Helper()
	for range n {
		if err := spoke.Publish(t.Context(), irohub.Event{Type: "n"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := spoke.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestListener_PrintsAllThatThereIsRoomFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		said := inWorld(t, newSink(&text, 1<<20, 0, nil), func(hub *irohub.Hub, l *listener, spoke *irohub.Spoke) {
			for range 10 {
				publish(t, spoke, 100)
			}
			hub.Shutdown(t.Context())
			if err := l.close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		if n := strings.Count(text.String(), "\n"); n != 1000 || said != "" {
			t.Errorf("%d lines, said %q; want 1000, and nothing", n, said)
		}
	})
}

// The reports of missed events add up to the right number, and there are few of them.
func TestListener_TellsWhatItMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = 10
		w := &slowWriter{permits: make(chan struct{})}
		published := 0
		size := 0
		said := inWorld(t, newSink(w, 10_000, 0, nil), func(hub *irohub.Hub, l *listener, spoke *irohub.Spoke) {
			for range 600 { // a minute
				publish(t, spoke, 100)
				published += 100
				time.Sleep(100 * time.Millisecond)
			}
			close(w.permits)
			hub.Shutdown(t.Context())
			err := l.close(t.Context())
			size = strings.Count(w.String(), "\n")
			if want := fmt.Sprintf("%d events were not printed", published-size); err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
		told, n := 0, 0
		for line := range strings.Lines(said) {
			var missed int
			_, rest, _ := strings.Cut(line, "too slow\" events=")
			if _, err := fmt.Sscan(rest, &missed); err != nil {
				t.Errorf("said %q (%v)", line, err)
			}
			told += missed
			n++
		}
		if told != published-size || size == 0 || n < 2 || n > lines {
			t.Errorf("%d printed of %d, and %d told of as missed in %d lines", size, published, told, n)
		}
	})
}

// A hub goes on when its output is closed.
func TestListener_OutputIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := inWorld(t, newSink(brokenWriter{}, 10_000, 0, nil), func(hub *irohub.Hub, l *listener, spoke *irohub.Spoke) {
			publish(t, spoke, 10)
			time.Sleep(2 * time.Second)
			publish(t, spoke, 10)
			hub.Shutdown(t.Context())
			if err := l.close(t.Context()); err == nil || err.Error() != "20 events were not printed" {
				t.Errorf("error %v", err)
			}
		})
		if strings.Count(said, "nobody reads standard output any more") != 2 || strings.Count(said, "events=10 err=broken") != 2 {
			t.Errorf("said %s", said)
		}
	})
}

// The listener replaces a Subscription that was cut off.
func TestListener_SubscribesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		out := newSink(&text, 1<<20, 0, nil)
		said := inWorld(t, out, func(hub *irohub.Hub, l *listener, spoke *irohub.Spoke) {
			out.mu.Lock() // the listener waits for it
			flooded := make(chan struct{})
			go func() {
				defer close(flooded)
				for range 10_000 {
					spoke.Publish(t.Context(), irohub.Event{Type: "before"})
				}
				spoke.Flush(t.Context())
			}()
			<-flooded
			out.mu.Unlock()
			time.Sleep(2 * time.Second)
			publish(t, spoke, 7)
			hub.Shutdown(t.Context())
			if err := l.close(t.Context()); err == nil || err.Error() != "more than 0 events were not printed" {
				t.Errorf("error %v", err)
			}
		})
		if n := strings.Count(text.String(), `{"type":"n"`); n != 7 {
			t.Errorf("%d events came behind the gap, want 7", n)
		}
		if !strings.Contains(said, "uncounted_gaps=1") {
			t.Errorf("said %s", said)
		}
	})
}
