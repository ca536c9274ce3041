package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/internal/records"
)

// A wire is one end of a connection in memory. It can be cut without either end noticing, and
// notes when something was written.
type wire struct {
	net.Conn
	line *line
}

// A line is both ends.
type line struct {
	cut     atomic.Bool
	last    atomic.Int64 // when something was written, by either end
	longest atomic.Int64 // without that
	deaf    atomic.Bool  // the end that dialled reads no more
	hear    chan struct{}
	mute    atomic.Bool // what the end that dialled writes is an error
}

func (w wire) Close() error {
	if w.line.cut.Load() { // it goes unnoticed too
		return w.SetDeadline(time.Unix(1, 0))
	}
	return w.Conn.Close()
}

func (w wire) Write(p []byte) (int, error) {
	if w.line.cut.Load() {
		return len(p), nil
	}
	now := time.Now().UnixNano()
	if idle := now - w.line.last.Swap(now); idle > w.line.longest.Load() {
		w.line.longest.Store(idle)
	}
	return w.Conn.Write(p)
}

// A dialling wire may go deaf.
type diallingWire struct{ wire }

func (w diallingWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.line.deaf.Load() {
		<-w.line.hear
	}
	return n, err
}

func (w diallingWire) Write(p []byte) (int, error) {
	if w.line.mute.Load() {
		return 0, &net.OpError{Op: "write", Err: errors.New("no way out")}
	}
	return w.wire.Write(p)
}

// A listener has connections that were made in memory.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { close(l.done); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// wiring is two nodes in a bubble of synctest, where time is made up.
func wiring(t *testing.T) (from, to *Endpoint, between *line) {
	t.Helper()
	between = &line{hear: make(chan struct{})}
	between.last.Store(time.Now().UnixNano())
	l := &listener{make(chan net.Conn), make(chan struct{})}
	from, to = newTest(t, Options{}), newTest(t, Options{URLs: []string{"ws://localhost/"}})
	server := &http.Server{Handler: to, ErrorLog: discard}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	from.dialer = func(string) dialContext {
		return func(context.Context, string, string) (net.Conn, error) {
			p, q := net.Pipe()
			l.conns <- wire{q, between}
			return diallingWire{wire{p, between}}, nil
		}
	}
	return from, to, between
}

// wired connects two such nodes.
func wired(t *testing.T) (dialled, accepted *conn, between *line) {
	t.Helper()
	from, to, between := wiring(t)
	d, a := connect(t, from, to)
	return d.(*conn), a.(*conn), between
}

// That nobody says anything is no reason to end, and no reason for a proxy to think so, which
// may take a minute without anything for the end.
func TestConn_QuietOnesStayConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, between := wired(t)
		openStream(t, dialled, accepted)
		time.Sleep(time.Hour)
		if !dialled.open() || !accepted.open() {
			t.Fatal(dialled.why, accepted.why)
		}
		if idle := time.Duration(between.longest.Load()); idle > 2*beat || idle < beat {
			t.Errorf("nothing was on the wire for %v", idle)
		}
	})
}

func TestConn_DeadPeerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, between := wired(t)
		a, b := openStream(t, dialled, accepted)
		time.Sleep(time.Hour + 7*time.Second)
		between.cut.Store(true)
		start := time.Now()
		for _, s := range []irohub.Stream{a, b} {
			_, err := s.Read(t.Context(), make([]byte, 1))
			var end net.Error
			if !errors.As(err, &end) || !end.Timeout() || !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v, want a timeout that wraps net.ErrClosed", err)
			}
		}
		if d := time.Since(start); d < 2*beat || d > 4*beat {
			t.Errorf("noticed after %v, want 20 to 40 s", d)
		}
	})
}

// A hub that is sent to without a pause, and has nothing to say, is heard all the same.
func TestConn_HubThatOnlyReadsIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, _ := wired(t)
		a, b := openStream(t, dialled, accepted)
		for range 1000 {
			if _, err := a.Write(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
			readN(t, b, 1)
			time.Sleep(time.Second)
		}
		if !dialled.open() || !accepted.open() {
			t.Fatal(dialled.why, accepted.why)
		}
	})
}

