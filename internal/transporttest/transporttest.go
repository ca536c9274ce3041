// Package transporttest holds the tests that every transport of irohub must pass: tests of the
// interfaces, and tests of a hub and spokes that an in-memory network cannot provide.
package transporttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"irohub"
)

// A Transport makes endpoints on this machine that can reach each other.
type Transport func(testing.TB, Key) irohub.Endpoint

// A Key stands for a secret key: equal Keys are the same node. Zero stands for a new node each
// time.
type Key byte

// Run runs all tests.
func Run(t *testing.T, transport Transport) {
	transport(t, 0).Close() // what a transport starts once per process is not a leak
	for _, test := range []struct {
		name string
		run  func(*env)
	}{
		{"StreamCarriesBothWays", testStream},
		{"StreamIsSeenAtItsFirstByte", testFirstByte},
		{"OneStreamWaitsBeforeTheFirstAccept", testWaiting},
		{"DialledSideTakesNoStreams", testDialledTakesNone},
		{"StreamHalfCloses", testHalfClose},
		{"AcknowledgedDataOutlivesClose", testDataOutlivesClose},
		{"CloseCodeAndReason", testCloseCode},
		{"AbortEndsOneStream", testAbort},
		{"AbortIsHeardByTheWriter", testAbortedWriter},
		{"CancelEndsCalls", testCancel},
		{"DialChecksNodeID", testWrongNode},
		{"IncomingSaysWhereFrom", testRemoteAddr},
		{"RefusedDial", testRefused},
		{"ClosedEndpoint", testClosedEndpoint},
		{"HubFansOut", testFanOut},
		{"HubForwards", testForward},
		{"HubCutsOffFrozenSpoke", testFrozen},
		{"HubGivesUpStalledWriter", testWriteTimeout},
		{"HubTurnsAwayUnknownNodes", testAdmit},
		{"HubServesBehindSilentConnections", testSilent},
		{"HubReplacesOldestSpokeOfNode", testReplaced},
		{"HubEndsOneStreamOfSeveral", testStreams},
		{"HubShutdownDelivers", testShutdown},
		{"SpokeCloseDelivers", testSpokeClose},
		{"SpokeCloseWaitsForTheHub", testSpokeCloseWaits},
		{"SpokeReconnects", testReconnect},
		{"EventsUpToTheLimit", testSizes},
		{"Sessions", testSessions},
		{"ConnectsLeaveNothingBehind", testConnects},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := &env{T: t, transport: transport, ctx: failsafe(t)}
			checkGoroutines(t)
			test.run(e)
		})
	}
}

