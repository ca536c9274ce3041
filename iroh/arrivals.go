//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"errors"
	"net"

	"irohub"
)

// Arrivals are what a peer may begin on a connection. The handshake grants it 100 streams
// of each kind, with a window of 1.25 MB each, and as much of datagrams; the library knows
// no other setting, and holds all that until somebody takes it. So one goroutine of each
// connection takes at once whatever comes: a unidirectional stream is stopped, a
// bidirectional one waits for AcceptStream or is ended (see [link.adopt]), and a datagram
// is the end of the connection.
//
// All that it waits for, it waits for in one place: a goroutine each would cost several times
// the memory.
type arrivals struct {
	l     *link
	token chan struct{} // capacity 1: a stream waits. Never closed.
	done  chan struct{} // closed by run: no stream comes any more, and link.why is set

	// Owned by run, and before it by newConn.
	streams, stray, datagrams arrival
}

// An arrival is what comes of one kind.
type arrival struct {
	what C.int
	w    *waiter
	r    result // pending, or over
	over bool   // there will be none any more
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (a *arrivals) init(l *link) {
	a.l = l
	a.token, a.done = make(chan struct{}, 1), make(chan struct{})
	a.streams.what, a.stray.what, a.datagrams.what = C.IROHUB_ACCEPT_STREAM, C.IROHUB_ACCEPT_UNI, C.IROHUB_DATAGRAM
	for _, k := range a.kinds() {
		k.w = getWaiter()
		live.Add(1) // the operation that waits
	}
}

func (a *arrivals) kinds() [3]*arrival { return [...]*arrival{&a.streams, &a.stray, &a.datagrams} }

// run begins as the endpoint adopts the connection. Closing the connection ends it, and
// Endpoint.Close waits for that.
func (a *arrivals) run() {
	for !a.streams.over {
		came := false
		for _, k := range a.kinds() { // in turns, so that no kind keeps another waiting
			came = a.take(k) || came
		}
		if came || a.streams.over {
			continue
		}
		select {
		case <-a.streams.w.ready:
		case <-a.stray.w.ready:
		case <-a.datagrams.w.ready:
		case <-a.l.gone:
			a.streams.over = true
		}
	}
	for _, k := range a.kinds() {
		if k.r.status == C.IROHUB_PENDING {
			C.irohub_drop(k.r.op, k.r.future, k.w.id())
		}
		putWaiter(k.w)
		live.Add(-1)
	}
	close(a.done)
}

// take takes one of a kind, and says whether there was one. Once the connection has ended,
// the library gives what had come before, and then an error.
func (a *arrivals) take(k *arrival) (came bool) {
	switch {
	case k.over:
		return false
	case k.r.status != C.IROHUB_PENDING:
		k.r = result{}
		if a.l.with(func(h handle) { C.irohub_start(k.what, h, k.w.next(), &k.r) }) != nil {
			k.over = true
			return false
		}
	case k.w.isWoken():
		op, future := k.r.op, k.r.future
		k.r = result{}
		C.irohub_resume(op, future, nil, 0, k.w.next(), &k.r)
	}
	if k.r.status == C.IROHUB_PENDING {
		return false
	}
	if err := failed(&k.r); err != nil {
		k.over = true
		if k == &a.streams {
			if why := a.l.lost(a.l.explain(err)); !errors.Is(why, net.ErrClosed) {
				a.l.close(0, "") // it goes on, but the library has failed, and nobody would take what comes
			}
		}
		return false
	}
	a.arrived(k)
	return true
}

func (a *arrivals) arrived(k *arrival) {
	switch k {
	case &a.streams:
		a.l.newStream(&k.r, true)
	case &a.stray:
		s, r := own(k.r.value), result{}
		C.irohub_stop(s, irohub.CodeProtocol, k.w.next(), &r)
		if r.status == C.IROHUB_PENDING { // it is not: nobody else has it
			C.irohub_drop(r.op, r.future, k.w.id())
		} else {
			failed(&r)
		}
		free(C.IROHUB_RECV, &s)
	case &a.datagrams:
		taken(&k.r)
		a.l.close(irohub.CodeProtocol, "a datagram, which the protocol does not use")
	}
}
