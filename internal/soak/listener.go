package main

import (
	"sync"
	"time"

	"irohub"
)

// A listener checks the events of a Subscription.
type listener struct {
	soak *soak
	name string
	sub  *irohub.Subscription
	done chan struct{} // closed when the Subscription has ended

	mu    sync.Mutex
	watch *watch
}

func (s *soak) listen(name string, sub *irohub.Subscription, w *watch) *listener {
	l := &listener{soak: s, name: name, sub: sub, watch: w, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for ev := range sub.Events() {
			l.see(ev)
		}
	}()
	return l
}

func (l *listener) see(ev irohub.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.soak.checked.Add(1)
	if err := l.watch.see(ev); err != nil {
		l.soak.fail("%s: %v", l.name, err)
	}
}

// wantAll waits until every published event has arrived, or cannot arrive any more.
func (l *listener) wantAll(cannot func() bool) {
	missing := func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.watch.missing()
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		what := missing()
		if what == "" || cannot() {
			return
		}
		if time.Now().After(end) {
			l.soak.fail("%s: never got %s (the Subscription: %v)", l.name, what, l.sub.Err())
			return
		}
	}
}

func (l *listener) close() {
	l.sub.Close()
	<-l.done
}