// failsafe ends a test that hangs; no test depends on its length.
func failsafe(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// checkGoroutines fails the test if more goroutines run after its cleanups than before.
func checkGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		// Goroutines may end a moment after what they wait for.
		for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// An env is the environment of one test.
type env struct {
	*testing.T
	transport Transport
	ctx       context.Context
}

func (e *env) endpoint(key Key) irohub.Endpoint {
	e.Helper()
	ep := e.transport(e.T, key)
	e.Cleanup(func() { ep.Close() })
	return ep
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) wantCode(err error, code uint64) *irohub.CloseError {
	e.Helper()
	var end *irohub.CloseError
	if !errors.As(err, &end) || end.Code != code {
		e.Fatalf("ended with %v, want code %d", err, code)
	}
	return end
}

// pair connects two endpoints.
func (e *env) pair() (dialled, accepted irohub.Conn) {
	e.Helper()
	a, b := e.endpoint(0), e.endpoint(0)
	conns := make(chan irohub.Conn, 1)
	go func() {
		defer close(conns)
		in, err := b.Accept(e.ctx)
		if err != nil {
			e.Error(err)
			return
		}
		conn, err := in.Handshake(e.ctx)
		if err != nil {
			e.Error(err)
			return
		}
		conns <- conn
	}()
	dialled, err := a.Dial(e.ctx, b.Addr())
	e.must(err)
	accepted = <-conns
	if accepted == nil {
		e.FailNow()
	}
	if dialled.RemoteID() != b.ID() || accepted.RemoteID() != a.ID() {
		e.Fatal("the connection has other NodeIDs than its endpoints")
	}
	e.Cleanup(func() {
		dialled.Close(0, "")
		accepted.Close(0, "")
	})
	return dialled, accepted
}

// streams connects two endpoints and opens a stream, whose first byte it sends.
func (e *env) streams() (dialled, accepted irohub.Conn, opened, other irohub.Stream) {
	e.Helper()
	dialled, accepted = e.pair()
	opened, other = e.stream(dialled, accepted)
	return
}

func (e *env) stream(dialled, accepted irohub.Conn) (opened, other irohub.Stream) {
	e.Helper()
	opened, err := dialled.OpenStream(e.ctx)
	e.must(err)
	e.write(opened, []byte{'!'})
	other, err = accepted.AcceptStream(e.ctx)
	e.must(err)
	if got := e.read(other, 1); got[0] != '!' {
		e.Fatalf("first byte %q", got)
	}
	return opened, other
}

func (e *env) write(s irohub.Stream, p []byte) {
	e.Helper()
	if n, err := s.Write(e.ctx, p); n != len(p) || err != nil {
		e.Fatalf("write: %d of %d, %v", n, len(p), err)
	}
}

// read reads n bytes.
func (e *env) read(s irohub.Stream, n int) []byte {
	e.Helper()
	got, err := readAll(e.ctx, s, n)
	if len(got) < n {
		e.Fatalf("read %d of %d: %v", len(got), n, err)
	}
	return got
}

// readAll reads until it has n bytes or the stream ends.
func readAll(ctx context.Context, s irohub.Stream, n int) ([]byte, error) {
	var got []byte
	for len(got) < n {
		p := make([]byte, min(n-len(got), 10_000))
		k, err := s.Read(ctx, p)
		got = append(got, p[:k]...)
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

func testStream(e *env) {
	_, _, a, b := e.streams()
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	for _, way := range [][2]irohub.Stream{{a, b}, {b, a}} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if n, err := way[0].Write(e.ctx, data); n != len(data) || err != nil {
				e.Errorf("write: %d, %v", n, err)
			}
		}()
		if got := e.read(way[1], len(data)); !bytes.Equal(got, data) {
			e.Error("what was read is not what was written")
		}
		<-done
	}
}

func testFirstByte(e *env) {
	dialled, accepted := e.pair()
	first, err := dialled.OpenStream(e.ctx)
	e.must(err)
	opened := map[string]irohub.Stream{"1": first}
	order := []string{"1"}
	second, err := dialled.OpenStream(e.ctx)
	if !errors.Is(err, errors.ErrUnsupported) { // some transports have only one stream per connection
		e.must(err)
		opened["2"] = second
		order = []string{"1", "2"} // QUIC announces the first of two streams together with the second
	}
	for _, name := range order {
		e.write(opened[name], []byte(name))
		s, err := accepted.AcceptStream(e.ctx)
		e.must(err)
		if got := e.read(s, 1); string(got) != name {
			e.Errorf("a stream carried %q, want %q", got, name)
		}
	}
}

// Streams that nobody accepts cost memory: so only one waits, and others are aborted.
func testWaiting(e *env) {
	dialled, accepted := e.pair()
	open := func(word string) irohub.Stream {
		s, err := dialled.OpenStream(e.ctx)
		e.must(err)
		e.write(s, []byte(word))
		return s
	}
	first := open("1")
	if _, err := dialled.OpenStream(e.ctx); errors.Is(err, errors.ErrUnsupported) {
		return
	}
	for range 20 {
		s := open("2")
		_, err := s.Read(e.ctx, make([]byte, 1))
		e.wantCode(err, irohub.CodeTooMany)
		s.Abort(0)
	}
	for _, want := range []string{"1", "3", "4"} {
		s, err := accepted.AcceptStream(e.ctx)
		e.must(err)
		if got := e.read(s, 1); string(got) != want {
			e.Errorf("a stream carried %q, want %q", got, want)
		}
		switch want {
		case "1":
			open("3")
			open("4")
		case "4":
			first.Abort(0)
		}
	}
}

// A spoke accepts no streams from its hub.
func testDialledTakesNone(e *env) {
	dialled, accepted := e.pair()
	for range 20 {
		s, err := accepted.OpenStream(e.ctx)
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		e.must(err)
		if _, err = s.Write(e.ctx, []byte("1")); err == nil {
			_, err = s.Read(e.ctx, make([]byte, 1))
		}
		e.wantCode(err, irohub.CodeProtocol)
		s.Abort(0)
	}
	end := make(chan error, 1)
	go func() { _, err := dialled.AcceptStream(e.ctx); end <- err }()
	accepted.Close(9, "")
	e.wantCode(<-end, 9)
}

// When a peer aborts a stream, a writer learns of it, and not only a reader.
func testAbortedWriter(e *env) {
	for _, aborter := range []string{"the acceptor", "the opener"} {
		_, _, a, b := e.streams()
		if aborter == "the opener" {
			a, b = b, a
		}
		blocked := make(chan error, 1)
		go func() {
			_, err := a.Write(e.ctx, make([]byte, 64<<20))
			blocked <- err
		}()
		e.read(b, 1) // the peer still writes
		b.Abort(7)
		e.wantCode(<-blocked, 7)
		_, err := a.Write(e.ctx, []byte("x"))
		e.wantCode(err, 7)
		e.wantCode(a.CloseWrite(e.ctx), 7)
	}
}

func testHalfClose(e *env) {
	_, _, a, b := e.streams()
	e.write(a, []byte("last words"))
	closed := make(chan error, 1)
	go func() { closed <- a.CloseWrite(e.ctx) }()
	if got := e.read(b, 10); string(got) != "last words" {
		e.Errorf("read %q", got)
	}
	if n, err := b.Read(e.ctx, make([]byte, 1)); n != 0 || err != io.EOF {
		e.Errorf("read %d, %v, want EOF", n, err)
	}
	e.must(<-closed)
	e.write(b, []byte("heard"))
	if got := e.read(a, 5); string(got) != "heard" {
		e.Errorf("the other half carried %q", got)
	}
	if _, err := a.Write(e.ctx, []byte("x")); err == nil {
		e.Error("Write after CloseWrite succeeded")
	}
}

// Data that CloseWrite reported as acknowledged reaches a late reader.
func testDataOutlivesClose(e *env) {
	dialled, accepted, a, b := e.streams()
	data := bytes.Repeat([]byte("x"), 50_000) // within the window of any transport
	e.write(a, data)
	closed := make(chan error, 1)
	got := make(chan []byte, 1)
	go func() { closed <- a.CloseWrite(e.ctx) }()
	go func() {
		// In memory, acknowledged data has been read. Over other transports, CloseWrite returns
		// before this point.
		select {
		case err := <-closed:
			closed <- err
			dialled.Close(7, "early")
			accepted.Wait(e.ctx)
		case <-time.After(200 * time.Millisecond):
		}
		p, err := readAll(e.ctx, b, len(data)+1)
		if err != io.EOF {
			e.Errorf("after the data: %v, want EOF", err)
		}
		got <- p
	}()
	if p := <-got; len(p) != len(data) {
		e.Errorf("%d bytes, want %d", len(p), len(data))
	}
	e.must(<-closed)
}

func testCloseCode(e *env) {
	for _, test := range []irohub.CloseError{
		{Code: irohub.CodeSlow, Reason: "too slow"},
		{Code: 0, Reason: ""},
		{Code: 1<<32 + 5, Reason: "ünïcode\n\"quoted\" \\ and a } in it"},
		{Code: irohub.CodeForbidden, Reason: `ApplicationClosed(ApplicationClose { error_code: 1, reason: b"x" })`},
	} {
		dialled, accepted, a, b := e.streams()
		blocked := make(chan error, 3)
		go func() { _, err := b.Read(e.ctx, make([]byte, 10)); blocked <- err }()
		go func() { _, err := accepted.AcceptStream(e.ctx); blocked <- err }()
		go func() { blocked <- accepted.Wait(e.ctx) }()
		dialled.Close(test.Code, test.Reason)
		dialled.Close(99, "the second does nothing")
		for range 3 {
			if end := e.wantCode(<-blocked, test.Code); end.Reason != test.Reason {
				e.Errorf("reason %q, want %q", end.Reason, test.Reason)
			}
		}
		a.Abort(98) // has no effect either, but frees the stream
		// Our own calls fail with our own code.
		_, err := a.Read(e.ctx, make([]byte, 10))
		e.wantCode(err, test.Code)
		_, err = dialled.OpenStream(e.ctx)
		e.wantCode(err, test.Code)
		if err := dialled.Wait(e.ctx); !errors.Is(err, net.ErrClosed) {
			e.Errorf("Wait: %v", err)
		}
	}
}

func testAbort(e *env) {
	dialled, accepted, a, b := e.streams()
	one := e.oneStream()
	var a2, b2 irohub.Stream
	if !one {
		a2, b2 = e.stream(dialled, accepted)
	}
	// Both sides are blocked in both halves when one aborts.
	blocked := make(chan error, 4)
	for _, s := range []irohub.Stream{a, b} {
		go func() { _, err := s.Read(e.ctx, make([]byte, 10)); blocked <- err }()
	}
	go func() { _, err := a.Write(e.ctx, make([]byte, 64<<20)); blocked <- err }()
	// b's reader reads a part and ends. Then a's writer is blocked.
	if err := <-blocked; err != nil {
		e.Fatalf("read: %v", err)
	}
	a.Abort(irohub.CodeSlow)
	a.Abort(irohub.CodeTimeout)
	for range 2 {
		if err := <-blocked; err == nil {
			e.Error("a call that waited ended without an error")
		}
	}
	for {
		if _, err := b.Read(e.ctx, make([]byte, 64<<10)); err != nil {
			e.wantCode(err, irohub.CodeSlow)
			break
		}
	}
	for {
		if _, err := b.Write(e.ctx, make([]byte, 64<<10)); err != nil {
			e.wantCode(err, irohub.CodeSlow)
			break
		}
	}
	if one {
		return
	}
	e.write(a2, []byte("still here"))
	if got := e.read(b2, 10); string(got) != "still here" {
		e.Errorf("the other stream carried %q", got)
	}
}

func testCancel(e *env) {
	dialled, accepted, _, b := e.streams()
	ep := e.endpoint(0)
	deaf := e.endpoint(0)
	for name, call := range map[string]func(context.Context) error{
		"Accept":       func(ctx context.Context) error { _, err := ep.Accept(ctx); return err },
		"AcceptStream": func(ctx context.Context) error { _, err := accepted.AcceptStream(ctx); return err },
		"Wait":         dialled.Wait,
		"Read":         func(ctx context.Context) error { _, err := b.Read(ctx, make([]byte, 1)); return err },
		"Write":        func(ctx context.Context) error { _, err := b.Write(ctx, make([]byte, 16<<20)); return err },
		"Dial": func(ctx context.Context) error {
			_, err := ep.Dial(ctx, deaf.Addr())
			return err
		},
	} {
		for _, wait := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(e.ctx, wait)
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				e.Errorf("%s after %v: %v, want DeadlineExceeded", name, wait, err)
			}
			cancel()
		}
	}
}

