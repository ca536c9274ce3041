//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"irohub"
	"irohub/key"
)

var _ irohub.Endpoint = (*Endpoint)(nil)

func TestBind_IdentityAndAddress(t *testing.T) {
	secret := key.New()
	e := bind(t, Options{SecretKey: secret})
	addr := e.Addr()
	if e.ID() != secret.ID() || addr.ID != secret.ID() {
		t.Errorf("%v and %v, want %v", e.ID(), addr.ID, secret.ID())
	}
	if len(addr.Hosts) != 1 || !strings.HasPrefix(addr.Hosts[0], "127.0.0.1:") || strings.HasSuffix(addr.Hosts[0], ":0") {
		t.Errorf("hosts %q", addr.Hosts)
	}
	if addr.Relay != "" {
		t.Errorf("relay %q", addr.Relay)
	}
	other := bind(t, Options{})
	dialled, _ := connect(t, other, e)
	if dialled.RemoteID() != secret.ID() { // the key that Go computes is the one that TLS has verified
		t.Errorf("remote ID %v", dialled.RemoteID())
	}
}

func TestBind_Errors(t *testing.T) {
	e := bind(t, Options{})
	for _, c := range []struct {
		o    Options
		want error
		text string
	}{
		{Options{Addr: "localhost"}, ErrAddr, "localhost"},
		{Options{Addr: "localhost:0"}, ErrAddr, "localhost:0"},
		{Options{Addr: "127.0.0.1:99999"}, ErrAddr, "99999"},
		{Options{Addr: e.Addr().Hosts[0]}, syscall.EADDRINUSE, e.Addr().Hosts[0]},
		{Options{Addr: "127.0.0.1:0", Relays: []string{"no url"}}, ErrAddr, "bad address"},
	} {
		e, err := Bind(testContext(t), c.o)
		if err == nil {
			e.Close()
			t.Errorf("%+v: no error", c.o)
			continue
		}
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v, want %v with %q", c.o, err, c.want, c.text)
		}
		if strings.Contains(err.Error(), ".rs") {
			t.Errorf("the message shows sources: %v", err)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Bind(ended, Options{Addr: "127.0.0.1:0"}); !errors.Is(err, context.Canceled) {
		t.Errorf("ctx has ended: %v", err)
	}
}

func TestUsefulHosts(t *testing.T) {
	bound := []string{"127.0.0.1:4433", "[::]:5544"}
	if got := usefulHosts(netip.MustParseAddr("127.0.0.1"), bound, []string{"192.0.2.1:4433"}); !slices.Equal(got, bound[:1]) {
		t.Errorf("one address: %q", got)
	}
	known := []string{"192.0.2.1:4433", "[2001:db8::1]:5544"}
	if got := usefulHosts(netip.IPv4Unspecified(), []string{"0.0.0.0:4433"}, known); !slices.Equal(got, slices.Concat(known, []string{"127.0.0.1:4433"})) {
		t.Errorf("every address: %q", got)
	}
	got := usefulHosts(netip.IPv6Unspecified(), []string{"0.0.0.0:4433"}, nil)
	for _, host := range got {
		a, err := netip.ParseAddrPort(host)
		if err != nil || a.Port() != 4433 || a.Addr().IsUnspecified() {
			t.Errorf("nothing known yet: %q", got)
		}
	}
	if len(got) == 0 {
		t.Errorf("nothing known yet: %q", got)
	}
}

func TestDial_Errors(t *testing.T) {
	from, to := bind(t, Options{}), bind(t, Options{})
	go func() { // accepts every peer until to is closed
		for {
			in, err := to.Accept(context.Background())
			if err != nil {
				return
			}
			go in.Handshake(context.Background())
		}
	}()
	wrong := to.Addr()
	wrong.ID = key.New().ID()
	for name, c := range map[string]struct {
		from *Endpoint
		addr irohub.Addr
		want error
	}{
		"no port":       {from, irohub.Addr{ID: to.ID(), Hosts: []string{"127.0.0.1"}}, ErrAddr},
		"bad port":      {from, irohub.Addr{ID: to.ID(), Hosts: []string{"localhost:x"}}, ErrAddr},
		"no address":    {from, irohub.Addr{ID: to.ID()}, ErrUnreachable},
		"itself":        {from, from.Addr(), errSelf},
		"no such zone":  {from, irohub.Addr{ID: to.ID(), Hosts: []string{"[fe80::1%nosuch0]:1"}}, ErrAddr},
		"another node":  {from, wrong, ErrWrongPeer},
		"another ALPN":  {bind(t, Options{ALPN: "other/1"}), to.Addr(), ErrALPN},
		"relay, no URL": {from, irohub.Addr{ID: to.ID(), Hosts: to.Addr().Hosts, Relay: "::"}, ErrAddr},
	} {
		err := dialClosing(t, c.from, c.addr)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		} else if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), ".rs") {
			t.Errorf("%s: the message shows sources: %v", name, err)
		}
	}
}

