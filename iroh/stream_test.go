//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"irohub"
	"irohub/key"
)

// pair returns the two ends of a connection between two new endpoints.
func pair(t testing.TB) (dialled, accepted irohub.Conn) {
	t.Helper()
	return connect(t, bind(t, Options{}), bind(t, Options{}))
}

// newStream returns the two ends of a stream between two new endpoints.
func newStream(t testing.TB) (opened, accepted irohub.Stream) {
	t.Helper()
	dialled, other := pair(t)
	return openStream(t, dialled, other)
}

// wantCode fails the test if err does not wrap a CloseError with this code.
func wantCode(t testing.TB, what string, err error, code uint64) *irohub.CloseError {
	t.Helper()
	var ce *irohub.CloseError
	if !errors.As(err, &ce) || ce.Code != code || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%s: %v, want code %d", what, err, code)
		return &irohub.CloseError{}
	}
	return ce
}

func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(p)
	return p
}

func TestStream_BothWays(t *testing.T) {
	dialled, accepted := pair(t)
	opened, streamed := openStream(t, dialled, accepted)
	ctx := testContext(t)
	data := noise(3 << 20)
	var writing sync.WaitGroup
	for _, s := range []irohub.Stream{opened, streamed} {
		writing.Go(func() {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+rand.IntN(200<<10))
				if k, err := s.Write(ctx, rest[:n]); k != n || err != nil {
					t.Errorf("Write: %d of %d, %v", k, n, err)
					return
				}
				rest = rest[n:]
			}
			if err := s.CloseWrite(ctx); err != nil {
				t.Errorf("CloseWrite: %v", err)
			}
			if _, err := s.Write(ctx, data[:1]); err != errWritten {
				t.Errorf("Write after CloseWrite: %v", err)
			}
			if err := s.CloseWrite(ctx); err != errWritten {
				t.Errorf("CloseWrite after CloseWrite: %v", err)
			}
		})
	}
	for _, s := range []irohub.Stream{opened, streamed} {
		writing.Go(func() {
			got := readN(t, s, len(data))
			if !bytes.Equal(got, data) {
				t.Error("other bytes came than went")
			}
			for range 2 {
				if n, err := s.Read(ctx, make([]byte, 10)); n != 0 || err != io.EOF {
					t.Errorf("at the end: %d, %v", n, err)
				}
			}
		})
	}
	writing.Wait()
}

func TestStream_Empty(t *testing.T) {
	opened, streamed := newStream(t)
	ctx := testContext(t)
	if n, err := opened.Read(ctx, nil); n != 0 || err != nil {
		t.Errorf("Read: %d, %v", n, err)
	}
	if n, err := opened.Write(ctx, nil); n != 0 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	go opened.CloseWrite(ctx)
	if n, err := streamed.Read(ctx, make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("Read: %d, %v", n, err)
	}
}

