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
	"time"
)

// A system is a hub or a broker together with the clients that are subscribed to it, all in
// this process and connected over the loopback with TLS 1.3.
type system interface {
	// start connects n subscribers, each by a connection of its own, and returns once
	// every one of them is subscribed. From then on each hands to the audience what its
	// client has decoded.
	start(n int, to *audience) error

	// publish sends one event, whose bytes are the system's from now on, to all
	// subscribers.
	publish(event []byte) error

	// close ends everything that start began. It is called after a failed start too.
	close()
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

// serverTLS and clientTLS are the settings of everything that is not a node with a key.
func serverTLS() *tls.Config { return loopbackTLS().server }
func clientTLS() *tls.Config { return loopbackTLS().client }

type tlsPair struct{ server, client *tls.Config }

var loopbackTLS = sync.OnceValue(func() tlsPair {
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
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tlsPair{
		server: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: secret}},
		},
		client: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1"},
	}
})

// connect calls dial for each of n subscribers, a few at a time, as no server is to be
// flooded with handshakes here.
func connect(n int, dial func(i int) error) error {
	const atOnce = 8
	next := make(chan int)
	errs := make([]error, atOnce)
	var running sync.WaitGroup
	for worker := range atOnce {
		running.Go(func() {
			for i := range next {
				if errs[worker] == nil {
					errs[worker] = dial(i)
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