// dialClosing dials an address that does not answer.
func dialClosing(t *testing.T, from *Endpoint, addr irohub.Addr) error {
	t.Helper()
	c, err := from.Dial(testContext(t), addr)
	if err == nil {
		c.Close(0, "")
	}
	return err
}

// The zone of an address may be an interface name, which the library does not accept.
func TestZone_Name(t *testing.T) {
	ifaces, err := net.Interfaces()
	if err != nil || len(ifaces) == 0 {
		t.Fatal("no network interface: ", err)
	}
	iface := ifaces[0]
	for _, zone := range []string{iface.Name, strconv.Itoa(iface.Index)} {
		want := fmt.Sprintf("[fe80::1%%%d]:4433", iface.Index)
		host := "[fe80::1%" + zone + "]:4433"
		if got, err := resolve(t.Context(), []string{host}); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("dial %s: %q, %v, want %s", host, got, err, want)
		}
		if listens, got, err := bindAddrs(host); err != nil || !slices.Equal(got, []string{want}) || listens.Zone() != strconv.Itoa(iface.Index) {
			t.Errorf("bind %s: %v, %q, %v, want %s", host, listens, got, err, want)
		}
	}
	if _, _, err := bindAddrs("[fe80::1%nosuch0]:4433"); !errors.Is(err, ErrAddr) || !strings.Contains(err.Error(), `"nosuch0"`) {
		t.Errorf("no such interface: %v", err)
	}
}

func TestDial_Name(t *testing.T) {
	from, to := bind(t, Options{}), bind(t, Options{})
	ctx := testContext(t)
	go func() {
		if in, err := to.Accept(ctx); err == nil {
			in.Handshake(ctx)
		}
	}()
	_, port, _ := net.SplitHostPort(to.Addr().Hosts[0])
	c, err := from.Dial(ctx, irohub.Addr{ID: to.ID(), Hosts: []string{"localhost:" + port}})
	if err != nil {
		t.Fatal(err)
	}
	c.Close(0, "")
}

// closedPort returns an address of this machine where nobody answers. The test's own socket
// holds the port, so it stays that way.
func closedPort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func TestDial_NobodyThere(t *testing.T) {
	wantNoHandles(t)
	e := bind(t, Options{})
	base := live.Load()
	ctx, cancel := context.WithCancel(context.Background())
	addr := irohub.Addr{ID: key.New().ID(), Hosts: []string{closedPort(t)}}
	dialled := make(chan error)
	go func() {
		_, err := e.Dial(ctx, addr)
		dialled <- err
	}()
	for live.Load() == base { // until it waits
		runtime.Gosched()
	}
	cancel()
	if err := <-dialled; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 1)
	defer cancel()
	if _, err := e.Dial(ctx, addr); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("deadline: %v", err)
	}
	if n := live.Load(); n != base {
		t.Errorf("%d handles, %d before", n, base)
	}
}

