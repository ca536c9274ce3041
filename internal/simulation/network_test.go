package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"irohub"
)

// A weather is how a network disturbs its traffic. The zero value is calm.
type weather struct {
	latency   time.Duration // the largest delay of a piece
	split     int           // the most bytes in a piece; 0: not split
	window    int           // the most bytes buffered by one half of a stream
	cut       float64       // the fraction of connections that end after some byte
	cutBytes  int           // that byte is among the first cutBytes
	silent    float64       // the fraction of cuts that one side notices late
	unreached float64       // the fraction of dials without an answer
}

// A network connects endpoints by host. All randomness comes from one seed, and all delays are
// timers, so the network is at rest when its callers are.
type network struct {
	mu        sync.Mutex
	rand      *rand.Rand
	weather   weather
	single    float64 // the fraction of endpoints with one stream to a connection, like those of TLS
	endpoints map[string]*endpoint
	conns     map[*pair]struct{} // connections whose end was not seen by both sides
	digest    uint64             // a hash of all that happened
	pieces    int                // number of pieces carried
	count     int
}

func newNetwork(r *rand.Rand) *network {
	return &network{rand: r, endpoints: make(map[string]*endpoint), conns: make(map[*pair]struct{})}
}

// note adds an event to the digest. mu must be held.
func (n *network) note(what byte, size int) {
	for _, x := range [...]uint64{uint64(what), uint64(size), uint64(time.Now().UnixNano())} {
		n.digest = bits.RotateLeft64((n.digest^x)*0x9e3779b97f4a7c15, 29) // any mixing will do
	}
}

// chance returns true with the given probability. mu must be held.
func (n *network) chance(p float64) bool { return n.rand.Float64() < p }

// delay returns a random latency. mu must be held.
func (n *network) delay() time.Duration {
	if n.weather.latency <= 0 || n.chance(0.3) {
		return 0
	}
	return time.Duration(n.rand.Int64N(int64(n.weather.latency)))
}

// An endpoint is an irohub.Endpoint of the network.
type endpoint struct {
	net    *network
	addr   irohub.Addr
	calls  chan *incoming
	closed chan struct{}

	// Guarded by net.mu.
	over   bool
	single bool // its connections have one stream
	dials  int
	losses int // connections that it dialled and that have ended on at least one side
	known  int // how many of these had ended before its last dial
	last   *pair
}

var errUnreached = errors.New("simulation: nobody answers")

// endpoint makes an endpoint at a host and takes the host from its previous owner.
func (n *network) endpoint(id irohub.NodeID, host string) *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := &endpoint{
		net:    n,
		addr:   irohub.Addr{ID: id, Hosts: []string{host}},
		calls:  make(chan *incoming),
		closed: make(chan struct{}),
		single: n.chance(n.single),
	}
	n.endpoints[host] = e
	return e
}

func (e *endpoint) ID() irohub.NodeID { return e.addr.ID }

func (e *endpoint) Addr() irohub.Addr { return e.addr }

// lost returns two numbers of ended connections: those that ended before the last dial, which
// the dialler knows of, and all. A spoke may not know of the difference. What it sends on such
// a connection is lost, and what it receives from one is old.
func (e *endpoint) lost() (known, all int) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	return e.known, e.losses
}

// link returns the newest connection that the endpoint dialled; nil if there is none.
func (e *endpoint) link() *pair {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.last == nil || e.last.ended {
		return nil
	}
	return e.last
}

// Close ends the endpoint and its connections.
func (e *endpoint) Close() error {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.over {
		return nil
	}
	e.over = true
	close(e.closed)
	if host := e.addr.Hosts[0]; e.net.endpoints[host] == e {
		delete(e.net.endpoints, host)
	}
	for p := range e.net.conns {
		for _, c := range p.sides {
			if c.endpoint == e {
				c.close(&irohub.CloseError{Reason: "endpoint closed"})
			}
		}
	}
	return nil
}