// An application that does not read is not dead, and hears of a close all the same.
func TestConn_SlowReaderStaysConnectedAndHearsTheCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, _ := wired(t)
		a, b := openStream(t, dialled, accepted)
		written := make(chan error, 2)
		for _, s := range []irohub.Stream{a, b} {
			go func() { _, err := s.Write(t.Context(), make([]byte, 2*records.Window)); written <- err }()
		}
		time.Sleep(time.Hour)
		if !dialled.open() || !accepted.open() {
			t.Fatal(dialled.why, accepted.why)
		}
		start := time.Now()
		dialled.Close(irohub.CodeSlow, "too slow")
		wantCode(t, accepted.Wait(t.Context()), irohub.CodeSlow)
		wantCode(t, <-written, irohub.CodeSlow)
		wantCode(t, <-written, irohub.CodeSlow)
		if d := time.Since(start); d != 0 {
			t.Errorf("that took %v", d)
		}
		// What had arrived is there yet, with the first byte that openStream has read.
		n := 0
		for {
			k, err := b.Read(t.Context(), make([]byte, 50_000))
			if n += k; err != nil {
				wantCode(t, err, irohub.CodeSlow)
				break
			}
		}
		if n != records.Window-1 {
			t.Errorf("%d bytes had arrived, want %d", n, records.Window-1)
		}
	})
}

// A peer that takes nothing from its socket holds up neither a call nor, for long, a close.
func TestConn_CloseWhilePeerTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, between := wired(t)
		_, b := openStream(t, dialled, accepted)
		between.deaf.Store(true)
		defer close(between.hear)
		blocked := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, err := b.Write(ctx, make([]byte, records.Window)); blocked <- err }()
		synctest.Wait()
		cancel()
		if err := <-blocked; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
		go func() { _, err := b.Write(t.Context(), make([]byte, records.Window)); blocked <- err }()
		synctest.Wait()
		start := time.Now()
		accepted.Close(irohub.CodeTimeout, "")
		wantCode(t, <-blocked, irohub.CodeTimeout)
		if d := time.Since(start); d != 0 {
			t.Errorf("Write ended after %v", d)
		}
		accepted.endpoint.Close()
		if d := time.Since(start); d > closeTimeout {
			t.Errorf("the endpoint closed after %v", d)
		}
	})
}

// Behind a write that takes long, a ping is answered in its turn, and ends nothing.
func TestConn_PingBehindASlowWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs, accepted, between := wired(t)
		a, b := openStream(t, theirs, accepted)
		between.deaf.Store(true)
		go b.Write(t.Context(), make([]byte, records.MaxData))
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go theirs.ws.Ping(ctx)
		time.Sleep(9 * time.Second)
		between.deaf.Store(false)
		close(between.hear)
		readN(t, a, records.MaxData)
		synctest.Wait()
		cancel()
		if !theirs.open() || !accepted.open() {
			t.Fatal(theirs.why, accepted.why)
		}
	})
}

func TestStream_CancelledWriteLosesNothing(t *testing.T) {
	dialled, accepted := pair(t)
	a, b := openStream(t, dialled, accepted)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	var got []byte
	sent := 0
	for sent < len(data) {
		ctx, cancel := context.WithTimeout(testContext(t), time.Millisecond)
		n, err := a.Write(ctx, data[sent:])
		cancel()
		if sent += n; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if len(got) < sent {
			got = append(got, readN(t, b, sent-len(got))...)
		}
	}
	if string(got) != string(data) {
		t.Error("what came is not what was sent")
	}
}

func TestStream_OnePerConnection(t *testing.T) {
	dialled, accepted := pair(t)
	openStream(t, dialled, accepted)
	for _, c := range []irohub.Conn{dialled, accepted} {
		if _, err := c.OpenStream(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v, want ErrUnsupported", err)
		}
	}
	waiting := make(chan error, 2)
	for _, c := range []irohub.Conn{dialled, accepted} {
		go func() { _, err := c.AcceptStream(testContext(t)); waiting <- err }()
	}
	accepted.Close(5, "")
	wantCode(t, <-waiting, 5)
	wantCode(t, <-waiting, 5)
}