func TestRefuse(t *testing.T) {
	from, to := bind(t, Options{}), bind(t, Options{})
	ctx := testContext(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in, err := to.Accept(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		in.Refuse()
		in.Refuse() // a second Refuse does nothing
		if _, err := in.Handshake(ctx); err == nil {
			t.Error("refused and accepted")
		}
	}()
	if err := dialClosing(t, from, to.Addr()); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	<-done
}

func TestHandshake_Cancelled(t *testing.T) {
	from, to := bind(t, Options{}), bind(t, Options{})
	ctx := testContext(t)
	go func() {
		in, err := to.Accept(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := in.Handshake(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("handshake: %v", err)
		}
	}()
	if err := dialClosing(t, from, to.Addr()); !errors.Is(err, ErrRefused) {
		t.Errorf("dial: %v", err)
	}
}

func TestAccept_StalledPeersDelayNobody(t *testing.T) {
	to := bind(t, Options{})
	ctx := testContext(t)
	dialling, stop := context.WithCancel(ctx)
	stalled := bind(t, Options{})
	var dials sync.WaitGroup
	for range 100 {
		dials.Go(func() {
			if c, err := stalled.Dial(dialling, to.Addr()); err == nil {
				c.Close(0, "")
				t.Error("a stalled dial succeeded")
			}
		})
	}
	var kept []irohub.Incoming // their handshakes are never started
	for range 100 {
		in, err := to.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, in)
	}
	// All other peers are served meanwhile. Each handshake has its own goroutine, as in a
	// hub.
	var handshakes sync.WaitGroup
	accepting, end := context.WithCancel(ctx)
	handshakes.Go(func() {
		for {
			in, err := to.Accept(accepting)
			if err != nil {
				return
			}
			handshakes.Go(func() { in.Handshake(accepting) })
		}
	})
	if err := dialClosing(t, bind(t, Options{}), to.Addr()); err != nil {
		t.Fatal(err)
	}

	stop() // the stalled peers leave
	dials.Wait()
	for _, in := range kept {
		handshakes.Go(func() { in.Handshake(accepting) })
	}
	if err := dialClosing(t, bind(t, Options{}), to.Addr()); err != nil {
		t.Fatal(err)
	}
	end()
	handshakes.Wait()
}

func TestEndpoint_Close(t *testing.T) {
	a, b := bind(t, Options{}), bind(t, Options{})
	dialled, accepted := connect(t, a, b)
	opened, streamed := openStream(t, dialled, accepted)
	ctx := testContext(t)
	errs := make(chan error)
	calls := []func() error{
		func() error { _, err := a.Accept(ctx); return err },
		func() error {
			_, err := a.Dial(ctx, irohub.Addr{ID: b.ID(), Hosts: []string{closedPort(t)}})
			return err
		},
		func() error { _, err := dialled.AcceptStream(ctx); return err },
		func() error { return dialled.Wait(ctx) },
		func() error { _, err := opened.Read(ctx, make([]byte, 1)); return err },
		func() error { return accepted.Wait(ctx) },
		func() error { _, err := streamed.Read(ctx, make([]byte, 1)); return err },
	}
	for _, call := range calls {
		go func() { errs <- call() }()
	}
	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for range calls {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	closing.Wait()
	var ce *irohub.CloseError
	if err := accepted.Wait(ctx); !errors.As(err, &ce) || ce.Code != 0 {
		t.Errorf("the peer sees %v", err)
	}
	for name, err := range map[string]error{
		"Accept": calls[0](), "Dial": calls[1](), "AcceptStream": calls[2](), "Wait": calls[3](), "Read": calls[4](),
		"Online": a.Online(ctx),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
	if addr := a.Addr(); addr.ID != a.ID() {
		t.Errorf("Addr afterwards: %v", addr)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// An abandoned dial does not delay Close for long; a peer that must be told of it may.
func TestEndpoint_CloseWaitsForThePeersAlone(t *testing.T) {
	if got := patience(0, false); got >= time.Second {
		t.Errorf("who only dials, and has no connection, waits %v", got)
	}
	if a, b := patience(1, false), patience(0, true); a != closeTimeout || b != closeTimeout {
		t.Errorf("who has a peer waits %v, who serves %v, want %v", a, b, closeTimeout)
	}
	e := bind(t, Options{})
	ctx, cancel := context.WithTimeout(testContext(t), 1)
	defer cancel()
	e.Dial(ctx, irohub.Addr{ID: key.New().ID(), Hosts: []string{closedPort(t)}})
	if e.serves.Load() {
		t.Error("who dials counts as one who serves")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnline_Cancelled(t *testing.T) {
	e := bind(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 1)
	defer cancel()
	if err := e.Online(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestHandles_Baseline makes 1,000 connections and closes each in one of several ways.
// Afterwards the library must hold as many handles as before.
func TestHandles_Baseline(t *testing.T) {
	wantNoHandles(t)
	from, to := bind(t, Options{}), bind(t, Options{})
	goroutines, handles := runtime.NumGoroutine(), live.Load()
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	for i := range rounds {
		dialled, accepted := connectLoose(t, from, to)
		switch i % 4 {
		case 1:
			_, streamed := openLoose(t, dialled, accepted)
			dialled.Close(0, "")
			_, err := streamed.Read(testContext(t), make([]byte, 1))
			wantCode(t, "read", err, 0)
		case 2:
			opened, streamed := openLoose(t, dialled, accepted)
			streamed.Abort(3)
			opened.Abort(4)
		case 3:
			accepted.Close(1, "")
			dialled.Wait(testContext(t))
		}
		dialled.Close(0, "")
		accepted.Close(0, "")
	}
	wantHandles(t, handles)
	for n := runtime.NumGoroutine(); n > goroutines; n = runtime.NumGoroutine() {
		runtime.Gosched() // a goroutine may end a moment after its last action
	}
}

// A hub and its spokes free their handles without the garbage collector.
func TestHandles_HubAndSpokesLeaveNone(t *testing.T) {
	wantNoHandles(t)
	from, to := bind(t, Options{}), bind(t, Options{})
	handles := live.Load()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))

	hub, err := irohub.NewHub(irohub.HubOptions{MaxSpokesPerNode: 100}, to)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- hub.Serve(testContext(t)) }()
	var left []*irohub.Spoke // these end when the hub ends
	for i := range 100 {
		spoke, err := irohub.Dial(testContext(t), from, to.Addr(), irohub.SpokeOptions{NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := spoke.Subscribe(testContext(t), "n"); err != nil {
			t.Fatal(err)
		}
		if err := hub.Publish(testContext(t), irohub.Event{Type: "n"}); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			left = append(left, spoke)
		} else if err := spoke.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := hub.Shutdown(testContext(t)); err != nil {
		t.Error(err)
	}
	<-served
	for _, spoke := range left {
		spoke.Close()
	}
	for ctx := testContext(t); live.Load() != handles; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d handles, %d before", live.Load(), handles)
		}
	}
}

// TestForgotten drops endpoints, connections and streams without closing them. The garbage
// collector must close them, but not while they are still in use.
func TestForgotten(t *testing.T) {
	wantNoHandles(t)
	to := bind(t, Options{})
	func() {
		e, err := Bind(testContext(t), Options{Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		dialled, accepted := connectLoose(t, e, to)
		opened, streamed := openLoose(t, dialled, accepted)
		dialled, e = nil, nil // the stream alone must keep them alive
		for range 5 {
			runtime.GC()
			if _, err := opened.Write(testContext(t), []byte("x")); err != nil {
				t.Fatal(err)
			}
			readN(t, streamed, 1)
		}
	}()
	to.Close()
	wantNoHandles(t)
}
