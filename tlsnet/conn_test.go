package tlsnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/internal/records"
	"irohub/key"
)

// A wire is one end of an in-memory connection. It can be cut so that neither end notices.
type wire struct {
	net.Conn
	isCut *atomic.Bool
}

// Close on a cut wire is not noticed by the peer either.
func (w wire) Close() error {
	if w.isCut.Load() {
		return w.SetDeadline(longAgo)
	}
	return w.Conn.Close()
}

func (w wire) Write(p []byte) (int, error) {
	if w.isCut.Load() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// wired connects two nodes in a synctest bubble, where time is simulated.
func wired(t *testing.T) (dialled, accepted *conn, isCut *atomic.Bool) {
	t.Helper()
	isCut = new(atomic.Bool)
	p, q := net.Pipe()
	a, b := bindTest(t, Options{}), bindTest(t, Options{})
	type answer struct {
		c   *conn
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		c, err := b.handshake(t.Context(), wire{q, isCut}, nil)
		answers <- answer{c, err}
	}()
	id := b.ID()
	dialled, err := a.handshake(t.Context(), wire{p, isCut}, &id)
	got := <-answers
	if err := errors.Join(err, got.err); err != nil {
		t.Fatal(err)
	}
	return dialled, got.c, isCut
}

func TestConn_DeadPeerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted, isCut := wired(t)
		a, b := openStream(t, dialled, accepted)
		time.Sleep(time.Hour) // silence of the applications does not end it
		if !dialled.open() || !accepted.open() {
			t.Fatal(dialled.why, accepted.why)
		}
		isCut.Store(true)
		start := time.Now()
		for _, s := range []irohub.Stream{a, b} {
			_, err := s.Read(t.Context(), make([]byte, 1))
			var end net.Error
			if !errors.As(err, &end) || !end.Timeout() || !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v, want a timeout that wraps net.ErrClosed", err)
			}
		}
		if d := time.Since(start); d < 2*beat || d > 30*time.Second {
			t.Errorf("noticed after %v, want 14 to 30 s", d)
		}
	})
}

// An application that does not read is not considered dead, and it still receives a close.
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
		// Data that arrived earlier can still be read. openStream has read its first byte.
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

// A peer that does not read from its socket delays a close only for a short time.
func TestConn_CloseWhilePeerTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, q := net.Pipe()
		stuck := &stuckConn{Conn: q, stuck: make(chan struct{})}
		a, b := bindTest(t, Options{}), bindTest(t, Options{})
		go b.handshake(t.Context(), stuck, nil)
		id := b.ID()
		c, err := a.handshake(t.Context(), p, &id)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stuck.on.Store(true)
		s, _ := c.OpenStream(t.Context())
		blocked := make(chan error, 1)
		go func() { _, err := s.Write(t.Context(), make([]byte, 2*records.Window)); blocked <- err }()
		synctest.Wait()
		start := time.Now()
		c.Close(irohub.CodeTimeout, "")
		wantCode(t, <-blocked, irohub.CodeTimeout)
		if d := time.Since(start); d != 0 {
			t.Errorf("Write ended after %v", d)
		}
		a.Close()
		if d := time.Since(start); d > closeTimeout {
			t.Errorf("the endpoint closed after %v", d)
		}
		close(stuck.stuck)
	})
}

// A stuckConn stops reading when told to, and then ignores its deadline.
type stuckConn struct {
	net.Conn
	on    atomic.Bool
	stuck chan struct{}
}

func (c *stuckConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.on.Load() {
		<-c.stuck
	}
	return n, err
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

func TestStream_WriteAndReadAllocateNothing(t *testing.T) {
	dialled, accepted := pair(t)
	a, b := openStream(t, dialled, accepted)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, q := make([]byte, 1000), make([]byte, 1000)
	n := testing.AllocsPerRun(2000, func() {
		if _, err := a.Write(ctx, p); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(q); {
			k, err := b.Read(ctx, q[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	})
	// crypto/tls allocates now and then for a read; we allocate for a credit every 128 KiB.
	if n >= 2 && !raceEnabled {
		t.Errorf("%v allocations for a Write and a Read", n)
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

// AcceptStream also returns a stream on which nothing but its end has arrived.
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

func TestEndpoint_ManyConnectsLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	from, to := bindTest(t, Options{}), bindTest(t, Options{Addr: "127.0.0.1:0"})
	descriptors := countDescriptors(t)
	const count = 1000
	var waiting sync.WaitGroup
	for i := range count {
		dialled, accepted := connect(t, from, to)
		waiting.Go(func() {
			switch i % 3 {
			case 0:
				dialled.Close(0, "")
			case 1:
				accepted.Close(1, "shut")
			case 2:
				accepted.Close(2, "")
				dialled.Close(3, "")
			}
			dialled.Wait(context.Background())
			accepted.Wait(context.Background())
		})
	}
	waiting.Wait()
	for end := time.Now().Add(failsafe); countDescriptors(t) > descriptors; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, %d before", countDescriptors(t), descriptors)
		}
	}
	from.Close()
	to.Close()
	wantGoroutines(t, before)
}

// countDescriptors returns 0 where the system does not report descriptors.
func countDescriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(names)
}

func TestEndpoint_CloseEndsHandshakes(t *testing.T) {
	e := bindTest(t, Options{Addr: "127.0.0.1:0"})
	dialTCP(t, e) // and says nothing
	in, err := e.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := in.Handshake(testContext(t)); ended <- err }()
	dialTCP(t, e) // waits, and is not accepted
	e.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Handshake: %v, want net.ErrClosed", err)
	}
}

// A scarceListener runs out of descriptors for a while.
type scarceListener struct {
	net.Listener
	failures []error
	calls    int
}

func (l *scarceListener) Accept() (net.Conn, error) {
	l.calls++
	if len(l.failures) > 0 {
		err := l.failures[0]
		l.failures = l.failures[1:]
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	}
	a, _ := net.Pipe()
	return a, nil
}
func (l *scarceListener) Close() error { return nil }

func TestEndpoint_WaitsOutAWantOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &scarceListener{}
		for range 20 {
			l.failures = append(l.failures, syscall.EMFILE)
		}
		l.failures = append(l.failures, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM)
		config, err := newConfig(key.New(), irohub.ALPN)
		if err != nil {
			t.Fatal(err)
		}
		e := newEndpoint(key.New().ID(), irohub.ALPN, config)
		start := time.Now()
		e.listen(l)
		// The error is returned once, not for each attempt.
		_, err = e.Accept(t.Context())
		var short interface{ Temporary() bool }
		if !errors.As(err, &short) || !short.Temporary() || !errors.Is(err, syscall.EMFILE) || time.Since(start) > 0 {
			t.Fatalf("%v after %v, want a temporary EMFILE at once", err, time.Since(start))
		}
		in, err := e.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in.Refuse()
		if d := time.Since(start); d < 10*time.Second || d > 23*time.Second {
			t.Errorf("23 failures took %v, want pauses that grow to a second", d)
		}
		// Each shortage is reported anew. A peer that has left is not a shortage.
		l.failures = []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.EMFILE, syscall.EINVAL}
		in, _ = e.Accept(t.Context()) // this peer was there before
		in.Refuse()
		if _, err = e.Accept(t.Context()); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v, want EMFILE", err)
		}
		if _, err = e.Accept(t.Context()); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v, want EINVAL", err)
		}
		e.Close()
	})
}
