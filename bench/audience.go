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
	window    = 1024 // the most events that the slowest subscriber may be behind
)

// An event is JSON text of eventSize bytes: its number, its publication time, and filler.
var eventText = func() []byte {
	text := []byte(`{"seq":"________","at":"________________","text":"`)
	return append(append(text, bytes.Repeat([]byte("x"), eventSize-len(text)-2)...), `"}`...)
}()

const (
	seqAt  = len(`{"seq":"`)
	timeAt = len(`{"seq":"________","at":"`)
)

// epoch is the origin of the times in events.
var epoch = time.Now()

// newEvent makes an event. The system may keep its bytes.
func newEvent(seq uint32) []byte {
	p := bytes.Clone(eventText)
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], seq)
	hex.Encode(p[seqAt:], b[:4])
	binary.BigEndian.PutUint64(b[:], uint64(time.Since(epoch)))
	hex.Encode(p[timeAt:], b[:])
	return p
}

// seqOf returns an event's number.
func seqOf(event []byte) (uint32, error) {
	var b [4]byte
	if len(event) != eventSize {
		return 0, fmt.Errorf("an event has %d bytes instead of %d", len(event), eventSize)
	}
	_, err := hex.Decode(b[:], event[seqAt:seqAt+8])
	return binary.BigEndian.Uint32(b[:]), err
}

// timeOf returns the time at which an event was published.
func timeOf(event []byte) (time.Duration, error) {
	var b [8]byte
	_, err := hex.Decode(b[:], event[timeAt:timeAt+16])
	return time.Duration(binary.BigEndian.Uint64(b[:])), err
}

// An audience is the subscribers of a system. It checks that each receives every event once and in order.
// It also limits the publisher: for every step events, the publisher needs a credit, which is returned once
// all subscribers have received those events.
type audience struct {
	// Immutable.
	step    int // events per credit; divides window
	credits int // number of credits
	timed   bool

	subs    []subscriber
	left    []atomic.Int32 // for each step in flight: subscribers that have not received it
	credit  chan struct{}  // capacity credits; from the last subscriber of a step to the publisher
	failure chan error     // capacity 1: the first failure

	// Owned by the publisher.
	seq   uint32
	stall *time.Timer
}

// A subscriber is used by its client's goroutine, and by the publisher only when no event is in flight.
type subscriber struct {
	next   uint32          // number of the next expected event
	delays []time.Duration // latencies; only in a timed audience
	_      [64]byte        // keeps the next subscriber in another cache line
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

// deliver is called by subscriber i's client for each event. The event is valid only during the call.
func (a *audience) deliver(i int, event []byte) {
	sub := &a.subs[i]
	seq, err := seqOf(event)
	if err != nil || seq != sub.next {
		a.fail(fmt.Errorf("subscriber %d received event %d instead of %d (%v)", i, seq, sub.next, err))
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

// fail ends the run, because an event was lost or a client failed.
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

// patience is how long a system may go without any progress.
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
		return fmt.Errorf("events were lost: not all of %d events arrived within %v", a.seq, patience)
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
			return fmt.Errorf("subscriber %d received %d of %d events", i, next, a.seq)
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
