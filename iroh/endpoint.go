//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
	"irohub/internal/words"
	"irohub/key"
)

// The longest that Close waits for the peers: with and without anybody to inform.
const (
	closeTimeout = 5 * time.Second
	flushTimeout = 250 * time.Millisecond
)

// patience returns how long Close waits at most. The library also waits for abandoned
// dials, 3 s if nobody answered, and keeps the port meanwhile. An endpoint that only dials
// does not need its port any more. Without an open connection it has no peer to inform, but
// packets of a connection that was closed just before may still have to be sent.
func patience(open int, serves bool) time.Duration {
	if open == 0 && !serves {
		return flushTimeout
	}
	return closeTimeout
}

// An Endpoint is a node's place in an iroh network. It implements
// [irohub.Endpoint]; its methods may be called from several goroutines.
type Endpoint struct {
	// The inner endpoint lives until it is closed. The application holds the outer
	// Endpoint, so that the garbage collector can tell when the application has dropped it.
	*endpoint
}

type endpoint struct {
	object

	// Immutable.
	id         irohub.NodeID
	alpn       string
	maxStreams int
	finds      bool       // it can dial a node by its NodeID alone
	listens    netip.Addr // from Options.Addr; unspecified: every address

	closing sync.Once
	serves  atomic.Bool // Accept was called

	tasks sync.WaitGroup // the goroutines of connections

	connsMu sync.Mutex
	conns   map[*link]struct{} // open ones; nil once closing
}

// Bind opens an endpoint. ctx applies to the opening only. The caller closes the endpoint.
func Bind(ctx context.Context, o Options) (*Endpoint, error) {
	listens, addrs, err := bindAddrs(o.Addr)
	if err != nil {
		return nil, err
	}
	if err := load(o.Library); err != nil {
		return nil, err
	}
	secret := o.SecretKey
	if secret.IsZero() {
		secret = key.New()
	}
	seed := secret.Seed()
	var c C.irohub_options
	c.secret = wire(nil).bytes(string(seed[:])).c()
	c.alpns = wire(nil).list([]string{o.alpn()}).c()
	for i, a := range addrs {
		c.addr[i] = wire(a).c()
	}
	if slices.Equal(o.Relays, []string{PublicRelays}) {
		c.public_relays = 1
	} else if len(o.Relays) > 0 {
		c.relays = wire(nil).list(o.Relays).c()
	}

	r, err := await(ctx, nil, func(id C.uint64_t, r *result) error {
		C.irohub_bind(c, id, r)
		return nil
	})
	if err != nil {
		return nil, bindError(o.Addr, err)
	}
	inner := &endpoint{
		object:     newObject(own(r.value)),
		id:         secret.ID(),
		alpn:       o.alpn(),
		maxStreams: o.maxStreams(),
		finds:      c.public_relays != 0,
		listens:    listens,
		conns:      map[*link]struct{}{},
	}
	e := &Endpoint{inner}
	// When the application has dropped the Endpoint, the garbage collector has it closed. That
	// may take as long as Close, and a cleanup must not block, so a goroutine does it. It ends as
	// Close does: at once, if Close was called before. Nobody waits for it.
	runtime.AddCleanup(e, func(e *endpoint) { go e.close() }, inner)
	return e, nil
}

