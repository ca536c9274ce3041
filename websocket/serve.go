package websocket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"irohub"
)

// maxHeader is the most bytes of a request's headers, names and values together. A request
// with more is refused, so that it is not kept while it waits to be accepted.
const maxHeader = 16 << 10

// ServeHTTP passes a request for a WebSocket to Accept. It returns once the connection has been
// taken over or refused. Any other request is answered with an error.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status, text := e.check(r); status != 0 {
		if status == http.StatusUpgradeRequired {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
		}
		http.Error(w, text, status)
		return
	}
	select {
	case e.waiting <- struct{}{}:
	default:
		http.Error(w, "too many are waiting", http.StatusServiceUnavailable)
		return
	}
	in := &incoming{endpoint: e, w: w, r: r, addr: r.RemoteAddr, served: make(chan struct{})}
	var taken bool
	select {
	case e.accepted <- in:
		taken = true
	case <-r.Context().Done():
	case <-e.closed:
	}
	<-e.waiting
	if !taken {
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	}
	<-in.served
}

// check returns the status with which a request is refused, or 0 if it is accepted.
func (e *Endpoint) check(r *http.Request) (status int, text string) {
	size := len(r.RequestURI)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	origins := r.Header.Values("Origin")
	switch {
	case len(e.urls) == 0:
		return http.StatusServiceUnavailable, "this endpoint only dials"
	case size > maxHeader:
		return http.StatusRequestHeaderFieldsTooLarge, "too many headers"
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade"):
		return http.StatusUpgradeRequired, "this is the place of a hub, for WebSocket"
	case len(origins) > 1 || len(origins) == 1 && !e.origins["*"] && !e.origins[origins[0]]:
		return http.StatusForbidden, "pages of this origin may not connect"
	case !hasToken(r.Header, "Sec-WebSocket-Protocol", e.protocol):
		return http.StatusBadRequest, "the subprotocol is " + e.protocol
	}
	return 0, ""
}

// hasToken reports whether a header that is a list has a word. Upper and lower case differ only
// in subprotocols.
func hasToken(h http.Header, name, token string) bool {
	for _, value := range h.Values(name) {
		for word := range strings.SplitSeq(value, ",") {
			word = strings.TrimSpace(word)
			if word == token || name != "Sec-WebSocket-Protocol" && strings.EqualFold(word, token) {
				return true
			}
		}
	}
	return false
}

// Accept waits for the next peer that wants to connect, from ServeHTTP. Once the endpoint is
// closed, it returns an error that wraps net.ErrClosed.
func (e *Endpoint) Accept(ctx context.Context) (irohub.Incoming, error) {
	select {
	case <-e.closed: // checked first: the select below would choose at random
		return nil, errEndpointClosed
	default:
	}
	if len(e.urls) == 0 {
		return nil, fmt.Errorf("%w: Options.URLs is empty, so that this endpoint only dials", ErrAddr)
	}
	select {
	case in := <-e.accepted:
		return in, nil
	case <-e.closed:
		return nil, errEndpointClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// An incoming is a peer that wants to connect.
type incoming struct {
	endpoint *Endpoint
	w        http.ResponseWriter // of ServeHTTP, until served is closed
	r        *http.Request
	addr     string
	served   chan struct{}
}

// RemoteAddr implements [irohub.Incoming]. Behind a proxy, it is the address of the proxy.
func (in *incoming) RemoteAddr() string { return in.addr }

// Handshake implements [irohub.Incoming].
func (in *incoming) Handshake(ctx context.Context) (irohub.Conn, error) {
	e := in.endpoint
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	release, ok := e.hold(cancel)
	if !ok {
		in.Refuse()
		return nil, errEndpointClosed
	}
	defer release()
	c, err := in.handshake(ctx)
	if err != nil {
		return nil, e.orClosed(err)
	}
	return c, nil
}

func (in *incoming) handshake(ctx context.Context) (*conn, error) {
	const doing = "handshake"
	e := in.endpoint
	hijacker := &hijacker{ResponseWriter: in.w}
	ws, err := websocket.Accept(hijacker, in.r, &websocket.AcceptOptions{
		Subprotocols:       []string{e.protocol},
		InsecureSkipVerify: true, // check has checked the origin
		OnPingReceived:     hijacker.pinged,
	})
	in.w, in.r = nil, nil // frees the memory of the request
	close(in.served)
	if err != nil {
		return nil, handshakeError(ctx, doing, false, err)
	}
	h := newHandshake(ws, e.secret)
	err = h.accept(ctx, e.hosts)
	c, err := e.establish(ctx, doing, h, hijacker.socket, false, err)
	if err == nil {
		hijacker.ping.set(c)
	}
	return c, err
}

// Refuse implements [irohub.Incoming].
func (in *incoming) Refuse() {
	http.Error(in.w, "refused for now", http.StatusServiceUnavailable)
	in.w, in.r = nil, nil
	close(in.served)
}

// A hijacker keeps the socket that a WebSocket takes over from the server.
type hijacker struct {
	http.ResponseWriter
	socket *socket
	ping
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h.socket != nil {
		return nil, nil, errors.New("taken over already")
	}
	raw, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.socket = &socket{Conn: raw}
	buffers.Writer.Reset(h.socket)
	return h.socket, buffers, nil
}
