package websocket

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
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

	// ALPN is the protocol name, which must be the same on both ends. As a subprotocol of
	// WebSocket it has dots for slashes. Empty: [irohub.ALPN].
	ALPN string

	// A hub's side.

	// URLs are what spokes dial, in front of all proxies, for example
	// "wss://hub.example.org/events". A spoke that has dialled a host of none of them is
	// refused, so list them all. Empty: nobody can connect, and the endpoint only dials.
	URLs []string

	// Origins are the origins of web pages that may connect, for example
	// "https://www.example.org", besides those of the hosts of URLs. "*" allows any.
	Origins []string

	// A spoke's side.

	// TLS is the configuration for dialling, for example with the certificate authorities
	// to trust. It is copied. Nil: the defaults, with the system's authorities.
	TLS *tls.Config
}

// An Endpoint is a node's place in a network of WebSockets. It implements [irohub.Endpoint]
// and [net/http.Handler]; its methods may be called from several goroutines.
type Endpoint struct {
	// Immutable.
	secret   key.Secret
	protocol string
	urls     []string
	hosts    map[string]bool // of urls, as the dialling side signs them
	origins  map[string]bool // of pages that may connect
	tls      *tls.Config
	patience int           // the most connections that may linger
	beat     time.Duration // the constant, except in tests
	dialer   func(scheme string) dialContext

	// accepted: from ServeHTTP to Accept. Unbuffered. Never closed.
	accepted chan *incoming
	waiting  chan struct{} // a token for each request that waits for Accept; capacity maxWaiting
	closed   chan struct{} // closed by Close
	tasks    sync.WaitGroup

	mu        sync.Mutex
	held      map[*held]struct{} // handshakes and dials, which Close ends; nil once closed
	conns     map[*conn]struct{} // open ones; nil once closed
	lingering []*conn            // ended connections that wait until the peer has received the close; oldest first
}

// maxLingering is the most ended connections that wait for their peers. A well-behaved peer
// takes one round trip. Others would hold a descriptor for all of closeTimeout, and no
// limit of a hub counts them any more.
const maxLingering = 1024

// maxWaiting is the most requests that wait for Accept. A hub accepts at once. If nobody
// accepts, strangers must not fill the memory.
const maxWaiting = 1024

// New makes an endpoint. It opens nothing.
func New(o Options) (*Endpoint, error) {
	secret := o.SecretKey
	if secret.IsZero() {
		secret = key.New()
	}
	alpn := o.ALPN
	if alpn == "" {
		alpn = irohub.ALPN
	}
	protocol, err := subprotocol(alpn)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{
		secret:   secret,
		protocol: protocol,
		urls:     slices.Clone(o.URLs),
		hosts:    make(map[string]bool),
		origins:  make(map[string]bool),
		tls:      o.TLS.Clone(),
		patience: maxLingering,
		beat:     beat,
		dialer:   dialer,
		accepted: make(chan *incoming),
		waiting:  make(chan struct{}, maxWaiting),
		closed:   make(chan struct{}),
		held:     make(map[*held]struct{}),
		conns:    make(map[*conn]struct{}),
	}
	for _, s := range o.URLs {
		u, host, err := parseURL(s)
		if err != nil {
			return nil, err
		}
		e.hosts[host] = true
		e.origins[map[string]string{"ws": "http://", "wss": "https://"}[u.Scheme]+host] = true
	}
	for _, s := range o.Origins {
		origin := s
		if s != "*" {
			u, err := url.Parse(s)
			if err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
				return nil, fmt.Errorf("%w: Options.Origins: %q is not SCHEME://HOST[:PORT]", ErrAddr, s)
			}
			host, err := canonicalHost(u)
			if err != nil {
				return nil, fmt.Errorf("%w: Options.Origins: %q: %w", ErrAddr, s, err)
			}
			origin = u.Scheme + "://" + host
		}
		e.origins[origin] = true
	}
	return e, nil
}

// ID is the endpoint's own NodeID.
func (e *Endpoint) ID() irohub.NodeID { return e.secret.ID() }

// Addr returns where others can reach the endpoint: its URLs, until it is closed.
func (e *Endpoint) Addr() irohub.Addr {
	addr := irohub.Addr{ID: e.ID()}
	select {
	case <-e.closed:
	default:
		addr.Hosts = slices.Clone(e.urls)
	}
	return addr
}

// orClosed returns the error for a closed endpoint if Close was called, and err otherwise.
func (e *Endpoint) orClosed(err error) error {
	select {
	case <-e.closed:
		return errEndpointClosed
	default:
		return err
	}
}

// A held is what Close does to something that is in progress.
type held struct{ end func() }

// hold makes Close call end, until release is called. If Close was called before, ok is false.
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

// adopt starts a connection. It returns false if Close was called before.
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

// linger notes that a connection has ended. If too many linger, it cuts the oldest short.
func (e *Endpoint) linger(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.conns[c]; !ok { // forgotten already, or Close waits for it
		return
	}
	e.lingering = append(e.lingering, c)
	if len(e.lingering) > e.patience {
		e.lingering[0].cutShort()
		e.lingering = slices.Delete(e.lingering, 0, 1)
	}
}

// forget is called at the end of run.
func (e *Endpoint) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	if i := slices.Index(e.lingering, c); i >= 0 {
		e.lingering = slices.Delete(e.lingering, i, i+1)
	}
}

// Close closes every connection, with code 0, and the endpoint. It waits until the peers have
// received the close, for a few seconds at most. Waiting calls return an error that wraps
// net.ErrClosed, and later requests are answered with 503. Close may be called several times.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	holds, conns := e.held, e.conns
	e.held, e.conns = nil, nil
	e.mu.Unlock()
	if conns != nil {
		close(e.closed)
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

// establish makes a connection from a WebSocket after its handshake. err is the error of the
// handshake, if it failed: then establish tells the peer, if there is anything to tell, and
// ends the connection.
func (e *Endpoint) establish(ctx context.Context, doing string, h *handshake, s *socket, dialled bool, err error) (*conn, error) {
	remote := h.statement.spoke
	if dialled {
		remote = h.statement.hub
	}
	end := refusal(err)
	if ctx.Err() != nil || err != nil && end == nil {
		s.cut(false)
		h.ws.CloseNow()
		return nil, handshakeError(ctx, doing, dialled, err)
	}
	h.ws.SetReadLimit(-1) // records are checked as they arrive
	c := newConn(e, s, h.ws, remote, dialled)
	if !e.adopt(c) {
		s.cut(false)
		h.ws.CloseNow()
		return nil, errEndpointClosed
	}
	if err != nil {
		c.Close(end.Code, end.Reason)
		return nil, handshakeError(ctx, doing, dialled, err)
	}
	return c, nil
}
