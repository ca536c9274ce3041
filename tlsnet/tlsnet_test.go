package tlsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"runtime"
	"testing"
	"time"

	"irohub"
	"irohub/key"
)

var _ irohub.Endpoint = (*Endpoint)(nil)

// failsafe ends a broken test; no test measures time.
const failsafe = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failsafe)
	t.Cleanup(cancel)
	return ctx
}

// bindTest opens an endpoint that is closed when the test ends.
func bindTest(t testing.TB, o Options) *Endpoint {
	t.Helper()
	e, err := Bind(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// testConfig returns the TLS configuration of a new node.
func testConfig(t testing.TB) *tls.Config {
	t.Helper()
	config, err := newConfig(key.New(), irohub.ALPN)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// connect connects two endpoints: dialled is the end of from, accepted that of to.
func connect(t testing.TB, from, to *Endpoint) (dialled, accepted irohub.Conn) {
	t.Helper()
	ctx := testContext(t)
	type answer struct {
		c   irohub.Conn
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		c, err := handshake(ctx, to)
		answers <- answer{c, err}
	}()
	dialled, err := from.Dial(ctx, to.Addr())
	a := <-answers
	if err := errors.Join(err, a.err); err != nil {
		t.Fatal(err)
	}
	return dialled, a.c
}

// handshake accepts the next peer.
func handshake(ctx context.Context, e *Endpoint) (irohub.Conn, error) {
	in, err := e.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return in.Handshake(ctx)
}

func pair(t testing.TB) (dialled, accepted irohub.Conn) {
	t.Helper()
	return connect(t, bindTest(t, Options{}), bindTest(t, Options{Addr: "127.0.0.1:0"}))
}

// openStream opens the stream of a connection and accepts it at the other end.
func openStream(t testing.TB, from, to irohub.Conn) (opened, accepted irohub.Stream) {
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

// wantCode checks that err is a close with this code, and returns its reason.
func wantCode(t testing.TB, err error, code uint64) string {
	t.Helper()
	end, ok := errors.AsType[*irohub.CloseError](err)
	if !ok || end.Code != code {
		t.Fatalf("ended with %v, want code %d", err, code)
	}
	return end.Reason
}

// wantGoroutines waits until the number of goroutines is no higher than before.
func wantGoroutines(t testing.TB, before int) {
	t.Helper()
	for end := time.Now().Add(failsafe); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