func (e *endpoint) Accept(ctx context.Context) (irohub.Incoming, error) {
	select {
	case in := <-e.calls:
		return in, nil
	case <-e.closed:
		return nil, fmt.Errorf("simulation: endpoint closed: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	n := e.net
	n.mu.Lock()
	to := n.endpoints[addr.Hosts[0]]
	lost, pause := n.chance(n.weather.unreached), n.delay()
	n.note('d', 0)
	e.known = e.losses
	n.mu.Unlock()
	if lost {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.closed:
		}
	}
	if err := sleep(ctx, pause); err != nil {
		return nil, err
	}
	if isClosed(e.closed) {
		return nil, fmt.Errorf("simulation: endpoint closed: %w", net.ErrClosed)
	}
	if to == nil || to.addr.ID != addr.ID {
		return nil, errUnreached
	}
	in := &incoming{from: e, to: to, answer: make(chan error, 1)}
	select {
	case to.calls <- in:
	case <-to.closed:
		return nil, errUnreached
	case <-e.closed:
		return nil, fmt.Errorf("simulation: endpoint closed: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var err error
	select {
	case err = <-in.answer:
	case <-to.closed:
		err = errUnreached
	case <-e.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return in.settle(err)
}

// sleep waits for simulated time, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// An incoming is a Dial that waits for its Handshake.
type incoming struct {
	from, to *endpoint
	answer   chan error

	// Guarded by net.mu.
	gone bool // the dialler has stopped waiting for it
	pair *pair
}

// settle ends the dialler's handshake with err, unless the connection was faster.
func (in *incoming) settle(err error) (irohub.Conn, error) {
	n := in.from.net
	n.mu.Lock()
	defer n.mu.Unlock()
	in.gone = true
	if err == nil && in.pair != nil {
		if in.from.over {
			in.pair.sides[0].close(&irohub.CloseError{Reason: "endpoint closed"})
			return nil, net.ErrClosed
		}
		return in.pair.sides[0], nil
	}
	if in.pair != nil {
		in.pair.sides[0].close(&irohub.CloseError{Reason: "the dialler gave up"})
	}
	if err == nil {
		err = errUnreached
	}
	return nil, err
}

func (in *incoming) RemoteAddr() string { return in.from.addr.Hosts[0] }

func (in *incoming) Refuse() { in.answer <- errUnreached }

func (in *incoming) Handshake(ctx context.Context) (irohub.Conn, error) {
	n := in.from.net
	n.mu.Lock()
	pause := n.delay() + n.delay()
	n.mu.Unlock()
	if err := sleep(ctx, pause); err != nil {
		in.Refuse()
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if in.gone || in.from.over || in.to.over {
		in.answer <- errUnreached
		return nil, errUnreached
	}
	in.pair = n.pair(in.from, in.to)
	in.answer <- nil
	return in.pair.sides[1], nil
}

// incoming counts an endpoint's open connections of a minimum age, by dialler.
func (e *endpoint) incoming(age time.Duration) map[irohub.NodeID]int {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	found := make(map[irohub.NodeID]int)
	for p := range e.net.conns {
		if c := p.sides[1]; c.endpoint == e && !c.over && !c.goodbye && time.Since(p.born) > age {
			found[p.sides[0].endpoint.addr.ID]++
		}
	}
	return found
}

// open returns the connections that neither side has ended, always in the same order. mu must
// be held.
func (n *network) open() (open []*pair) {
	for p := range n.conns {
		if !p.ended {
			open = append(open, p)
		}
	}
	slices.SortFunc(open, func(a, b *pair) int { return a.number - b.number })
	return open
}

func (n *network) cutOne(dice *rand.Rand) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open := n.open(); len(open) > 0 {
		open[dice.IntN(len(open))].cut()
	}
}

// cutSoon cuts the endpoint's connection within the next bytes.
func (e *endpoint) cutSoon() {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.last != nil && !e.last.ended {
		e.last.cutAfter = 1 + e.net.rand.IntN(60)
	}
}

// stallOne delays the bytes of one side for a while.
func (n *network) stallOne(dice *rand.Rand) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if open := n.open(); len(open) > 0 {
		c := open[dice.IntN(len(open))].sides[dice.IntN(2)]
		until := time.Now().Add(time.Duration(dice.Int64N(int64(20 * time.Second))))
		for _, s := range c.streams {
			s.in.stalled = until
			s.in.change()
		}
	}
}

// heal makes the weather calm, for existing connections too.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.weather = weather{}
	for p := range n.conns {
		p.cutAfter = 0
		for _, c := range p.sides {
			for _, s := range c.streams {
				s.in.stalled, s.in.window = time.Time{}, 64<<10
				s.in.change()
			}
		}
	}
}

// closeAll ends all endpoints.
func (n *network) closeAll() {
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.endpoints))
	n.mu.Unlock()
	for _, e := range all {
		e.Close()
	}
}
