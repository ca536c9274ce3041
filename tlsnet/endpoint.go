package tlsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"irohub"
	"irohub/key"
)

// Options configure an [Endpoint]. The zero value is valid: a new identity that only dials.
type Options struct {
	// Identity.

	// SecretKey determines the endpoint's NodeID. Zero: a new random key.
	SecretKey key.Secret

	// ALPN is the protocol name, which must be the same on both ends. Empty: [irohub.ALPN].
	ALPN string

	// Network.

	// Addr is the IP:PORT to listen on, for example "127.0.0.1:0". Port 0 chooses a free
	// port; ":4433" listens on every address. Empty: the endpoint only dials.
	Addr string

	// Listener is one that listens already, of TCP without TLS, in the place of Addr: one
	// that a service manager has handed in, for instance. The endpoint closes it, also
	// where Bind fails. Nil: Addr says where to listen.
	Listener net.Listener
}

// An Endpoint is a node's place in a network of TCP and TLS. It implements
// [irohub.Endpoint]; its methods may be called from several goroutines.
type Endpoint struct {
	// Immutable.
	id       irohub.NodeID
	alpn     string
	config   *tls.Config
	listener net.Listener // nil: it only dials
	patience int          // the most connections that may linger

	// accepted: from the accept loop, its only sender, to Accept. Unbuffered, so that
	// peers wait where they cost least: in the kernel. Never closed.
	accepted chan *incoming
	scarce   chan *scarcity // from the accept loop to Accept; capacity 1; never closed
	broken   chan struct{}  // closed by the accept loop when it fails, once failure is set
	failure  error

	closed chan struct{}  // closed by Close
	tasks  sync.WaitGroup // the accept loop, and every connection's main goroutine

	mu        sync.Mutex
	held      map[*held]struct{} // handshakes, dials and waiting peers, which Close ends; nil once closed
	conns     map[*conn]struct{} // open ones; nil once closed
	lingering []*conn            // ended connections that wait until the peer has received the close; oldest first
}

// maxLingering is the most ended connections that wait for their peers. A well-behaved peer
// takes one round trip. Others would hold a descriptor for all of closeTimeout, and no
// limit of a hub counts them any more.
const maxLingering = 1024

// Bind opens an endpoint. ctx bounds the opening alone.
func Bind(ctx context.Context, o Options) (_ *Endpoint, err error) {
	listener := o.Listener
	defer func() {
		if err != nil && listener != nil {
			listener.Close()
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	secret := o.SecretKey
	if secret.IsZero() {
		secret = key.New()
	}
	alpn := o.ALPN
	if alpn == "" {
		alpn = irohub.ALPN
	}
	config, err := newConfig(secret, alpn)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Addr == "":
	case listener != nil:
		return nil, fmt.Errorf("%w: Options.Addr is %q, but there is a Listener too", ErrAddr, o.Addr)
	default:
		if err := checkAddr(o.Addr); err != nil {
			return nil, err
		}
		// Connections are kept alive by us, which notices more than the kernel does.
		if listener, err = (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", o.Addr); err != nil {
			return nil, fail("bind "+o.Addr, nil, briefly{err})
		}
	}
	e := newEndpoint(secret.ID(), alpn, config)
	if listener != nil {
		e.listen(listener)
	}
	return e, nil
}

func newEndpoint(id irohub.NodeID, alpn string, config *tls.Config) *Endpoint {
	return &Endpoint{
		id:       id,
		alpn:     alpn,
		config:   config,
		patience: maxLingering,
		accepted: make(chan *incoming),
		scarce:   make(chan *scarcity, 1),
		broken:   make(chan struct{}),
		closed:   make(chan struct{}),
		held:     make(map[*held]struct{}),
		conns:    make(map[*conn]struct{}),
	}
}

// checkAddr accepts IP addresses only: a host name needs a lookup and may have several
// addresses.
func checkAddr(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		if host == "" {
			host = "::"
		}
		_, err = netip.ParseAddrPort(net.JoinHostPort(host, port))
	}
	if err != nil {
		return fmt.Errorf("%w: Options.Addr: %q is not IP:PORT: %w", ErrAddr, s, err)
	}
	return nil
}

// ID is the endpoint's own NodeID.
func (e *Endpoint) ID() irohub.NodeID { return e.id }

// Addr returns where others can reach the endpoint. If it listens on every address, these
// are the addresses of this machine. If it only dials, there are none.
func (e *Endpoint) Addr() irohub.Addr {
	addr := irohub.Addr{ID: e.id}
	if e.listener == nil {
		return addr
	}
	bound, err := netip.ParseAddrPort(e.listener.Addr().String())
	if err != nil {
		return addr
	}
	if !bound.Addr().IsUnspecified() {
		addr.Hosts = []string{bound.String()}
		return addr
	}
	ifaces, _ := net.InterfaceAddrs()
	for _, iface := range ifaces {
		p, err := netip.ParsePrefix(iface.String())
		if ip := p.Addr(); err == nil && (ip.Is4() || bound.Addr().Is6()) && !ip.IsLinkLocalUnicast() {
			addr.Hosts = append(addr.Hosts, netip.AddrPortFrom(ip, bound.Port()).String())
		}
	}
	return addr
}

// listen starts the accept loop. Close ends the loop and waits for it.
func (e *Endpoint) listen(l net.Listener) {
	e.listener = l
	e.tasks.Go(func() {
		if e.failure = e.acceptLoop(); e.failure != nil {
			close(e.broken)
		}
	})
}

