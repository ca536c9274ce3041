package irohub

import "sync/atomic"

// A gate stands before a channel that any goroutine may send to and one goroutine
// receives from. Who sends enters first and leaves afterwards. The receiver shuts the
// gate and then waits until everybody has left. What the channel holds by then is all
// that it will ever hold, so that nothing accepted is lost.
type gate struct {
	closing chan struct{} // closed by shut: who is inside and waits gives up
	inside  atomic.Int64
	empty   chan struct{} // capacity 1: the last one has left a gate that is shut
}

func newGate() gate {
	return gate{closing: make(chan struct{}), empty: make(chan struct{}, 1)}
}

// enter says whether the gate is open. Who has entered must leave.
func (g *gate) enter() bool {
	g.inside.Add(1)
	if isClosed(g.closing) {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.inside.Add(-1) == 0 && isClosed(g.closing) {
		select {
		case g.empty <- struct{}{}:
		default:
		}
	}
}

// shut lets nobody in any more. It is the receiver's, which calls it once and then
// drain.
func (g *gate) shut() { close(g.closing) }

// drain gives take all that was sent by those who had entered.
func drain[T any](g *gate, from <-chan T, take func(T)) {
	for g.inside.Load() > 0 {
		select {
		case v := <-from:
			take(v)
		case <-g.empty:
		}
	}
	for len(from) > 0 {
		take(<-from)
	}
}
