package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	eventSize = 256
	window    = 1024 // events that the slowest subscriber may be behind
)

// An event is JSON text of eventSize bytes: its number and the time it was published, and
// then filler.
var eventText = func() []byte {
	text := []byte(`{"seq":"________","at":"________________","text":"`)
	return append(append(text, bytes.Repeat([]byte("x"), eventSize-len(text)-2)...), `"}`...)
}()

const (
	seqAt  = len(`{"seq":"`)
	timeAt = len(`{"seq":"________","at":"`)
)

// epoch is what the times in events count from.
var epoch = time.Now()

// newEvent makes an event that its system may keep.
func newEvent(seq uint32) []byte {
	p := bytes.Clone(eventText)
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], seq)
	hex.Encode(p[seqAt:], b[:4])
	binary.BigEndian.PutUint64(b[:], uint64(time.Since(epoch)))
	hex.Encode(p[timeAt:], b[:])
	return p
}

// seqOf reads an event's number.
func seqOf(event []byte) (uint32, error) {
	var b [4]byte
	if len(event) != eventSize {
		return 0, fmt.Errorf("an event has %d bytes instead of %d", len(event), eventSize)
	}
	_, err := hex.Decode(b[:], event[seqAt:seqAt+8])
	return binary.BigEndian.Uint32(b[:]), err
}

// timeOf reads when an event was published.
func timeOf(event []byte) (time.Duration, error) {
	var b [8]byte
	_, err := hex.Decode(b[:], event[timeAt:timeAt+16])
	return time.Duration(binary.BigEndian.Uint64(b[:])), err
}

// An audience is the subscribers of a system. It checks that each gets every event once and in
// order, and holds the publisher back: after every step events the publisher needs a credit,
// which comes back once all subscribers have got those.
type audience struct {
	// Immutable.
	step    int // divides window
	credits int // in all
	timed   bool

	subs    []subscriber
	left    []atomic.Int32 // of each step underway: subscribers that have not got it
	credit  chan struct{}  // capacity credits: from the last subscriber of a step to the publisher
	failure chan error     // capacity 1: the first one

	// Owned by the publisher.
	seq   uint32
	stall *time.Timer
}

// A subscriber is touched by its client's goroutine alone, and by the publisher when no event is
// underway.
type subscriber struct {
	next   uint32          // event that it waits for
	delays []time.Duration // from publishing to here; of a timed audience
	_      [64]byte        // keeps the next one out of this one's cache line
}

func newAudience(n, step int, timed bool) *audience {
	a := &audience{
		step:    step,
		credits: window / step,
		timed:   timed,
		subs:    make([]subscriber, n),
		left:    make([]atomic.Int32, window/step),
		credit:  make(chan struct{}, window/step),
		failure: make(chan error, 1),
		stall:   time.NewTimer(0),
	}
	for i := range a.left {
		a.left[i].Store(int32(n))
		a.credit <- struct{}{}
	}
	return a
}

// deliver is called by subscriber i's client for each event, which is good during the call.
func (a *audience) deliver(i int, event []byte) {
	sub := &a.subs[i]
	seq, err := seqOf(event)
	if err != nil || seq != sub.next {
		a.fail(fmt.Errorf("subscriber %d got event %d and waits for %d (%v)", i, seq, sub.next, err))
		return
	}
	if a.timed {
		at, err := timeOf(event)
		if err != nil {
			a.fail(err)
			return
		}
		sub.delays = append(sub.delays, time.Since(epoch)-at)
	}
	sub.next++
	if int(sub.next)%a.step != 0 {
		return
	}
	left := &a.left[(int(sub.next)/a.step-1)%a.credits]
	if left.Add(-1) == 0 {
		left.Store(int32(len(a.subs)))
		a.credit <- struct{}{}
	}
}

// fail ends the run: something was lost, or a client has.
func (a *audience) fail(err error) {
	select {
	case a.failure <- err:
	default:
	}
}

// publish publishes step events.
func (a *audience) publish(s system) error {
	if err := a.take(); err != nil {
		return err
	}
	for range a.step {
		if err := s.publish(newEvent(a.seq)); err != nil {
			return err
		}
		a.seq++
	}
	if f, ok := s.(flusher); ok {
		return f.flush()
	}
	return nil
}

// patience is how long a system may make no progress at all.
const patience = 20 * time.Second

// take waits for a credit.
func (a *audience) take() error {
	select {
	case <-a.credit:
		return nil
	default:
	}
	a.stall.Reset(patience)
	select {
	case <-a.credit:
		return nil
	case err := <-a.failure:
		return err
	case <-a.stall.C:
		return fmt.Errorf("events are lost: of %d, not all have come %v later", a.seq, patience)
	}
}

// drain waits until every subscriber has got everything that was published.
func (a *audience) drain() error {
	for range a.credits {
		if err := a.take(); err != nil {
			return err
		}
	}
	for i := range a.subs {
		if next := a.subs[i].next; next != a.seq {
			return fmt.Errorf("subscriber %d got %d events of %d", i, next, a.seq)
		}
	}
	for range a.credits {
		a.credit <- struct{}{}
	}
	select {
	case err := <-a.failure:
		return err
	default:
		return nil
	}
}