func testWrongNode(e *env) {
	a, b, c := e.endpoint(0), e.endpoint(0), e.endpoint(0)
	go func() {
		for {
			in, err := b.Accept(e.ctx)
			if err != nil {
				return
			}
			in.Handshake(e.ctx)
		}
	}()
	addr := b.Addr()
	addr.ID = c.ID()
	if conn, err := a.Dial(e.ctx, addr); err == nil {
		e.Errorf("dialled %s, and got %s", addr.ID, conn.RemoteID())
	}
	conn, err := a.Dial(e.ctx, b.Addr())
	e.must(err)
	conn.Close(0, "")
}

func testRemoteAddr(e *env) {
	a, b := e.endpoint(0), e.endpoint(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := a.Dial(e.ctx, b.Addr()); err == nil {
			conn.Wait(e.ctx)
		}
	}()
	in, err := b.Accept(e.ctx)
	e.must(err)
	from := in.RemoteAddr()
	if from == "" {
		e.Error("an incoming has no remote address")
	}
	// A connection dialled by IP address comes from an IP address.
	if to, err := netip.ParseAddrPort(b.Addr().Hosts[0]); err == nil {
		if at, err := netip.ParseAddrPort(from); err != nil || at.Addr() != to.Addr() {
			e.Errorf("it comes from %q, which is not a port at %v", from, to.Addr())
		}
	}
	conn, err := in.Handshake(e.ctx)
	e.must(err)
	if after := in.RemoteAddr(); after != from {
		e.Errorf("after the handshake it comes from %q, before from %q", after, from)
	}
	conn.Close(0, "")
	<-done
}