// A stream of which nothing has come but its end is seen too.
func TestStream_EmptyOne(t *testing.T) {
	dialled, accepted := pair(t)
	a, _ := dialled.OpenStream(t.Context())
	if err := a.CloseWrite(testContext(t)); err != nil {
		t.Fatal(err)
	}
	b, err := accepted.AcceptStream(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := b.Read(testContext(t), make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
	}
	if err := a.CloseWrite(testContext(t)); err != nil {
		t.Errorf("CloseWrite again: %v", err)
	}
}

// Peers that a hub turns away, and that do not care, hold a bounded number of connections.
func TestEndpoint_LingeringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, peers = 8, 40
		from, to, between := wiring(t)
		to.patience = most
		var turnedAway []irohub.Conn
		for range peers {
			_, c := connect(t, from, to)
			turnedAway = append(turnedAway, c)
		}
		between.deaf.Store(true)
		for _, c := range turnedAway {
			c.Close(irohub.CodeForbidden, "not you")
		}
		held := func() (conns, lingering int) {
			synctest.Wait()
			to.mu.Lock()
			defer to.mu.Unlock()
			return len(to.conns), len(to.lingering)
		}
		if conns, lingering := held(); conns != most || lingering != most {
			t.Errorf("%d connections are held, of which %d linger, want %d", conns, lingering, most)
		}
		time.Sleep(closeTimeout)
		if conns, lingering := held(); conns != 0 || lingering != 0 {
			t.Errorf("at the end, %d connections are held, of which %d linger", conns, lingering)
		}
		close(between.hear)
	})
}

// Who is cut short has been told why all the same.
func TestEndpoint_LingeringCutShortHasToldThePeer(t *testing.T) {
	const most, peers = 2, 20
	e := serveTest(t, Options{})
	e.patience = most
	var deaf []*hostile
	for range peers {
		theirs, ours := besieged(t, e)
		deaf = append(deaf, theirs)
		ours.Close(irohub.CodeForbidden, "not you")
		for said := false; !said; time.Sleep(time.Millisecond) {
			ours.mu.Lock()
			said = ours.said
			ours.mu.Unlock()
		}
	}
	for _, theirs := range deaf {
		if reason := theirs.wantTold(irohub.CodeForbidden); reason != "not you" {
			t.Errorf("one was told %q", reason)
		}
	}
}

// A lingerer notes what is to be left behind of it.
type lingerer struct {
	net.Conn
	traces []string
}

func (l *lingerer) SetLinger(int) error { l.traces = append(l.traces, "none"); return nil }
func (l *lingerer) Close() error        { l.traces = append(l.traces, "closed"); return nil }

// An above is a TLS connection, as it were, which is not to be waited for.
type above struct{ net.Conn }

func (a above) NetConn() net.Conn { return a.Conn }

// What a peer was told is left to the kernel, and nothing else is.
func TestSocket_CutLeavesWhatWasSaid(t *testing.T) {
	for trace, want := range map[bool]string{true: "closed", false: "none closed"} {
		l := &lingerer{}
		(&socket{Conn: above{above{l}}}).cut(trace)
		if got := strings.Join(l.traces, " "); got != want {
			t.Errorf("said %t: %s, want %s", trace, got, want)
		}
	}
}

// Who closes where nothing can be written any more does not wait.
func TestConn_CloseAfterAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, between := wired(t)
		a, _ := openStream(t, dialled, accepted)
		between.mute.Store(true)
		start := time.Now()
		a.Write(t.Context(), []byte("x"))
		synctest.Wait()
		dialled.Close(irohub.CodeShutdown, "")
		dialled.endpoint.Close()
		if d := time.Since(start); d > 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// A write that fails ends the connection, within a second, in which a code can yet come.
func TestConn_FailedWrite(t *testing.T) {
	for _, closed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			dialled, accepted, between := wired(t)
			a, _ := openStream(t, dialled, accepted)
			between.mute.Store(true)
			start := time.Now()
			a.Write(t.Context(), []byte("x"))
			synctest.Wait()
			if closed {
				accepted.Close(irohub.CodeSlow, "")
				wantCode(t, dialled.Wait(t.Context()), irohub.CodeSlow)
			} else if err := dialled.Wait(t.Context()); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "no way out") {
				t.Errorf("%v, want what was wrong", err)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestConn_LongReasonIsCutBetweenCharacters(t *testing.T) {
	dialled, accepted := pair(t)
	dialled.Close(7, "x"+strings.Repeat("é", records.MaxReason))
	if got := wantCode(t, accepted.Wait(testContext(t)), 7); got != "x"+strings.Repeat("é", records.MaxReason/2-1) {
		t.Errorf("a reason of %d bytes: …%q", len(got), got[max(0, len(got)-4):])
	}
}
