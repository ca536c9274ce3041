//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"irohub"
)

// failsafe ends a broken test; no test measures time.
const failsafe = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failsafe)
	t.Cleanup(cancel)
	return ctx
}

// needLibrary skips the test if the native library has not been fetched.
func needLibrary(t testing.TB) {
	t.Helper()
	err := load("")
	switch {
	case err == nil:
	case errors.Is(err, ErrNoLibrary) && os.Getenv("CI") != "true":
		t.Skipf("the native library is not there; run: make native (%v)", err)
	default:
		t.Fatal(err)
	}
}

// bind opens an endpoint on the loopback interface.
func bind(t testing.TB, o Options) *Endpoint {
	t.Helper()
	needLibrary(t)
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	e, err := Bind(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// wantHandles waits until the library holds n objects and futures. Futures of a connection
// are dropped a moment after it was closed.
func wantHandles(t testing.TB, n int64) {
	t.Helper()
	for ctx := testContext(t); live.Load() != n; runtime.Gosched() {
		if ctx.Err() != nil {
			t.Fatalf("%d handles, want %d", live.Load(), n)
		}
	}
}

// wantNoHandles waits until the library holds nothing any more. What earlier tests have
// forgotten is freed by the garbage collector.
func wantNoHandles(t testing.TB) {
	t.Helper()
	for ctx := testContext(t); live.Load() != 0; runtime.GC() {
		if ctx.Err() != nil {
			t.Fatalf("%d handles are left", live.Load())
		}
	}
}

// connect connects two endpoints: dialled is the end of from, accepted that of to.
// The test holds both until it ends.
func connect(t testing.TB, from, to *Endpoint) (dialled, accepted irohub.Conn) {
	t.Helper()
	dialled, accepted = connectLoose(t, from, to)
	t.Cleanup(func() {
		dialled.Close(0, "")
		accepted.Close(0, "")
	})
	return dialled, accepted
}

// connectLoose is like connect, but the test does not keep the ends alive.
func connectLoose(t testing.TB, from, to *Endpoint) (dialled, accepted irohub.Conn) {
	t.Helper()
	ctx := testContext(t)
	type answer struct {
		c   irohub.Conn
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		in, err := to.Accept(ctx)
		if err != nil {
			ch <- answer{nil, err}
			return
		}
		c, err := in.Handshake(ctx)
		ch <- answer{c, err}
	}()
	dialled, err := from.Dial(ctx, to.Addr())
	if err != nil {
		t.Fatal(err)
	}
	a := <-ch
	if a.err != nil {
		t.Fatal(a.err)
	}
	return dialled, a.c
}

// openStream opens a stream from one end and accepts it at the other. The test
// holds both until it ends.
func openStream(t testing.TB, from, to irohub.Conn) (opened, accepted irohub.Stream) {
	t.Helper()
	opened, accepted = openLoose(t, from, to)
	t.Cleanup(func() {
		opened.Abort(0)
		accepted.Abort(0)
	})
	return opened, accepted
}

// openLoose is like openStream, but the test does not keep the ends alive.
func openLoose(t testing.TB, from, to irohub.Conn) (opened, accepted irohub.Stream) {
	t.Helper()
	ctx := testContext(t)
	opened, err := from.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Write(ctx, []byte{'!'}); err != nil {
		t.Fatal(err)
	}
	if accepted, err = to.AcceptStream(ctx); err != nil {
		t.Fatal(err)
	}
	if got := readN(t, accepted, 1); got[0] != '!' {
		t.Fatalf("first byte %q", got)
	}
	return opened, accepted
}

func readN(t testing.TB, s irohub.Stream, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	for i := 0; i < n; {
		k, err := s.Read(testContext(t), p[i:])
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", i, n, err)
		}
		i += k
	}
	return p
}
