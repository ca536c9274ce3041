package main

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"irohub"
	"irohub/irohubtest"
)

// inWorld gives a test a hub in memory, its Subscription to everything, and a spoke.
func inWorld(t *testing.T, test func(t *testing.T, sub *irohub.Subscription, spoke *irohub.Spoke)) {
	synctest.Test(t, func(t *testing.T) {
		network := irohubtest.NewNetwork()
		endpoint := network.Endpoint()
		hub := irohub.NewHub(endpoint, irohub.HubOptions{})
		go hub.Serve(t.Context())
		sub, err := hub.Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		spoke, err := irohub.Dial(t.Context(), network.Endpoint(), endpoint.Addr(), irohub.SpokeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, sub, spoke)
		spoke.Close()
		hub.Close()
		endpoint.Close()
	})
}

func publish(t *testing.T, spoke *irohub.Spoke, n int) {
	t.Helper()
	for range n {
		if err := spoke.Publish(t.Context(), irohub.Event{Type: "n"}); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

// A slowWriter waits for a permit in each write.
type slowWriter struct {
	strings.Builder
	permits chan struct{}
	writes  int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.permits
	w.writes++
	return w.Builder.Write(p)
}

func TestPrintEvents_FlushesWhenNoneIsWaiting(t *testing.T) {
	inWorld(t, func(t *testing.T, sub *irohub.Subscription, spoke *irohub.Spoke) {
		out := &slowWriter{permits: make(chan struct{}, 2)}
		printed := make(chan int)
		go func() {
			n, err := printEvents(out, sub, 0)
			if err != nil {
				t.Error(err)
			}
			printed <- n
		}()
		publish(t, spoke, 1)          // is being written
		publish(t, spoke, printAhead) // wait meanwhile
		out.permits <- struct{}{}
		out.permits <- struct{}{}
		synctest.Wait()
		if lines := strings.Count(out.String(), "\n"); lines != 1+printAhead || out.writes != 2 {
			t.Errorf("%d lines in %d writes, want %d in 2", lines, out.writes, 1+printAhead)
		}
		sub.Close()
		if n := <-printed; n != 1+printAhead {
			t.Errorf("printed %d, want %d", n, 1+printAhead)
		}
	})
}

func TestPrintEvents_Limit(t *testing.T) {
	inWorld(t, func(t *testing.T, sub *irohub.Subscription, spoke *irohub.Spoke) {
		publish(t, spoke, 1000)
		var out strings.Builder
		n, err := printEvents(&out, sub, 300)
		if n != 300 || err != nil || strings.Count(out.String(), "\n") != n {
			t.Errorf("printed %d in %d lines (%v), want 300", n, strings.Count(out.String(), "\n"), err)
		}
	})
}

// A brokenWriter is a pipe that nobody reads any more.
type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestPrintEvents_WritingFails(t *testing.T) {
	inWorld(t, func(t *testing.T, sub *irohub.Subscription, spoke *irohub.Spoke) {
		publish(t, spoke, 1000)
		if _, err := printEvents(brokenWriter{}, sub, 0); !errors.Is(err, errBroken) {
			t.Errorf("error %v, want %v", err, errBroken)
		}
	})
}
