package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
)

// A listener prints the events that spokes publish. The hub does not wait for its output. The
// listener drops events if they come faster than they are read, or if nobody reads them any more.
// The log says how many.
type listener struct {
	hub *irohub.Hub
	sub *irohub.Subscription // the current one; owned by take's goroutine
	out *sink
	log *slog.Logger

	running sync.WaitGroup // take and tell
	ended   chan struct{}  // closed by take when the hub's events have ended
	cuts    atomic.Int64   // how often the hub has cut off the Subscription since the last report

	// Owned by tell's goroutine, and after its end by close.
	missed int  // number of all events missed and counted
	gaps   bool // events were missed that nobody has counted
}

// listen subscribes to everything. Its goroutines end with the hub.
func listen(hub *irohub.Hub, out *sink, log *slog.Logger) (*listener, error) {
	sub, err := hub.Subscribe(context.Background()) // never waits for long: the hub answers at once
	if err != nil {
		return nil, err
	}
	l := &listener{hub: hub, sub: sub, out: out, log: log, ended: make(chan struct{})}
	l.running.Go(l.take)
	l.running.Go(l.tell)
	return l, nil
}

// take moves events from the Subscription to the sink. If the hub cuts off the Subscription as
// too slow, take subscribes again. It ends with the hub.
func (l *listener) take() {
	defer close(l.ended)
	p := newPrinter(l.out)
	for {
		for ev := range l.sub.Events() {
			p.print(ev)
		}
		end, ok := errors.AsType[*irohub.CloseError](l.sub.Err())
		if !ok || end.Code != irohub.CodeSlow {
			return
		}
		l.cuts.Add(1)
		var err error
		if l.sub, err = l.hub.Subscribe(context.Background()); err != nil {
			return // the hub is closed
		}
	}
}

// Missed events are reported after tellFirst. While more are missed, the pause between two reports
// doubles, up to tellLast.
const tellFirst, tellLast = time.Second, time.Minute

// tell is the goroutine that reports missed events. It ends when take has ended.
func (l *listener) tell() {
	for pause := tellFirst; ; {
		select {
		case <-time.After(pause):
		case <-l.ended:
			return
		}
		if l.report() {
			pause = min(2*pause, tellLast)
		} else {
			pause = tellFirst
		}
	}
}

// report logs how many events were missed since the last report. It returns false if none was.
func (l *listener) report() bool {
	missed, err := l.out.takeMissed()
	cuts := l.cuts.Swap(0)
	if missed == 0 && cuts == 0 {
		return false
	}
	l.missed += missed
	log := l.log.With("events", missed)
	if cuts > 0 {
		l.gaps = true
		log = log.With("uncounted_gaps", cuts)
	}
	if err != nil {
		log.Warn("events missed: nobody reads standard output any more", "err", err)
	} else {
		log.Warn("events missed: standard output is too slow")
	}
	return true
}

// close waits until all events are printed, or until end. The hub must have ended. The error says
// how many events were missed since the start.
func (l *listener) close(end context.Context) error {
	select {
	case <-l.ended:
	case <-end.Done():
		return errBlocked
	}
	l.running.Wait()
	l.out.close(end)
	l.report()
	switch {
	case l.gaps:
		return fmt.Errorf("more than %d events were not printed", l.missed)
	case l.missed > 0:
		return fmt.Errorf("%d events were not printed", l.missed)
	}
	return nil
}