func (e *Endpoint) acceptLoop() error {
	var pause time.Duration
	told := false
	for {
		raw, err := e.listener.Accept()
		if vanished := isOneOf(err, vanished); !vanished && temporary(err) && !told {
			told = true
			e.scarce <- &scarcity{briefly{err}} // there is room: the last one was taken, or told is set
		}
		switch {
		case err == nil:
			pause, told = 0, false
			select {
			case <-e.scarce: // the shortage is over, and nobody has heard of it
			default:
			}
			e.offer(raw)
		case errors.Is(err, net.ErrClosed):
			return nil
		case temporary(err):
			// The shortage ends as connections end. Until then peers wait in the kernel.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-e.closed:
				return nil
			}
		default:
			return fmt.Errorf(prefix+"accept: %w", briefly{err})
		}
	}
}

// temporary reports whether accepting may succeed later: once there are descriptors or
// memory again, or with another peer.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return isOneOf(err, scarce) || isOneOf(err, vanished) || errors.As(err, &t) && t.Temporary()
}

func (e *Endpoint) offer(raw net.Conn) {
	in := &incoming{endpoint: e, raw: raw}
	var ok bool
	if in.release, ok = e.hold(func() { raw.Close() }); !ok {
		raw.Close()
		return
	}
	select {
	case e.accepted <- in:
	case <-e.closed: // Close closes raw
	}
}

// Accept waits for the next peer that wants to connect. Once the endpoint is closed, it
// returns an error that wraps net.ErrClosed.
//
// When there are no descriptors or no memory, Accept returns an error whose Temporary
// method returns true. It does so once until a peer has been accepted again. Meanwhile the
// endpoint keeps trying, and peers wait in the kernel.
func (e *Endpoint) Accept(ctx context.Context) (irohub.Incoming, error) {
	select {
	case <-e.closed: // checked first: the select below would choose at random
		return nil, errEndpointClosed
	default:
	}
	if e.listener == nil {
		return nil, fmt.Errorf("%w: Options.Addr and Listener are empty, so that this endpoint only dials", ErrAddr)
	}
	select {
	case in := <-e.accepted:
		return in, nil
	case s := <-e.scarce:
		return nil, s
	case <-e.broken:
		return nil, e.failure
	case <-e.closed:
		return nil, errEndpointClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// An incoming is a peer that wants to connect.
type incoming struct {
	endpoint *Endpoint
	raw      net.Conn
	release  func() // tells the endpoint that Close need not close raw
}

// RemoteAddr implements [irohub.Incoming].
func (in *incoming) RemoteAddr() string { return in.raw.RemoteAddr().String() }

// Handshake implements [irohub.Incoming].
func (in *incoming) Handshake(ctx context.Context) (irohub.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// From here on, Close only cancels the handshake: raw may already belong to a
	// connection, which has a close to send.
	release, ok := in.endpoint.hold(cancel)
	in.release()
	if !ok {
		in.raw.Close()
		return nil, errEndpointClosed
	}
	defer release()
	c, err := in.endpoint.handshake(ctx, in.raw, nil)
	if err != nil {
		return nil, in.endpoint.orClosed(err)
	}
	return c, nil
}

// Refuse implements [irohub.Incoming].
func (in *incoming) Refuse() {
	reset(in.raw)
	in.raw.Close()
	in.release()
}

// orClosed returns errEndpointClosed if the endpoint is closed, and err otherwise.
func (e *Endpoint) orClosed(err error) error {
	select {
	case <-e.closed:
		return errEndpointClosed
	default:
		return err
	}
}

// A held is a function that Close calls.
type held struct{ end func() }

// hold registers end to be called by Close, until release is called. It returns false if
// the endpoint is closed already.
func (e *Endpoint) hold(end func()) (release func(), ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held == nil {
		return nil, false
	}
	h := &held{end}
	e.held[h] = struct{}{}
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.held, h)
	}, true
}

// adopt registers a connection and starts it. It returns false if the endpoint is closed.
func (e *Endpoint) adopt(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conns == nil {
		return false
	}
	e.conns[c] = struct{}{}
	c.start()
	e.tasks.Go(c.run)
	return true
}

// linger registers an ended connection. Beyond the limit, the oldest is cut short.
func (e *Endpoint) linger(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.conns[c]; !ok { // removed already, or Close waits for it
		return
	}
	e.lingering = append(e.lingering, c)
	if len(e.lingering) > e.patience {
		e.lingering[0].cutShort()
		e.lingering = slices.Delete(e.lingering, 0, 1)
	}
}

// forget removes a connection. It is the last step of its run.
func (e *Endpoint) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	if i := slices.Index(e.lingering, c); i >= 0 {
		e.lingering = slices.Delete(e.lingering, i, i+1)
	}
}

// Close closes the endpoint and all its connections, with code 0. It waits until the peers
// have received the close, for a few seconds at most. Calls that wait return an error that
// wraps net.ErrClosed. Close may be called several times.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	holds, conns := e.held, e.conns
	e.held, e.conns = nil, nil
	e.mu.Unlock()
	if conns != nil {
		close(e.closed)
		if e.listener != nil {
			e.listener.Close()
		}
		for h := range holds {
			h.end()
		}
		for c := range conns {
			c.Close(0, "")
		}
	}
	e.tasks.Wait()
	return nil
}