// bindAddrs parses Options.Addr. It returns the address to listen on, and the addresses for
// the library, which takes one for each family.
func bindAddrs(s string) (listens netip.Addr, addrs []string, err error) {
	if s == "" {
		return netip.IPv6Unspecified(), nil, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil && host == "" {
		host, addrs = "::", []string{"0.0.0.0:" + port}
	}
	var a netip.AddrPort
	if err == nil {
		a, err = netip.ParseAddrPort(net.JoinHostPort(host, port))
	}
	if err != nil {
		return listens, nil, fmt.Errorf("%w: Options.Addr: %q is not IP:PORT: %w", ErrAddr, s, err)
	}
	if a, err = numberZone(a); err != nil {
		return listens, nil, err
	}
	return a.Addr(), append(addrs, a.String()), nil
}

// ID is the endpoint's own NodeID.
func (e *Endpoint) ID() irohub.NodeID { return e.id }

// Addr says where the endpoint can be reached: for one that listens on every
// address, the addresses of this machine, the loopback ones among them. The relay is empty until the endpoint
// has found one that works; see [Endpoint.Online].
func (e *Endpoint) Addr() irohub.Addr {
	defer runtime.KeepAlive(e)
	var sockets, hosts, relay result
	err := e.with(func(h handle) {
		C.irohub_bound_sockets(h, &sockets)
		C.irohub_endpoint_addr(h, &hosts, &relay)
	})
	addr := irohub.Addr{ID: e.id}
	if err != nil || failed(&sockets) != nil {
		return addr
	}
	bound, _ := readList(taken(&sockets))
	if known, err := readAddr(&hosts, &relay); err == nil {
		addr = known
		addr.ID = e.id
	}
	addr.Hosts = usefulHosts(e.listens, bound, addr.Hosts)
	return addr
}

// usefulHosts chooses what to tell others: the socket of the address that was
// asked for, else what the library found out, and behind that the loopback addresses,
// which it leaves out. It has nothing to tell before its first look at the network, so
// then the sockets' ports at the machine's own addresses must do.
func usefulHosts(listens netip.Addr, bound, known []string) []string {
	var hosts []string
	for _, s := range bound {
		if a, err := netip.ParseAddrPort(s); err == nil && a.Addr() == listens {
			hosts = append(hosts, s)
		}
	}
	if !listens.IsUnspecified() {
		return hosts
	}
	hosts = slices.Clone(known)
	ifaces, _ := net.InterfaceAddrs()
	for _, s := range bound {
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			continue
		}
		for _, iface := range ifaces {
			p, err := netip.ParsePrefix(iface.String())
			ip := p.Addr()
			if err != nil || ip.Is4() != a.Addr().Is4() || ip.IsLinkLocalUnicast() || len(known) > 0 && !ip.IsLoopback() {
				continue
			}
			if host := netip.AddrPortFrom(ip, a.Port()).String(); !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// Online waits until one of the relays in [Options.Relays] can be used. Before that,
// neither Addr nor a ticket names a relay. Without relays, it waits until ctx ends.
func (e *Endpoint) Online(ctx context.Context) error {
	defer runtime.KeepAlive(e)
	_, err := e.do(ctx, C.IROHUB_ONLINE)
	return err
}

// Accept waits for the next peer that wants to connect. Once the endpoint is closed, it
// returns an error that wraps net.ErrClosed.
func (e *Endpoint) Accept(ctx context.Context) (irohub.Incoming, error) {
	defer runtime.KeepAlive(e)
	e.serves.Store(true)
	r, err := e.do(ctx, C.IROHUB_ACCEPT)
	if err != nil {
		return nil, err
	}
	if r.value == 0 {
		return nil, errEndpointClosed
	}
	o := new(offer)
	o.h.Store(uint64(own(r.value)))
	in := &incoming{offer: o, e: e, from: remoteAddr(ctx, handle(o.h.Load()))}
	runtime.AddCleanup(in, (*offer).drop, o)
	return in, nil
}

// Dial connects to the node at addr, which must not be this endpoint. Hosts are IP:PORT or
// NAME:PORT. All of them and the relay are tried at the same time. It may take long to
// detect that nobody answers, so ctx should have a deadline.
func (e *Endpoint) Dial(ctx context.Context, addr irohub.Addr) (irohub.Conn, error) {
	defer runtime.KeepAlive(e)
	fail := func(err error) (irohub.Conn, error) {
		return nil, connectError("dial "+addr.ID.String(), e.orClosed(err))
	}
	select {
	case <-e.gone:
		return fail(errEndpointClosed)
	default:
	}
	if addr.ID == e.id {
		return fail(errSelf)
	}
	hosts, err := resolve(ctx, addr.Hosts)
	if err == nil && len(hosts) == 0 && addr.Relay == "" && !e.finds {
		err = fmt.Errorf("%w: no address is known", ErrUnreachable)
	}
	if err != nil {
		return fail(err)
	}
	node := wire(nil).bytes(string(addr.ID[:])).c()
	relay, list := wire(nil).option(addr.Relay).c(), wire(nil).list(hosts).c()
	alpn := wire(nil).bytes(e.alpn).c()
	r, err := e.run(ctx, func(h handle, id C.uint64_t, r *result) {
		C.irohub_dial(h, node, relay, list, alpn, id, r)
	})
	if err != nil {
		return fail(err)
	}
	c, err := newConn(e, own(r.value), true)
	if err != nil {
		return fail(err)
	}
	return c, nil
}

// resolve looks up host names: the library takes IP addresses only.
func resolve(ctx context.Context, hosts []string) (numbers []string, err error) {
	for _, s := range hosts {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrAddr, err)
		}
		if a, err := netip.ParseAddrPort(s); err == nil {
			if a, err = numberZone(a); err != nil {
				return nil, err
			}
			numbers = append(numbers, a.String())
			continue
		}
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		for _, ip := range ips {
			a, err := netip.ParseAddrPort(net.JoinHostPort(ip.Unmap().String(), port))
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrAddr, err)
			}
			if a, err = numberZone(a); err != nil {
				return nil, err
			}
			numbers = append(numbers, a.String())
		}
	}
	return numbers, nil
}

// numberZone replaces the zone of an address, an interface's name, by the interface's
// number: the library accepts only numbers.
func numberZone(a netip.AddrPort) (netip.AddrPort, error) {
	zone := a.Addr().Zone()
	if _, err := strconv.ParseUint(zone, 10, 32); err == nil || zone == "" {
		return a, nil
	}
	iface, err := net.InterfaceByName(zone)
	if err != nil {
		return a, fmt.Errorf("%w: %s: there is no network interface %q: %w", ErrAddr, a, zone, err)
	}
	return netip.AddrPortFrom(a.Addr().WithZone(strconv.Itoa(iface.Index)), a.Port()), nil
}

