package websocket

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"irohub"
	"irohub/key"
)

func TestNew_IdentityAndAddress(t *testing.T) {
	secret := key.New()
	urls := []string{"wss://hub.example.org/events", "ws://localhost:8080/"}
	e := newTest(t, Options{SecretKey: secret, URLs: urls})
	addr := e.Addr()
	if e.ID() != secret.ID() || addr.ID != secret.ID() || strings.Join(addr.Hosts, " ") != strings.Join(urls, " ") {
		t.Errorf("%v and %v", e.ID(), addr)
	}
	if !e.hosts["hub.example.org"] || !e.hosts["localhost:8080"] || len(e.hosts) != 2 {
		t.Errorf("hosts %v", e.hosts)
	}
	// What Addr says can be written down and read again.
	if read, err := irohub.ParseAddr(addr.String()); err != nil || read.String() != addr.String() {
		t.Errorf("%v, %v", read, err)
	}
	for _, bad := range []Options{
		{URLs: []string{"hub.example.org:443"}},
		{URLs: []string{"https://hub.example.org/"}},
		{URLs: []string{"ws://hub.example.org/"}},
		{URLs: []string{"wss://user@hub.example.org/"}},
		{URLs: []string{"wss://hub.example.org/a,b"}},
		{Origins: []string{"www.example.org"}},
		{Origins: []string{"https://www.example.org/page"}},
		{Origins: []string{"https://*.example.org"}},
	} {
		if _, err := New(bad); !errors.Is(err, ErrAddr) {
			t.Errorf("%+v: %v, want ErrAddr", bad, err)
		}
	}
	if _, err := New(Options{ALPN: "a b"}); err == nil {
		t.Error("an ALPN with a space")
	}
	if _, err := newTest(t, Options{}).Accept(t.Context()); !errors.Is(err, ErrAddr) {
		t.Errorf("Accept of one that only dials: %v", err)
	}
}

// A host has one form, which is that of a browser's URL.host.
func TestCanonicalHost(t *testing.T) {
	for given, want := range map[string]string{
		"wss://Hub.Example.ORG/x":           "hub.example.org",
		"wss://hub.example.org:443/":        "hub.example.org",
		"wss://hub.example.org:0443/":       "hub.example.org",
		"wss://hub.example.org:80/":         "hub.example.org:80",
		"wss://hub.example.org:8443":        "hub.example.org:8443",
		"wss://hub.example.org.":            "hub.example.org.",
		"wss://192.0.2.1/":                  "192.0.2.1",
		"wss://[2001:DB8:0:0:0:0:0:1]/":     "[2001:db8::1]",
		"wss://[2001:db8::1]:443/":          "[2001:db8::1]",
		"ws://[::1]:80/":                    "[::1]",
		"ws://LOCALHOST:443":                "localhost:443",
		"wss://xn--bcher-kva.example/":      "xn--bcher-kva.example",
		"wss://bücher.example/":             "",
		"wss://b%C3%BCcher.example/":        "",
		"wss:///path":                       "",
		"wss://hub.example.org:0x50/":       "",
		"wss://hub.example.org:70000/":      "",
		"wss://[::ffff:192.0.2.1]/":         "",
		"wss://[fe80::1%25eth0]/":           "",
		"wss://a b/":                        "",
		"wss://" + strings.Repeat("x", 256): "",
	} {
		_, got, err := parseURL(given)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", given, got, err, want)
		}
	}
}

// Each request that is none of a spoke's is answered without a place being held for it.
func TestServeHTTP_Requests(t *testing.T) {
	e := newTest(t, Options{URLs: []string{"wss://hub.example.org/", "ws://localhost:8080/"}, Origins: []string{"https://WWW.example.org:443"}})
	upgrade := func(name, value string) http.Header {
		h := http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {"other, alkpubsub.1"}}
		h.Del(name)
		if value != "" {
			h.Set(name, value)
		}
		return h
	}
	for name, test := range map[string]struct {
		header http.Header
		want   int
	}{
		"a browser's page":     {http.Header{}, http.StatusUpgradeRequired},
		"no upgrade":           {upgrade("Upgrade", ""), http.StatusUpgradeRequired},
		"another upgrade":      {upgrade("Upgrade", "h2c"), http.StatusUpgradeRequired},
		"another subprotocol":  {upgrade("Sec-WebSocket-Protocol", "alkpubsub.2"), http.StatusBadRequest},
		"none":                 {upgrade("Sec-WebSocket-Protocol", ""), http.StatusBadRequest},
		"one in capitals":      {upgrade("Sec-WebSocket-Protocol", "ALKPUBSUB.1"), http.StatusBadRequest},
		"long headers":         {upgrade("Cookie", strings.Repeat("x", maxHeader)), http.StatusRequestHeaderFieldsTooLarge},
		"another origin":       {upgrade("Origin", "https://evil.example"), http.StatusForbidden},
		"a file":               {upgrade("Origin", "null"), http.StatusForbidden},
		"the host without TLS": {upgrade("Origin", "http://hub.example.org"), http.StatusForbidden},
		"a host's other port":  {upgrade("Origin", "https://hub.example.org:8443"), http.StatusForbidden},
		"an empty origin":      {http.Header{"Origin": {""}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, http.StatusForbidden},
		"two origins": {func() http.Header {
			h := upgrade("", "")
			h["Origin"] = []string{"https://hub.example.org", "null"}
			return h
		}(), http.StatusForbidden},
		"its own host":        {upgrade("Origin", "https://hub.example.org"), 0},
		"its other host":      {upgrade("Origin", "http://localhost:8080"), 0},
		"one that is allowed": {upgrade("Origin", "https://www.example.org"), 0},
		"no origin":           {upgrade("", ""), 0},
	} {
		r := httptest.NewRequest("GET", "https://whatever.example/", nil)
		r.Header = test.header
		if got, text := e.check(r); got != test.want {
			t.Errorf("%s: %d %s, want %d", name, got, text, test.want)
		}
		if test.want != 0 {
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("%s: answered with %d, want %d", name, w.Code, test.want)
			}
		}
	}
	open := newTest(t, Options{URLs: []string{"wss://hub.example.org/"}, Origins: []string{"*"}})
	r := httptest.NewRequest("GET", "https://whatever.example/", nil)
	if r.Header = upgrade("Origin", "null"); true {
		if got, text := open.check(r); got != 0 {
			t.Errorf("any origin: %d %s", got, text)
		}
	}
}