func TestStream_ManyOnOneConnection(t *testing.T) {
	const streams = 16
	dialled, accepted := pair(t)
	var running sync.WaitGroup
	var held []irohub.Stream // a forgotten stream is reset, and loses data in flight
	for i := range streams {
		opened, streamed := openStream(t, dialled, accepted)
		held = append(held, opened, streamed)
		data := noise(100<<10 + i)
		running.Go(func() {
			if _, err := opened.Write(testContext(t), data); err != nil {
				t.Error(err)
			}
			if got := readN(t, opened, len(data)); !bytes.Equal(got, data) {
				t.Errorf("stream %d: other bytes", i)
			}
		})
		running.Go(func() {
			if _, err := streamed.Write(testContext(t), readN(t, streamed, len(data))); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	runtime.KeepAlive(held)
}

func TestStream_LimitIsKept(t *testing.T) {
	dialled, accepted := connect(t, bind(t, Options{}), bind(t, Options{MaxStreams: 2}))
	ctx := testContext(t)
	first, firstEnd := openStream(t, dialled, accepted)
	openStream(t, dialled, accepted)
	next := make(chan irohub.Stream)
	go func() {
		s, err := accepted.AcceptStream(ctx)
		if err != nil {
			t.Error(err)
		}
		next <- s
	}()
	third, err := dialled.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := third.Write(ctx, []byte("3")); err != nil {
		t.Fatal(err)
	}
	_, err = third.Read(ctx, make([]byte, 1))
	wantCode(t, "one too many", err, irohub.CodeTooMany)

	// After one has ended, another may be opened.
	first.Abort(0)
	firstEnd.Abort(0)
	fourth, err := dialled.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fourth.Write(ctx, []byte("4")); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, <-next, 1); string(got) != "4" {
		t.Errorf("%q was accepted", got)
	}
}

func TestConn_CloseCodes(t *testing.T) {
	for name, c := range map[string]struct {
		code   uint64
		reason string
		want   string // other than reason
	}{
		"none":          {0, "", ""},
		"plain":         {1, "shutting down", ""},
		"imitation":     {3, "x (code 9)", ""},
		"imitation too": {3, "closed by peer: 9", ""},
		"digits":        {3, "9", ""},
		"debug":         {3, `ApplicationClosed(ApplicationClose { error_code: 9, reason: b"" }))`, ""},
		"quotes":        {3, `"' \" \n \x00`, ""},
		"lines":         {3, "a\nb\r\n\x00\x1b[31mc", ""},
		"unicode":       {3, "größer 世界 🙂", ""},
		"not UTF-8":     {3, "a\xff\xfeb", "a\uFFFD\uFFFDb"},
		"spaces":        {3, "  ", ""},
		"biggest code":  {1<<62 - 1, "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dialled, accepted := pair(t)
			opened, streamed := openStream(t, dialled, accepted)
			want := c.want
			if want == "" {
				want = c.reason
			}
			ctx := testContext(t)
			errs := make(chan error)
			for _, call := range []func() error{
				func() error { return dialled.Wait(ctx) },
				func() error { _, err := opened.Read(ctx, make([]byte, 1)); return err },
				func() error { _, err := dialled.AcceptStream(ctx); return err },
			} {
				go func() { errs <- call() }()
			}
			accepted.Close(c.code, c.reason)
			accepted.Close(7, "only the first counts")
			for range 3 {
				if ce := wantCode(t, "peer", <-errs, c.code); ce.Reason != want {
					t.Errorf("reason %q, want %q", ce.Reason, want)
				}
			}
			_, err := opened.Write(ctx, []byte("x"))
			wantCode(t, "write", err, c.code)
			wantCode(t, "finish", opened.CloseWrite(ctx), c.code)
			_, err = dialled.OpenStream(ctx)
			wantCode(t, "open", err, c.code)
			dialled.Close(8, "too late")
			wantCode(t, "wait", dialled.Wait(ctx), c.code)

			// The closing side knows its own code.
			_, err = streamed.Read(ctx, make([]byte, 1))
			if ce := wantCode(t, "own read", err, c.code); ce.Reason != c.reason {
				t.Errorf("own reason %q", ce.Reason)
			}
			_, err = accepted.AcceptStream(ctx)
			wantCode(t, "own accept", err, c.code)
			wantCode(t, "own wait", accepted.Wait(ctx), c.code)
		})
	}
}

func TestConn_CloseLimits(t *testing.T) {
	dialled, accepted := pair(t)
	reason := strings.Repeat("é", 5000)
	accepted.Close(1<<63, reason)
	err := dialled.Wait(testContext(t))
	ce := wantCode(t, "peer", err, 1<<62-1)
	if !strings.HasPrefix(reason, ce.Reason) || len(ce.Reason) < 500 || !utf8.ValidString(ce.Reason) {
		t.Errorf("%d bytes of reason came: %.20q", len(ce.Reason), ce.Reason)
	}
}

// TestConn_ReadAfterClose: data that has arrived can be read after the peer has closed. So
// a hub may close as soon as CloseWrite reports that the data has arrived.
func TestConn_ReadAfterClose(t *testing.T) {
	dialled, accepted := pair(t)
	opened, streamed := openStream(t, dialled, accepted)
	ctx := testContext(t)
	data := noise(800_000)
	if _, err := opened.Write(ctx, data); err != nil {
		t.Fatal(err)
	}
	if err := opened.CloseWrite(ctx); err != nil {
		t.Fatal(err)
	}
	dialled.Close(irohub.CodeShutdown, "")
	wantCode(t, "wait", accepted.Wait(ctx), irohub.CodeShutdown)
	accepted.Close(0, "") // too late to change anything
	if got := readN(t, streamed, len(data)); !bytes.Equal(got, data) {
		t.Error("other bytes came than went")
	}
	if _, err := streamed.Read(ctx, data); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestConn_AcceptAfterClose: after the peer has closed, an earlier stream can be accepted.
func TestConn_AcceptAfterClose(t *testing.T) {
	dialled, accepted := pair(t)
	opened, err := dialled.OpenStream(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	if _, err := opened.Write(ctx, []byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := opened.CloseWrite(ctx); err != nil {
		t.Fatal(err)
	}
	dialled.Close(irohub.CodeShutdown, "")
	wantCode(t, "wait", accepted.Wait(ctx), irohub.CodeShutdown)
	s, err := accepted.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := readN(t, s, 10); string(got) != "last words" {
		t.Errorf("%q", got)
	}
	_, err = accepted.AcceptStream(ctx)
	wantCode(t, "one more", err, irohub.CodeShutdown)
}

func TestStream_AbortTellsThePeer(t *testing.T) {
	opened, streamed := newStream(t)
	ctx := testContext(t)
	opened.Abort(4)
	opened.Abort(5)
	_, err := streamed.Read(ctx, make([]byte, 1))
	wantCode(t, "read", err, 4)
	for err = nil; err == nil; { // the news may take a while
		_, err = streamed.Write(ctx, make([]byte, 1<<10))
	}
	wantCode(t, "write", err, 4)
	wantCode(t, "finish", streamed.CloseWrite(ctx), 4)
	_, err = opened.Read(ctx, make([]byte, 1))
	wantCode(t, "own read", err, 4)
	_, err = opened.Write(ctx, make([]byte, 1))
	wantCode(t, "own write", err, 4)
}

// TestStream_StopIsHeard: a peer stops reading a stream but continues to write it.
func TestStream_StopIsHeard(t *testing.T) {
	opened, streamed := newStream(t)
	ctx := testContext(t)
	blocked := make(chan error, 1)
	go func() {
		_, err := opened.Write(ctx, make([]byte, 64<<20))
		blocked <- err
	}()
	readN(t, streamed, 1) // the peer still writes
	streamed.(*stream).recv.end(&ending{err: errForgotten, reset: true, code: 7})
	wantCode(t, "blocked write", <-blocked, 7)
	_, err := opened.Write(ctx, []byte("x"))
	wantCode(t, "write", err, 7)
	wantCode(t, "finish", opened.CloseWrite(ctx), 7)
	if _, err := streamed.Write(ctx, []byte("on")); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, opened, 2); string(got) != "on" {
		t.Errorf("the other half carried %q", got)
	}

	// CloseWrite returns the code too.
	opened, streamed = newStream(t)
	streamed.(*stream).recv.end(&ending{err: errForgotten, reset: true, code: 8})
	for err = nil; err == nil; { // the news may take a while
		_, err = opened.Write(ctx, []byte("x"))
	}
	wantCode(t, "finish", opened.CloseWrite(ctx), 8)
}

// TestStream_AbortEndsBlockedCalls aborts one of several streams while a Read and a Write
// wait on it. The others continue.
func TestStream_AbortEndsBlockedCalls(t *testing.T) {
	wantNoHandles(t)
	dialled, accepted := pair(t)
	other, otherEnd := openStream(t, dialled, accepted)
	base := live.Load()
	for range 20 {
		opened, streamed := openStream(t, dialled, accepted)
		ctx := testContext(t)
		errs := make(chan error)
		go func() {
			_, err := opened.Read(ctx, make([]byte, 1))
			errs <- err
		}()
		go func() {
			var err error
			for err == nil { // nobody reads, so it blocks in the end
				_, err = opened.Write(ctx, make([]byte, 64<<10))
			}
			errs <- err
		}()
		for live.Load() < base+4+2 { // four halves and two pending futures
			runtime.Gosched()
		}
		opened.Abort(4)
		for range 2 {
			wantCode(t, "blocked", <-errs, 4)
		}
		var err error
		for err == nil {
			_, err = streamed.Read(ctx, make([]byte, 64<<10))
		}
		wantCode(t, "the peer's read", err, 4)
		streamed.Abort(0)
		if _, err := other.Write(ctx, []byte("on")); err != nil {
			t.Fatal(err)
		}
		if got := readN(t, otherEnd, 2); string(got) != "on" {
			t.Fatalf("%q", got)
		}
	}
	if n := live.Load(); n != base {
		t.Errorf("%d handles, %d before", n, base)
	}
}

// TestStream_AbortDuringCloseWrite: the peer gets either all data or the code.
func TestStream_AbortDuringCloseWrite(t *testing.T) {
	wantNoHandles(t)
	dialled, accepted := pair(t)
	base := live.Load()
	for i := range 50 {
		opened, streamed := openStream(t, dialled, accepted)
		ctx := testContext(t)
		if _, err := opened.Write(ctx, make([]byte, 300<<10)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- opened.CloseWrite(ctx) }()
		for range i * i {
			runtime.Gosched()
		}
		opened.Abort(6)
		whole := <-done
		if whole != nil {
			wantCode(t, "CloseWrite", whole, 6)
		}
		n, err := 0, error(nil)
		for p := make([]byte, 64<<10); err == nil; {
			var k int
			k, err = streamed.Read(ctx, p)
			n += k
		}
		if err == io.EOF && n != 300<<10 {
			t.Errorf("the stream ended whole after %d bytes", n)
		} else if err != io.EOF {
			wantCode(t, "the peer's read", err, 6)
		}
		if whole == nil && err != io.EOF {
			t.Errorf("CloseWrite reports success, the peer's read %v", err)
		}
		streamed.Abort(0)
	}
	if n := live.Load(); n != base {
		t.Errorf("%d handles, %d before", n, base)
	}
}

func TestStream_CloseBlockedConn(t *testing.T) {
	dialled, accepted := pair(t)
	opened, _ := openStream(t, dialled, accepted)
	ctx := testContext(t)
	base := live.Load()
	done := make(chan error)
	go func() {
		var err error
		for err == nil {
			_, err = opened.Write(ctx, make([]byte, 64<<10))
		}
		done <- err
	}()
	for live.Load() == base {
		runtime.Gosched()
	}
	dialled.Close(irohub.CodeSlow, "")
	wantCode(t, "write", <-done, irohub.CodeSlow)
	wantCode(t, "peer", accepted.Wait(ctx), irohub.CodeSlow)
}

// TestCancelStorm cancels waiting calls of every kind, at every moment, from many
// goroutines. Nothing may be left of them.
func TestCancelStorm(t *testing.T) {
	wantNoHandles(t)
	a, b := bind(t, Options{}), bind(t, Options{MaxStreams: 100})
	dialled, accepted := connect(t, a, b)
	addr := irohub.Addr{ID: key.New().ID(), Hosts: []string{closedPort(t)}}
	var peer sync.WaitGroup
	peer.Go(func() { // aborts every stream, so that more can always be opened
		for {
			s, err := accepted.AcceptStream(context.Background())
			if err != nil {
				return
			}
			peer.Go(func() {
				for err == nil {
					_, err = s.Read(context.Background(), make([]byte, 64<<10))
				}
				s.Abort(0)
			})
		}
	})
	calls := []func(context.Context, irohub.Stream) error{
		func(ctx context.Context, s irohub.Stream) error { _, err := s.Read(ctx, make([]byte, 100)); return err },
		func(ctx context.Context, s irohub.Stream) error {
			var err error
			for err == nil {
				_, err = s.Write(ctx, make([]byte, 64<<10))
			}
			return err
		},
		func(ctx context.Context, s irohub.Stream) error { return dialled.Wait(ctx) },
		func(ctx context.Context, s irohub.Stream) error { _, err := dialled.AcceptStream(ctx); return err },
		func(ctx context.Context, s irohub.Stream) error { _, err := a.Accept(ctx); return err },
		func(ctx context.Context, s irohub.Stream) error { _, err := a.Dial(ctx, addr); return err },
	}
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	var storm sync.WaitGroup
	for i, call := range calls {
		for range 3 {
			storm.Go(func() {
				for n := range rounds {
					s, err := dialled.OpenStream(testContext(t))
					if err != nil {
						t.Error(err)
						return
					}
					ctx, cancel := context.WithCancel(context.Background())
					go func() {
						for range n * n { // first at once, then with growing delays
							runtime.Gosched()
						}
						cancel()
					}()
					if err := call(ctx, s); !errors.Is(err, context.Canceled) {
						t.Errorf("call %d: %v", i, err)
					}
					s.Abort(0)
				}
			})
		}
	}
	storm.Wait()
	if t.Failed() {
		return
	}
	opened, err := dialled.OpenStream(testContext(t)) // the connection still works
	if err == nil {
		_, err = opened.Write(testContext(t), []byte("x"))
	}
	if err == nil {
		err = opened.CloseWrite(testContext(t))
	}
	if err != nil {
		t.Error(err)
	} else {
		opened.Abort(0)
	}
	dialled.Close(0, "")
	peer.Wait()
	accepted.Close(0, "")
	wantHandles(t, 2) // the endpoints
}

// TestStream_MisuseNeverCrashes uses objects after their end, from many goroutines.
func TestStream_MisuseNeverCrashes(t *testing.T) {
	dialled, accepted := pair(t)
	ctx := testContext(t)
	for range 20 {
		opened, streamed := openStream(t, dialled, accepted)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				switch s := []irohub.Stream{opened, streamed}[i%2]; i / 2 % 4 {
				case 0:
					s.Read(ctx, make([]byte, 10))
				case 1:
					s.Write(ctx, make([]byte, 10))
				case 2:
					s.CloseWrite(ctx)
				case 3:
					s.Abort(uint64(i))
				}
			})
		}
		all.Wait()
	}
	dialled.Close(0, "")
	accepted.Close(0, "")
	for _, c := range []irohub.Conn{dialled, accepted} {
		if _, err := c.OpenStream(ctx); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestIncoming_OnlyOnce: a second Handshake fails, and a later Refuse does nothing.
func TestIncoming_OnlyOnce(t *testing.T) {
	from, to := bind(t, Options{}), bind(t, Options{})
	ctx := testContext(t)
	go func() {
		if c, err := from.Dial(ctx, to.Addr()); err == nil {
			c.Wait(ctx)
		}
	}()
	in, err := to.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c, err := in.Handshake(ctx)
	if err != nil {
		t.Fatal(err)
	}
	in.Refuse()
	if _, err := in.Handshake(ctx); err == nil {
		t.Error("accepted twice")
	}
	c.Close(0, "")
}

func TestRead_DoesNotAllocate(t *testing.T) {
	opened, streamed := newStream(t)
	ctx := context.Background()
	p, q := make([]byte, 256), make([]byte, 256)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := opened.Write(ctx, p); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(q); {
			k, err := streamed.Read(ctx, q[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	})
	if allocs >= 1 {
		t.Errorf("%v allocations for a Write and its Read, which waits", allocs)
	}
}

func TestTicket(t *testing.T) {
	needLibrary(t)
	for _, addr := range []irohub.Addr{
		{ID: key.New().ID()},
		{ID: key.New().ID(), Hosts: []string{"127.0.0.1:4433", "[2001:db8::1]:5"}},
		{ID: key.New().ID(), Hosts: []string{"127.0.0.1:4433"}, Relay: "https://relay.example./"},
	} {
		s, err := Ticket(addr)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseTicket(" " + s + "\n"); err != nil || got.String() != addr.String() || got.Relay != addr.Relay {
			t.Errorf("%q: %v %q, %v, want %v", s, got, got.Relay, err, addr)
		}
	}
	for _, s := range []string{"", "endpoint", "endpointabc", "nodeabc", "\xff", strings.Repeat("endpoint", 1000)} {
		if _, err := ParseTicket(s); !errors.Is(err, ErrAddr) {
			t.Errorf("%.20q: %v", s, err)
		}
	}
	for _, addr := range []irohub.Addr{
		{ID: key.New().ID(), Hosts: []string{"127.0.0.1"}},
		{ID: key.New().ID(), Relay: "::"},
	} {
		if s, err := Ticket(addr); !errors.Is(err, ErrAddr) {
			t.Errorf("%v: %q, %v", addr, s, err)
		}
	}
}