func testRefused(e *env) {
	a, b := e.endpoint(0), e.endpoint(0)
	go func() {
		in, err := b.Accept(e.ctx)
		if err == nil {
			in.Refuse()
		}
	}()
	_, err := a.Dial(e.ctx, b.Addr())
	if err == nil || !strings.Contains(err.Error(), "refused") {
		e.Errorf("dial: %v, want a refusal", err)
	}
}

func testClosedEndpoint(e *env) {
	a, b := e.endpoint(0), e.endpoint(0)
	accepted := make(chan error, 1)
	go func() { _, err := b.Accept(e.ctx); accepted <- err }()
	e.must(b.Close())
	b.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		e.Errorf("Accept: %v, want net.ErrClosed", err)
	}
	// Repeatedly, like a loop that should end because of the error.
	nobody := a.Addr()
	e.must(a.Close())
	for range 20 {
		if _, err := b.Accept(e.ctx); !errors.Is(err, net.ErrClosed) {
			e.Errorf("Accept of a closed endpoint: %v, want net.ErrClosed", err)
		}
		for _, addr := range []irohub.Addr{nobody, {ID: a.ID()}, b.Addr()} {
			if _, err := b.Dial(e.ctx, addr); !errors.Is(err, net.ErrClosed) {
				e.Errorf("Dial from a closed endpoint: %v, want net.ErrClosed", err)
			}
		}
	}
}
