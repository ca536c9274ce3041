package main

import (
	"errors"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A natsSystem is an embedded nats-server. Its publisher uses a TLS connection like the subscribers. A
// connection within the process, with nats.InProcessServer, was slower for 8 and 64 subscribers.
type natsSystem struct {
	server    *server.Server
	publisher *nats.Conn

	mu    sync.Mutex
	conns []*nats.Conn
}

func newNATS() system { return &natsSystem{} }

func (s *natsSystem) serve(*audience) (at place, err error) {
	s.server, err = server.NewServer(&server.Options{
		Host:   "127.0.0.1",
		Port:   server.RANDOM_PORT,
		NoLog:  true,
		NoSigs: true,

		TLSConfig:  serverTLS(),
		TLSTimeout: 10, // seconds
	})
	if err != nil {
		return at, err
	}
	go s.server.Start()
	if !s.server.ReadyForConnections(patience) {
		return at, errors.New("nats-server did not become ready")
	}
	at = here(s.server.ClientURL())
	s.publisher, err = nats.Connect(at.Addr, nats.Secure(at.clientTLS()))
	return at, err
}

func (s *natsSystem) subscribe(i int, at place, to *audience) error {
	nc, err := nats.Connect(at.Addr, nats.Secure(at.clientTLS()), nats.NoReconnect(), nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { to.fail(err) }))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.conns = append(s.conns, nc)
	s.mu.Unlock()
	sub, err := nc.Subscribe(topic, func(m *nats.Msg) { to.deliver(i, m.Data) })
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // no limits, as the window limits what is pending
	}
	if err == nil {
		err = nc.Flush()
	}
	return err
}

func (s *natsSystem) publish(event []byte) error { return s.publisher.Publish(topic, event) }

func (s *natsSystem) close() {
	for _, nc := range s.conns {
		nc.Close()
	}
	if s.publisher != nil {
		s.publisher.Close()
	}
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
}
