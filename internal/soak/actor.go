package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/key"
)

// actor runs one spoke after another on one endpoint. The actor's number determines their kind.
func (s *soak) actor(i int, all []int) {
	var rested sync.Once
	a := &actor{soak: s, all: all, atRest: func() { rested.Do(s.resting.Done) }}
	defer a.atRest()
	ep, err := transports.Bind(context.Background(), s.transport, key.Secret{}, "")
	if err != nil {
		s.fail("bind: %v", err)
		return
	}
	defer ep.Close()
	a.endpoint = &frail{Endpoint: ep}
	life := a.live
	switch {
	case i%25 == 0:
		life = a.freeze
	case i%25 == 1:
		life = a.doze
	case i%10 == 2:
		a.publishes = true
	case i%2 == 1:
		a.returns = true
	}
	a.wide = i%50 == 3
	for life() {
	}
}

// The functions that run an actor's lives return whether another life should follow.
type actor struct {
	*soak
	endpoint  *frail
	all       []int
	publishes bool
	returns   bool // its Spokes reconnect
	wide      bool // it subscribes to the pattern of all topics
	atRest    func()
}

func (a *actor) String() string { return "spoke " + a.endpoint.ID().String()[:8] }

func (a *actor) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// A life is a Spoke and its listeners.
type life struct {
	*actor
	spoke     *irohub.Spoke
	own       *source // its events; nil: it publishes nothing
	losses    atomic.Int64
	before    int64 // number of losses when it came to rest
	returned  atomic.Int64
	lost      chan struct{} // signals that a Spoke without reconnection has lost its connection
	listeners []*listener
}

func (a *actor) dial(maxQueue int) *life {
	l := &life{actor: a, lost: make(chan struct{})}
	opts := irohub.SpokeOptions{
		MaxQueue:    maxQueue,
		NoReconnect: !a.returns,
		MinBackoff:  a.pace / 4,
		MaxBackoff:  2 * a.pace,
		OnDisconnect: func(error) {
			l.losses.Add(1)
			if !a.returns {
				close(l.lost)
			}
		},
		OnReconnect: func() {
			l.returned.Add(1)
			a.soak.returns.Add(1)
		},
	}
	err := a.persist(func(ctx context.Context) (err error) {
		l.spoke, err = irohub.Dial(ctx, a.endpoint, a.addr, opts)
		return err
	})
	if err != nil {
		a.fail("%s: %v", a, err)
		return nil
	}
	a.connects.Add(1)
	return l
}

// persist dials until it is connected. On an overloaded machine, the hub may abandon a handshake.
func (a *actor) persist(dial func(context.Context) error) error {
	ctx, cancel := a.patience()
	defer cancel()
	for {
		err := dial(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		a.redials.Add(1)
		time.Sleep(around(a.pace / 4))
	}
}

// live runs the life of a spoke that reads.
func (a *actor) live() (again bool) {
	l := a.dial(64 << 20)
	if l == nil {
		return false
	}
	defer l.end()
	stop, stopped := make(chan struct{}), make(chan struct{})
	if a.publishes {
		l.own = a.ledger.open(a.endpoint.ID())
		go l.publish(stop, stopped)
	} else {
		close(stopped)
	}
	for range 1 + rand.IntN(3) {
		l.subscribe()
	}
	end := time.NewTimer(around(10 * a.pace))
	defer end.Stop()
	change := time.NewTicker(around(a.pace))
	defer change.Stop()
	for {
		select {
		case <-change.C:
			l.change()
		case <-end.C:
			if a.returns && rand.IntN(4) > 0 {
				a.endpoint.breakOff()
				end.Reset(around(10 * a.pace))
				continue
			}
			close(stop)
			if rand.IntN(2) == 0 {
				a.endpoint.breakOff()
				<-stopped
			} else {
				<-stopped
				l.finish()
			}
			return true
		case <-l.lost: // as too slow; otherwise the hub has reported the reason
			close(stop)
			<-stopped
			return true
		case <-a.rest:
			close(stop)
			<-stopped
			l.settle()
			return false
		}
	}
}

// finish ends the life without losing an event.
func (l *life) finish() {
	err := l.spoke.Close()
	if l.own != nil && err == nil {
		l.own.state.Store(complete)
	}
}

// unsettled reports whether a connection was lost that should have lasted to the end. The hub has checked
// the reason.
func (l *life) unsettled() bool { return l.losses.Load() > l.before }

// settle ends the last life once all events have arrived.
func (l *life) settle() {
	for end := time.Now().Add(patience); l.returns && l.returned.Load() < l.losses.Load(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			l.fail("%s: has not come back", l)
			return
		}
	}
	l.before = l.losses.Load()
	if l.own != nil {
		l.publishing.Add(1) // valid, as the hub still counts until this actor is at rest
	}
	l.atRest()
	<-l.last
	if l.own != nil {
		l.publishLast()
		l.publishing.Done()
	}
	<-l.check
	for _, sub := range l.listeners {
		sub.wantAll(l.unsettled)
	}
	if err := l.spoke.Close(); err != nil && !l.unsettled() {
		l.fail("%s: closing: %v", l, err)
	}
}

