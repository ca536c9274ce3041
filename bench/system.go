package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A system is a hub or broker, or its subscribed clients, or both in one process. They are connected over
// the loopback interface with TLS 1.3.
type system interface {
	// serve starts the server and returns where clients find it. Later errors are reported to the audience.
	serve(to *audience) (place, error)

	// subscribe connects subscriber i over its own connection and returns once it is subscribed. From then
	// on, it passes each event that its client has decoded to the audience. It is called concurrently.
	subscribe(i int, at place, to *audience) error

	// publish sends one event to all subscribers. The system owns its bytes from then on.
	publish(event []byte) error

	// close ends everything that the other methods started, even if they failed.
	close()
}

// start starts a server and n subscribers in this process.
func start(s system, n int, to *audience) error {
	at, err := s.serve(to)
	if err != nil {
		return err
	}
	return subscribe(s, n, at, to)
}

// subscribe connects n subscribers, a few at a time, because this does not measure floods of handshakes.
func subscribe(s system, n int, at place, to *audience) error {
	const atOnce = 8
	next := make(chan int)
	errs := make([]error, atOnce)
	var running sync.WaitGroup
	for worker := range atOnce {
		running.Go(func() {
			for i := range next {
				if errs[worker] == nil {
					errs[worker] = s.subscribe(i, at, to)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	running.Wait()
	return errors.Join(errs...)
}

// A flusher is a system that gathers events until flush tells it that no more follow for now.
type flusher interface{ flush() error }

// A contestant is a system in the comparison.
type contestant struct {
	name  string // its name for -systems
	title string
	role  role
	bare  string // the name of the bare loop over the same transport
	new   func() system

	modules []string // the modules that implement it
}

type role int

const (
	ours role = iota
	peer
	ceiling
)

var contestants = []contestant{
	{"irohub-tls", "irohub over TLS", ours, "bare-tls", newIrohubTLS, nil},
	{"irohub-iroh", "irohub over iroh", ours, "bare-iroh", newIrohubIroh, nil},
	{"nats", "nats-server", peer, "bare-tls", newNATS,
		[]string{"github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go"}},
	{"mochi", "mochi-mqtt", peer, "bare-tls", newMochi,
		[]string{"github.com/mochi-mqtt/server/v2", "github.com/eclipse/paho.mqtt.golang"}},
	{"websocket", "WebSocket hub", peer, "bare-tls", newWebSocket,
		[]string{"github.com/gorilla/websocket"}},
	{"websocket-topics", "WebSocket hub with topics", peer, "bare-tls", newWebSocketTopics,
		[]string{"github.com/gorilla/websocket"}},
	{"centrifuge", "centrifuge", peer, "bare-tls", newCentrifuge,
		[]string{"github.com/centrifugal/centrifuge", "github.com/centrifugal/protocol", "github.com/gorilla/websocket"}},
	{"bare-tls", "bare loop over TLS", ceiling, "bare-tls", newBareTLS, nil},
	{"bare-iroh", "bare loop over iroh", ceiling, "bare-iroh", newBareIroh, nil},
}

// topic is the topic of all events.
const topic = "bench"

// A place is where clients find a server: its address and its certificate. A node with a key has no
// certificate here.
type place struct {
	Addr string
	Cert []byte // DER
}

// here returns the place of a server in this process that uses serverTLS.
func here(addr string) place {
	return place{addr, serverTLS().Certificates[0].Certificate[0]}
}

// serverTLS returns the TLS configuration of every server that is not a node with a key.
var serverTLS = sync.OnceValue(func() *tls.Config {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		panic(err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: secret}},
	}
})

// clientTLS returns the TLS configuration of a server's clients. All clients share the first one made,
// because all servers that a process connects to have the same certificate.
func (p place) clientTLS() *tls.Config {
	if config := clients.Load(); config != nil {
		return config
	}
	cert, err := x509.ParseCertificate(p.Cert)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	clients.CompareAndSwap(nil, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1"})
	return clients.Load()
}

var clients atomic.Pointer[tls.Config]