// Close closes the endpoint and all its connections, with code 0. It waits until the peers
// have received the close, for 5 seconds at most. Calls that wait return an error that
// wraps net.ErrClosed. Close may be called several times.
func (e *Endpoint) Close() error {
	defer runtime.KeepAlive(e)
	e.close()
	return nil
}

func (e *endpoint) close() {
	e.closing.Do(func() {
		e.connsMu.Lock()
		conns := e.conns
		e.conns = nil
		e.connsMu.Unlock()
		for l := range conns {
			l.close(0, "")
		}
		h := e.end(errEndpointClosed)
		ctx, cancel := context.WithTimeout(context.Background(), patience(len(conns), e.serves.Load()))
		defer cancel()
		await(ctx, nil, func(id C.uint64_t, r *result) error {
			C.irohub_start(C.IROHUB_CLOSE_ENDPOINT, h, id, r)
			return nil
		})
		free(C.IROHUB_ENDPOINT, &h)
		e.tasks.Wait()
	})
}

// orClosed returns errEndpointClosed for a library error while the endpoint closes, and err
// otherwise. The library reports a closing endpoint in many ways.
func (e *endpoint) orClosed(err error) error {
	if _, ok := errors.AsType[*nativeError](err); !ok {
		return err
	}
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	if e.conns == nil {
		return errEndpointClosed
	}
	return err
}

// adopt registers a connection and starts it. It returns false if the endpoint is closing.
func (e *endpoint) adopt(l *link) bool {
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	if e.conns == nil {
		return false
	}
	e.conns[l] = struct{}{}
	l.arrivals.init(l)
	e.tasks.Go(l.arrivals.run)
	return true
}

func (e *endpoint) forget(l *link) {
	e.connsMu.Lock()
	defer e.connsMu.Unlock()
	delete(e.conns, l)
}

// An incoming is a peer that wants to connect.
type incoming struct {
	*offer
	e    *Endpoint
	from string
}

// An offer is the library's handle of an incoming, until it is taken.
type offer struct{ h atomic.Uint64 }

func (o *offer) take() handle { return handle(o.h.Swap(0)) }

// drop frees the handle; the library then refuses the peer.
func (o *offer) drop() {
	h := o.take()
	free(C.IROHUB_INCOMING, &h)
}

var errTaken = errors.New("irohub/iroh: this incoming connection was accepted or refused before")

// RemoteAddr implements [irohub.Incoming]. For a peer that comes through a relay, it names
// the relay.
func (in *incoming) RemoteAddr() string { return in.from }

// remoteAddr returns the address of an incoming. The library answers at once. It must be
// asked at accepting, because it cannot answer any more after the handshake.
func remoteAddr(ctx context.Context, h handle) string {
	r, err := await(ctx, nil, func(id C.uint64_t, r *result) error {
		C.irohub_start(C.IROHUB_REMOTE_ADDR, h, id, r)
		return nil
	})
	if err != nil {
		return "unknown"
	}
	return readRemoteAddr(taken(&r))
}

// readRemoteAddr reads one of three kinds of address: the number of the kind, then a text.
// For a relay, the handle of the node that the relay names follows.
func readRemoteAddr(p []byte) string {
	const direct, relayed = 1, 2
	if len(p) < 4 {
		return "unknown"
	}
	kind := binary.BigEndian.Uint32(p)
	text, rest, err := readBytes(p[4:])
	if err != nil {
		return "unknown"
	}
	switch kind {
	case direct:
		if a, err := netip.ParseAddrPort(text); err == nil {
			return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
		}
	case relayed:
		if len(rest) == 8 {
			node := own(handle(binary.BigEndian.Uint64(rest)))
			free(C.IROHUB_NODE, &node)
		}
		text = "relay " + text
	}
	return words.Printable(text)
}

// Handshake implements [irohub.Incoming].
func (in *incoming) Handshake(ctx context.Context) (irohub.Conn, error) {
	defer runtime.KeepAlive(in)
	offer := in.take()
	if offer == 0 {
		return nil, errTaken
	}
	r, err := in.step(ctx, C.IROHUB_ACCEPT_INCOMING, offer)
	free(C.IROHUB_INCOMING, &offer)
	if err != nil {
		return nil, err
	}
	accepting := own(r.value)
	r, err = in.step(ctx, C.IROHUB_HANDSHAKE, accepting)
	free(C.IROHUB_ACCEPTING, &accepting)
	if err != nil {
		return nil, err
	}
	return newConn(in.e, own(r.value), false)
}

func (in *incoming) step(ctx context.Context, what C.int, h handle) (result, error) {
	r, err := await(ctx, in.e.gone, func(id C.uint64_t, r *result) error {
		C.irohub_start(what, h, id, r)
		return nil
	})
	if err == errGone {
		err = errEndpointClosed
	}
	if err != nil {
		err = connectError("handshake", in.e.orClosed(err))
	}
	return r, err
}

// Refuse implements [irohub.Incoming].
func (in *incoming) Refuse() {
	defer runtime.KeepAlive(in)
	h := in.take()
	if h == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	in.step(ctx, C.IROHUB_REFUSE, h) // in practice this does not wait
	free(C.IROHUB_INCOMING, &h)
}
