package main

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	paho "github.com/eclipse/paho.mqtt.golang"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// A mochiSystem is an embedded MQTT broker. It publishes with its inline client. The subscribers use paho
// with quality of service 0.
type mochiSystem struct {
	server *mqtt.Server

	mu      sync.Mutex
	clients []paho.Client
}

func newMochi() system { return &mochiSystem{} }

func (s *mochiSystem) serve(*audience) (at place, err error) {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumClientWritesPending = 2 * window // events above it would be dropped; the default needs much memory
	s.server = mqtt.New(&mqtt.Options{
		InlineClient:             true,
		Capabilities:             limits,
		ClientNetWriteBufferSize: 16 << 10, // one TLS record; larger ones gain nothing
		Logger:                   slog.New(slog.DiscardHandler),
	})
	if err := s.server.AddHook(new(auth.AllowHook), nil); err != nil {
		return at, err
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: serverTLS()})
	if err := s.server.AddListener(tcp); err != nil {
		return at, err
	}
	return here("tls://" + tcp.Address()), s.server.Serve()
}

func (s *mochiSystem) subscribe(i int, at place, to *audience) error {
	c := paho.NewClient(paho.NewClientOptions().
		AddBroker(at.Addr).
		SetClientID(fmt.Sprint("subscriber-", i)).
		SetTLSConfig(at.clientTLS()).
		SetAutoReconnect(false).
		SetConnectionLostHandler(func(_ paho.Client, err error) { to.fail(err) }))
	if err := wait(c.Connect()); err != nil {
		return err
	}
	s.mu.Lock()
	s.clients = append(s.clients, c)
	s.mu.Unlock()
	return wait(c.Subscribe(topic, 0, func(_ paho.Client, m paho.Message) { to.deliver(i, m.Payload()) }))
}

func wait(t paho.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("no answer from the MQTT broker")
	}
	return t.Error()
}

func (s *mochiSystem) publish(event []byte) error { return s.server.Publish(topic, event, false, 0) }

func (s *mochiSystem) close() {
	for _, c := range s.clients {
		c.Disconnect(0)
	}
	if s.server != nil {
		s.server.Close()
	}
}