// publish publishes at intervals, on random topics, until it is told to stop or the connection is lost.
func (l *life) publish(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	each := 20 * time.Second / time.Duration(l.rate)
	for {
		select {
		case <-time.After(around(each)):
		case <-stop:
			return
		case <-l.lost:
			return
		}
		l.spoke.Publish(context.Background(), l.own.event(rand.IntN(l.topics), rand.IntN(smallPad)))
	}
}

// publishLast publishes on each topic and makes sure that the hub has received everything.
func (l *life) publishLast() {
	ctx, cancel := l.patience()
	defer cancel()
	var err error
	for t := 0; t < l.topics && err == nil; t++ {
		err = l.spoke.Publish(ctx, l.own.event(t, 0))
	}
	if err == nil {
		err = l.spoke.Flush(ctx)
	}
	switch {
	case err == nil:
		l.own.state.Store(final)
	case !l.unsettled():
		l.fail("%s: publishing its last: %v", l, err)
	}
}

// subscribe adds a listener to some topics.
func (l *life) subscribe() {
	topics := rand.Perm(l.topics)[:1+rand.IntN(3)]
	if l.wide && len(l.listeners) == 0 {
		topics = l.all
	}
	if sub := l.listenTo(topics); sub != nil {
		l.listeners = append(l.listeners, sub)
	}
}

func (l *life) listenTo(topics []int) *listener {
	var losses func() int
	if l.returns {
		losses = func() int { return int(l.losses.Load()) }
	}
	w := l.ledger.newWatch(l.own, losses, topics...)
	names := []string{"t:*"}
	if len(topics) < len(l.all) {
		names = nil
		for _, t := range topics {
			names = append(names, topicName(t))
		}
	}
	ctx, cancel := l.patience()
	defer cancel()
	sub, err := l.spoke.Subscribe(ctx, names...)
	if err != nil {
		l.failSubscribing(err)
		return nil
	}
	w.begin()
	return l.listen(l.String(), sub, w)
}

// failSubscribing reports an error, except the loss of the connection, whose reason the hub checks.
func (l *life) failSubscribing(err error) {
	if errors.Is(err, net.ErrClosed) && !l.returns {
		return
	}
	l.fail("%s: subscribing: %v (%d losses, %d returns)", l, err, l.losses.Load(), l.returned.Load())
}

// change ends the oldest Subscription and makes a new one.
func (l *life) change() {
	if len(l.listeners) > 0 {
		l.listeners[0].close()
		l.listeners = l.listeners[1:]
	}
	l.subscribe()
}

func (l *life) end() {
	l.spoke.Close()
	if l.own != nil {
		l.own.state.CompareAndSwap(open, broken)
	}
	for _, sub := range l.listeners {
		sub.close()
	}
}
