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

// A listener prints what spokes publish. A hub outlives its output: events that come faster than
// they are taken, or when nobody takes them any more, are missed, and the log says how many.
type listener struct {
	hub *irohub.Hub
	sub *irohub.Subscription // the present one
	out *sink
	log *slog.Logger

	running sync.WaitGroup // its goroutines
	ended   chan struct{}  // closed when the hub's events have ended
	cuts    atomic.Int64   // how often the hub has cut the Subscription off, since that was last told

	// Owned by tell's goroutine, and then by close.
	missed int  // events, in all
	gaps   bool // and others, which nobody has counted
}

// listen subscribes to everything. Its goroutines end with the hub.
func listen(hub *irohub.Hub, out *sink, log *slog.Logger) (*listener, error) {
	sub, err := hub.Subscribe(context.Background()) // it waits for nobody but the hub
	if err != nil {
		return nil, err
	}
	l := &listener{hub: hub, sub: sub, out: out, log: log, ended: make(chan struct{})}
	l.running.Go(l.take)
	l.running.Go(l.tell)
	return l, nil
}

// take does nothing but take events: the hub waits for no Subscription, but cuts off what does
// not keep up. Then it subscribes again.
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

// What is missed is told once in tellFirst, and while it goes on, less and less often.
const tellFirst, tellLast = time.Second, time.Minute

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

// report logs what was missed since the last time, if anything was.
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
		log = log.With("and_more_since_cut_off", cuts)
	}
	if err != nil {
		log.Warn("events missed: the output is gone", "err", err)
	} else {
		log.Warn("events missed: the output is slower than they come")
	}
	return true
}

// close is for when the hub has ended. It waits until what came before is printed, or until end.
// Its error says what was not, ever.
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
