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

// A system is a hub or a broker, or clients that are subscribed to it over the loopback with
// TLS 1.3, or both in one process.
type system interface {
	// serve starts the server, and returns where clients find it. What goes wrong later, the
	// audience is told.
	serve(to *audience) (place, error)

	// subscribe connects subscriber i by a connection of its own, and returns once it is
	// subscribed. From then on it hands to the audience what its client has decoded.
	// Several are called at once.
	subscribe(i int, at place, to *audience) error

	// publish sends one event, whose bytes are the system's from now on, to all
	// subscribers.
	publish(event []byte) error

	// close ends everything that the others began, also where that failed.
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

// subscribe connects n subscribers, a few at a time, as no server is to be flooded with
// handshakes here.
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

// A flusher is a system that gathers events until it is told that no more come for now.
type flusher interface{ flush() error }

// A contestant is a system with its place in the comparison.
type contestant struct {
	name  string // for -systems
	title string
	role  role
	bare  string // the name of the bare loop over the same transport
	new   func() system

	modules []string // that it is made of
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

// topic is what all events are about.
const topic = "bench"

// A place is where clients find a server: by its address, and the certificate that it has, unless it
// is a node with a key.
type place struct {
	Addr string
	Cert []byte // DER
}

// here is the place of a server of this process that has serverTLS.
func here(addr string) place {
	return place{addr, serverTLS().Certificates[0].Certificate[0]}
}

// serverTLS is the settings of every server that is not a node with a key.
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

// clientTLS is the settings of a server's clients. They share what was made first, as all servers
// that a process meets have one certificate.
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
