package websocket_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/key"
	"irohub/websocket"
)

func TestTransport(t *testing.T) {
	t.Run("TLS", func(t *testing.T) { transporttest.Run(t, behindTLS) })
	t.Run("Proxy", func(t *testing.T) {
		proxy := websocket.StartProxy(t, time.Minute)
		transporttest.Run(t, func(t testing.TB, k transporttest.Key) irohub.Endpoint { return behindProxy(t, k, proxy) })
	})
}

func BenchmarkHub(b *testing.B) { transporttest.Bench(b, behindTLS) }

var keys = map[transporttest.Key]key.Secret{1: key.New()}

// A served endpoint closes with the server that it is mounted in.
type served struct {
	*websocket.Endpoint
	server *httptest.Server
}

func (s *served) Close() error {
	err := s.Endpoint.Close()
	s.server.CloseClientConnections()
	s.server.Close()
	return err
}

const path = "/a/hub?x=y"

func behindTLS(t testing.TB, k transporttest.Key) irohub.Endpoint {
	return openTLS(t, keys[k])
}

func openTLS(t testing.TB, secret key.Secret) irohub.Endpoint {
	server := newServer()
	ep := open(t, secret, "wss://"+server.Listener.Addr().String()+path)
	server.Config.Handler = mounted(ep)
	certificate, _ := websocket.Certificate()
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	return &served{ep, server}
}

func behindProxy(t testing.TB, k transporttest.Key, proxy *websocket.Proxy) irohub.Endpoint {
	server := newServer()
	ep := open(t, keys[k], proxy.URL(server.Listener.Addr(), path))
	server.Config.Handler = mounted(ep)
	server.Start()
	return &served{ep, server}
}

// newServer makes a server that is not started yet, but whose address is known.
func newServer() *httptest.Server {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	return server
}

// open makes an endpoint; t is nil in a child of the siege.
func open(t testing.TB, secret key.Secret, urls ...string) *websocket.Endpoint {
	ep, err := websocket.New(websocket.Options{SecretKey: secret, URLs: urls, TLS: trusting()})
	if err != nil && t == nil {
		panic(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return ep
}

func trusting() *tls.Config {
	_, config := websocket.Certificate()
	return config
}

func mounted(ep *websocket.Endpoint) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/a/hub", ep)
	return mux
}
