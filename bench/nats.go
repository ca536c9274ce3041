package main

import (
	"errors"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A natsSystem is an embedded nats-server. Its publisher is a connection over TLS as the subscribers'
// are: one within the process, by nats.InProcessServer, made it slower for 8 and 64 subscribers.
type natsSystem struct {
	server    *server.Server
	publisher *nats.Conn
	conns     []*nats.Conn
}

func newNATS() system { return &natsSystem{} }

func (s *natsSystem) start(n int, to *audience) (err error) {
	s.server, err = server.NewServer(&server.Options{
		Host:   "127.0.0.1",
		Port:   server.RANDOM_PORT,
		NoLog:  true,
		NoSigs: true,

		TLSConfig:  serverTLS(),
		TLSTimeout: 10, // seconds
	})
	if err != nil {
		return err
	}
	go s.server.Start()
	if !s.server.ReadyForConnections(patience) {
		return errors.New("nats-server does not get ready")
	}
	if s.publisher, err = nats.Connect(s.server.ClientURL(), nats.Secure(clientTLS())); err != nil {
		return err
	}
	s.conns = make([]*nats.Conn, n)
	return connect(n, func(i int) error {
		nc, err := nats.Connect(s.server.ClientURL(), nats.Secure(clientTLS()), nats.NoReconnect(), nats.Timeout(patience),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { to.fail(err) }))
		if err != nil {
			return err
		}
		s.conns[i] = nc
		sub, err := nc.Subscribe(topic, func(m *nats.Msg) { to.deliver(i, m.Data) })
		if err == nil {
			err = sub.SetPendingLimits(-1, -1) // the window bounds what is pending
		}
		if err == nil {
			err = nc.Flush()
		}
		return err
	})
}

func (s *natsSystem) publish(event []byte) error { return s.publisher.Publish(topic, event) }

func (s *natsSystem) close() {
	for _, nc := range append(s.conns, s.publisher) {
		if nc != nil {
			nc.Close()
		}
	}
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
	}
}