// Where nobody accepts, a bounded number waits, and each for as long as its peer does.
func TestServeHTTP_WaitingIsBounded(t *testing.T) {
	e := serveTest(t, Options{})
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error, maxWaiting)
	for range maxWaiting {
		e.waiting <- struct{}{}
	}
	if _, err := newTest(t, Options{}).Dial(ctx, e.Addr()); !errors.Is(err, ErrRefused) {
		t.Errorf("one too many: %v, want ErrRefused", err)
	}
	for range maxWaiting {
		<-e.waiting
	}
	from := newTest(t, Options{})
	for range 3 {
		go func() { _, err := from.Dial(ctx, e.Addr()); ended <- err }()
	}
	for len(e.waiting) < 3 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	for range 3 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
	}
	for len(e.waiting) > 0 { // they have gone
		time.Sleep(time.Millisecond)
	}
}

func TestEndpoint_CloseEndsHandshakes(t *testing.T) {
	e := serveTest(t, Options{})
	answers := shaking(t, e)
	theirs := besiege(t, e) // and says nothing
	waiting := make(chan error, 1)
	go func() { _, err := newTest(t, Options{}).Dial(testContext(t), e.Addr()); waiting <- err }()
	for len(e.waiting) == 0 {
		time.Sleep(time.Millisecond)
	}
	e.Close()
	if a := <-answers; !errors.Is(a.err, net.ErrClosed) {
		t.Errorf("Handshake: %v, want net.ErrClosed", a.err)
	}
	if err := <-waiting; !errors.Is(err, ErrRefused) || errors.Is(err, net.ErrClosed) {
		t.Errorf("one that waited to be accepted: %v, want ErrRefused", err)
	}
	if _, _, err := theirs.Read(theirs.ctx); err == nil {
		t.Error("the silent one has got something")
	}
}

// A handshake that stalls ends with its context, wherever it stands, and leaves nothing.
func TestHandshake_StalledOnesEndWithTheirContext(t *testing.T) {
	e := serveTest(t, Options{})
	before := runtime.NumGoroutine()
	for name, said := range map[string]string{
		"nothing":        "",
		"half a header":  "\x82",
		"half a hello":   "\x82\xc1\x00\x00\x00\x00\x10abc",
		"pings, and on":  strings.Repeat("\x89\x80\x00\x00\x00\x00", 100),
		"an empty frame": "\x02\x80\x00\x00\x00\x00",
	} {
		ctx, cancel := context.WithCancel(testContext(t))
		answers := make(chan error, 1)
		go func() { _, err := shake(ctx, e); answers <- err }()
		theirs := besiege(t, e)
		theirs.below.Write([]byte(said))
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want Canceled", name, err)
		}
		theirs.below.Conn.Close()
	}
	for end := time.Now().Add(failsafe); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// A redirect, and a name that leads elsewhere, would have another host dialled than is signed,
// or no TLS on the way.
func TestDial_PlainIsForTheLoopback(t *testing.T) {
	for address, want := range map[string]error{"127.0.0.1:1": nil, "[::1]:1": nil, "[::ffff:127.0.0.1]:1": nil, "192.0.2.1:1": ErrAddr, "[2001:db8::1]:1": ErrAddr, "x": ErrAddr} {
		if err := loopbackAlone(t.Context(), "tcp", address, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	u, _ := url.Parse("ws://localhost/")
	if !isLoopback(u.Hostname()) || isLoopback("localhost.example.org") || isLoopback("10.0.0.1") {
		t.Error("what is the loopback")
	}
}

func TestDial_TriesAllURLs(t *testing.T) {
	from, to, other := newTest(t, Options{}), serveTest(t, Options{}), serveTest(t, Options{})
	for _, e := range []*Endpoint{to, other} {
		go func() {
			for {
				if _, err := shake(context.Background(), e); errors.Is(err, net.ErrClosed) {
					return
				}
			}
		}()
	}
	addr := to.Addr()
	addr.Hosts = []string{"ws://127.0.0.1:1/", other.urls[0], to.urls[0]}
	c, err := from.Dial(testContext(t), addr)
	if err != nil || c.RemoteID() != to.ID() {
		t.Fatalf("%v", err)
	}
	addr.Hosts = addr.Hosts[:2]
	if _, err := from.Dial(testContext(t), addr); !errors.Is(err, ErrWrongPeer) {
		t.Errorf("%v, want what tells most: ErrWrongPeer", err)
	}
	if _, err := from.Dial(testContext(t), irohub.Addr{ID: to.ID()}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no URL: %v, want ErrUnreachable", err)
	}
}
