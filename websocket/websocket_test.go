package websocket

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/records"
)

var (
	_ irohub.Endpoint = (*Endpoint)(nil)
	_ http.Handler    = (*Endpoint)(nil)
)

// failsafe bounds what a broken test would wait for; no test measures time.
const failsafe = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failsafe)
	t.Cleanup(cancel)
	return ctx
}

// newTest makes an endpoint that is closed when the test ends.
func newTest(t testing.TB, o Options) *Endpoint {
	t.Helper()
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// serveTest makes an endpoint that can be reached, in plain HTTP on the loopback.
func serveTest(t testing.TB, o Options) *Endpoint {
	t.Helper()
	l := listenTest(t)
	o.URLs = append(o.URLs, "ws://"+l.Addr().String()+"/hub")
	return serveAt(t, l, o)
}

// serveBehind makes an endpoint that can be reached through a proxy.
func serveBehind(t testing.TB, proxy *Proxy) *Endpoint {
	t.Helper()
	l := listenTest(t)
	return serveAt(t, l, Options{URLs: []string{proxy.URL(l.Addr(), "/hub")}})
}

func listenTest(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serveAt(t testing.TB, l net.Listener, o Options) *Endpoint {
	t.Helper()
	e := newTest(t, o)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: e, ErrorLog: log.New(io.Discard, "", 0)}}
	server.Start()
	t.Cleanup(func() {
		e.Close()
		server.Close()
	})
	return e
}

// shake accepts the next peer.
func shake(ctx context.Context, e *Endpoint) (irohub.Conn, error) {
	in, err := e.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return in.Handshake(ctx)
}

// An answer is what a handshake in another goroutine has come to.
type answer struct {
	conn irohub.Conn
	err  error
}

func shaking(t testing.TB, e *Endpoint) <-chan answer {
	t.Helper()
	ctx := testContext(t)
	answers := make(chan answer, 1)
	go func() {
		c, err := shake(ctx, e)
		answers <- answer{c, err}
	}()
	return answers
}

// connect connects two endpoints: dialled is the end of from, accepted that of to.
func connect(t testing.TB, from, to *Endpoint) (dialled, accepted irohub.Conn) {
	t.Helper()
	answers := shaking(t, to)
	dialled, err := from.Dial(testContext(t), to.Addr())
	a := <-answers
	if err := errors.Join(err, a.err); err != nil {
		t.Fatal(err)
	}
	return dialled, a.conn
}

func pair(t testing.TB) (dialled, accepted irohub.Conn) {
	t.Helper()
	return connect(t, newTest(t, Options{}), serveTest(t, Options{}))
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

// A hostile is one side of a WebSocket as the test plays it.
type hostile struct {
	testing.TB
	*websocket.Conn
	ctx context.Context
	below
}

// below keeps what a client's WebSocket runs on.
type below struct{ net.Conn }

// besiege opens a WebSocket to an endpoint, and no more.
func besiege(t testing.TB, e *Endpoint) *hostile {
	t.Helper()
	h := &hostile{TB: t, ctx: testContext(t)}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		h.below.Conn = c
		return c, err
	}}
	ws, _, err := websocket.Dial(h.ctx, e.urls[0], &websocket.DialOptions{
		Subprotocols: []string{e.protocol}, HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { h.below.Conn.Close(); ws.CloseNow() })
	h.Conn = ws
	return h
}

// besieged is one that has shaken hands, and our end of it.
func besieged(t testing.TB, e *Endpoint) (theirs *hostile, ours *conn) {
	t.Helper()
	answers := shaking(t, e)
	theirs = besiege(t, e)
	dialler := newTest(t, Options{})
	h := newHandshake(theirs.Conn, dialler.secret)
	err := h.dial(theirs.ctx, e.ID(), hostOf(t, e))
	theirs.SetReadLimit(-1)
	a := <-answers
	if err := errors.Join(err, a.err); err != nil {
		t.Fatal(err)
	}
	return theirs, a.conn.(*conn)
}

func hostOf(t testing.TB, e *Endpoint) string {
	t.Helper()
	_, host, err := parseURL(e.urls[0])
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// send sends messages, as long as they are taken.
func (h *hostile) send(messages ...string) {
	for _, m := range messages {
		if h.Write(h.ctx, websocket.MessageBinary, []byte(m)) != nil {
			return
		}
	}
}

// wantTold reads to the record of the close that it is told.
func (h *hostile) wantTold(code uint64) (reason string) {
	h.Helper()
	for {
		_, p, err := h.Read(h.ctx)
		if err != nil {
			h.Errorf("it was not told why: %v", err)
			return ""
		}
		if len(p) >= 9 && p[0] == byte(records.Close) {
			if string(p[1:9]) != number(code) {
				h.Errorf("it was told %q, want code %d", p, code)
			}
			return string(p[9:])
		}
	}
}

// What the messages of a handshake begin with.
var (
	mHello  = string([]byte{msgHello})
	mAnswer = string([]byte{msgAnswer})
	mProof  = string([]byte{msgProof})
	mClose  = record(records.Close, "")
)
