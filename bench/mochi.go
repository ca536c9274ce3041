package main

import (
	"errors"
	"fmt"
	"log/slog"

	paho "github.com/eclipse/paho.mqtt.golang"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// A mochiSystem is an embedded MQTT broker. It publishes by its inline client; the subscribers are
// paho's, with quality of service 0.
type mochiSystem struct {
	server  *mqtt.Server
	clients []paho.Client
}

func newMochi() system { return &mochiSystem{} }

func (s *mochiSystem) start(n int, to *audience) error {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumClientWritesPending = 2 * window // what is over it would be dropped; the default costs memory
	s.server = mqtt.New(&mqtt.Options{
		InlineClient:             true,
		Capabilities:             limits,
		ClientNetWriteBufferSize: 16 << 10, // one TLS record; larger ones gain nothing
		Logger:                   slog.New(slog.DiscardHandler),
	})
	if err := s.server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: serverTLS()})
	if err := s.server.AddListener(tcp); err != nil {
		return err
	}
	if err := s.server.Serve(); err != nil {
		return err
	}
	s.clients = make([]paho.Client, n)
	return connect(n, func(i int) error {
		c := paho.NewClient(paho.NewClientOptions().
			AddBroker("tls://" + tcp.Address()).
			SetClientID(fmt.Sprint("subscriber-", i)).
			SetTLSConfig(clientTLS()).
			SetAutoReconnect(false).
			SetConnectionLostHandler(func(_ paho.Client, err error) { to.fail(err) }))
		if err := wait(c.Connect()); err != nil {
			return err
		}
		s.clients[i] = c
		return wait(c.Subscribe(topic, 0, func(_ paho.Client, m paho.Message) { to.deliver(i, m.Payload()) }))
	})
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
		if c != nil {
			c.Disconnect(0)
		}
	}
	if s.server != nil {
		s.server.Close()
	}
}
