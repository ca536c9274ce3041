//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"errors"
	"net"

	"irohub"
)

// arrivals takes everything that a peer starts on a connection. The handshake allows the
// peer 100 streams of each kind, each with a window of 1.25 MB, and as many bytes of
// datagrams. The library has no setting for this and holds it all until somebody takes it.
// Therefore one goroutine of each connection takes everything at once. It stops a
// unidirectional stream. A bidirectional stream waits for AcceptStream or is aborted (see
// [link.adopt]). A datagram closes the connection.
//
// The goroutine waits for all three kinds in one place. Three goroutines would need several
// times the memory.
type arrivals struct {
	l     *link
	token chan struct{} // capacity 1: a stream waits; never closed
	done  chan struct{} // closed by run: no more streams arrive, and link.why is set

	// Owned by newConn, then by run.
	streams, stray, datagrams arrival
}

// An arrival takes what arrives of one kind.
type arrival struct {
	what C.int
	w    *waiter
	r    result // a pending operation, or a result that has been used
	over bool   // no more of this kind will arrive
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
		live.Add(1) // for the pending operation
	}
}

func (a *arrivals) kinds() [3]*arrival { return [...]*arrival{&a.streams, &a.stray, &a.datagrams} }

// run starts when the endpoint adopts the connection and ends when the connection is
// closed. Endpoint.Close waits for it.
func (a *arrivals) run() {
	for !a.streams.over {
		came := false
		for _, k := range a.kinds() { // in turns, so that no kind delays another
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

// take takes one arrival of the kind, and reports whether there was one. Once the
// connection has ended, the library first returns what arrived before, and then an error.
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
				a.l.close(0, "") // the connection is open, but the library failed, and nobody would take further streams
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
		if r.status == C.IROHUB_PENDING { // does not happen: nobody else uses the stream
			C.irohub_drop(r.op, r.future, k.w.id())
		} else {
			failed(&r)
		}
		free(C.IROHUB_RECV, &s)
	case &a.datagrams:
		taken(&k.r)
		a.l.close(irohub.CodeProtocol, "the protocol does not use datagrams")
	}
}
