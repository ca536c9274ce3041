//go:build unix

package siege

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"irohub"
)

// freeze stops a child process. Its threads do not run, and its kernel buffers stay full.
func (c *child) freeze() {
	c.Helper()
	c.must(c.cmd.Process.Signal(syscall.SIGSTOP))
}

// A crowd is a set of spokes that read and count events.
type crowd struct {
	*siege
	credits []chan struct{} // for each spoke, a token for each event that it has taken
	ended   sync.WaitGroup
}

// window is the most events by which the publisher is ahead of the crowd.
const window = 64

func (s *siege) crowd(n int) *crowd {
	s.Helper()
	c := &crowd{siege: s}
	for range n {
		sub := s.subscribe(s.dial(irohub.SpokeOptions{NoReconnect: true}), "n:*")
		credit := make(chan struct{}, window)
		c.credits = append(c.credits, credit)
		c.ended.Go(func() {
			n := 0
			for ev := range sub.Events() {
				if ev.ID == "last" {
					return
				}
				if want := fmt.Sprint(n); ev.ID != want {
					s.Errorf("event %s, want %s", ev.ID, want)
					return
				}
				n++
				credit <- struct{}{}
			}
			s.Errorf("one that reads has ended after %d events: %v", n, sub.Err())
		})
	}
	return c
}

// publish publishes events to all, and large ones to the frozen spoke, at most the given number
// of bytes, until there is nothing more to wait for. It checks that the whole crowd received
// all of its events.
func (c *crowd) publish(most int, until <-chan struct{}) {
	c.Helper()
	large := []byte(`"` + strings.Repeat("x", 32<<10) + `"`)
	publish := func(ev irohub.Event) { c.must(c.hub.Publish(c.ctx, ev)) }
	for n := 0; ; n++ {
		if n >= window {
			for _, credit := range c.credits {
				select {
				case <-credit:
				case <-c.ctx.Done():
					c.Fatalf("one that reads gets nothing; the hub has %+v", c.hub.Stats())
				}
			}
		}
		select {
		case <-until:
			publish(irohub.Event{Type: "n", ID: "last"})
			c.ended.Wait()
			return
		default:
			publish(irohub.Event{Type: "n", ID: fmt.Sprint(n)})
			if (n+1)*len(large) <= most {
				publish(irohub.Event{Type: "frozen", Payload: large})
			}
		}
	}
}

// One of 64 spokes is frozen. The others receive everything. The hub queues at most the limit
// for the frozen one, and then cuts it off.
func TestFrozen_OneAmong64IsCutOff(t *testing.T) {
	const limit, others = 1 << 20, 63
	overEach(t, func(s *siege) {
		var slow []irohub.SpokeInfo
		gone, ended := make(chan struct{}), make(chan error, 1+others)
		s.serve(irohub.HubOptions{
			MaxQueue:       limit,
			WriteTimeout:   time.Hour, // so that only the queue limit cuts it off
			OnBackpressure: func(info irohub.SpokeInfo) { slow = append(slow, info) },
			OnDisconnect: func(info irohub.SpokeInfo, err error) {
				if info.Number == 1 { // the first spoke, which is the frozen one
					ended <- err
					close(gone)
				}
			},
		})
		frozen := s.child("reader")
		crowd := s.crowd(others)
		frozen.freeze()
		crowd.publish(1<<30, gone)
		s.wantCode(<-ended, irohub.CodeSlow)
		if len(slow) != 1 || slow[0].Number != 1 || slow[0].WaitingBytes > limit || slow[0].WaitingEvents == 0 {
			s.Errorf("OnBackpressure: %+v, want the frozen one", slow)
		}
		if stats := s.hub.Stats(); stats.Spokes != others || stats.CutOff != 1 {
			s.Errorf("stats: %+v", stats)
		}
	})
}

// The same, but with room in the queue: the frozen spoke's writer is blocked in the transport,
// over iroh inside the native library, until the WriteTimeout ends it.
func TestFrozen_WriterBlockedInTheTransport(t *testing.T) {
	const others, unread = 63, 32 << 20 // more than a transport buffers
	overEach(t, func(s *siege) {
		gone, ended := make(chan struct{}), make(chan error, 1)
		s.serve(irohub.HubOptions{
			MaxQueue:       2 * unread,
			WriteTimeout:   3 * time.Second,
			OnBackpressure: func(info irohub.SpokeInfo) { s.Errorf("cut off as too slow: %+v", info) },
			OnDisconnect: func(info irohub.SpokeInfo, err error) {
				if info.Number == 1 {
					ended <- err
					close(gone)
				}
			},
		})
		frozen := s.child("reader")
		crowd := s.crowd(others)
		frozen.freeze()
		crowd.publish(unread, gone)
		s.wantCode(<-ended, irohub.CodeTimeout)
		if n := s.hub.Stats().Spokes; n != others {
			s.Errorf("%d spokes, want %d", n, others)
		}
	})
}

// All spokes are frozen, and no two wait for the same event. The hub holds at most the queue
// limit for each, plus what the transport is writing.
func TestFrozen_MemoryIsBounded(t *testing.T) {
	const limit, spokes, size, writing = 1 << 20, deafSpokes, 1000, 72 << 10
	overEach(t, func(s *siege) {
		cut := make(chan irohub.SpokeInfo, spokes)
		s.serve(irohub.HubOptions{
			MaxQueue: limit, MaxSpokesPerNode: spokes, WriteTimeout: time.Hour,
			OnBackpressure: func(info irohub.SpokeInfo) { cut <- info },
		})
		s.child("deaf")
		before, most := heap(), 0
		payload := []byte(`"` + strings.Repeat("x", size) + `"`)
		for n := 0; s.hub.Stats().Spokes > 0; n++ {
			s.must(s.hub.Publish(s.ctx, irohub.Event{Type: "n", ID: fmt.Sprint(n % spokes), Payload: payload}))
			if n%(100*spokes) == 0 {
				most = max(most, heap()-before)
			}
		}
		if most >= spokes*(limit+writing) {
			s.Errorf("the heap grew by %d bytes, want less than %d", most, spokes*(limit+writing))
		}
		for range spokes {
			select {
			case info := <-cut:
				if info.WaitingBytes > limit {
					s.Errorf("%d bytes waited for one, the limit is %d", info.WaitingBytes, limit)
				}
			case <-s.ctx.Done():
				s.Fatal("not all were cut off as too slow")
			}
		}
		s.Logf("the heap grew by %d bytes, %.2f of a limit for each spoke", most, float64(most)/spokes/limit)
	})
}
