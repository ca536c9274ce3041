package main

import (
	"context"
	"fmt"
	"sync"

	"irohub"
	"irohub/iroh"
	"irohub/tlsnet"
)

func bindTLS() (irohub.Endpoint, error) {
	ep, err := tlsnet.Bind(context.Background(), tlsnet.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		return nil, err // avoids returning a nil pointer as a non-nil endpoint
	}
	return ep, nil
}

func bindIroh() (irohub.Endpoint, error) {
	ep, err := iroh.Bind(context.Background(), iroh.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	return ep, nil
}

// An irohubSystem is a hub and its spokes, all with default options. Every spoke has its own endpoint, as
// if it were in its own process.
type irohubSystem struct {
	bind   func() (irohub.Endpoint, error)
	server irohub.Endpoint
	hub    *irohub.Hub
	served chan error

	mu        sync.Mutex
	spokes    []*irohub.Spoke
	endpoints []irohub.Endpoint
	listening sync.WaitGroup
}

func newIrohubTLS() system  { return &irohubSystem{bind: bindTLS} }
func newIrohubIroh() system { return &irohubSystem{bind: bindIroh} }

func (s *irohubSystem) serve(*audience) (at place, err error) {
	if s.server, err = s.bind(); err != nil {
		return at, err
	}
	if s.hub, err = irohub.NewHub(irohub.HubOptions{}, s.server); err != nil {
		return at, err
	}
	s.served = make(chan error, 1)
	go func() { s.served <- s.hub.Serve(context.Background()) }()
	return place{Addr: s.server.Addr().String()}, nil
}

func (s *irohubSystem) subscribe(i int, at place, to *audience) error {
	ctx := context.Background()
	hub, err := irohub.ParseAddr(at.Addr)
	if err != nil {
		return err
	}
	ep, err := s.bind()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.endpoints = append(s.endpoints, ep)
	s.mu.Unlock()
	spoke, err := irohub.Dial(ctx, ep, hub, irohub.SpokeOptions{
		OnDisconnect: func(err error) { to.fail(fmt.Errorf("spoke %d is disconnected: %w", i, err)) },
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.spokes = append(s.spokes, spoke)
	s.mu.Unlock()
	sub, err := spoke.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	s.listening.Go(func() {
		for ev := range sub.Events() {
			to.deliver(i, ev.Payload)
		}
		if err := sub.Err(); err != nil {
			to.fail(err)
		}
	})
	return nil
}

func (s *irohubSystem) publish(event []byte) error {
	return s.hub.Publish(context.Background(), irohub.Event{Type: topic, Payload: event})
}

func (s *irohubSystem) close() {
	for _, spoke := range s.spokes {
		spoke.Close()
	}
	if s.hub != nil {
		s.hub.Close()
		<-s.served
		s.endpoints = append(s.endpoints, s.server)
	}
	s.listening.Wait()
	closeAll(s.endpoints)
}

// closeAll closes endpoints in parallel, because each waits for its peers.
func closeAll(endpoints []irohub.Endpoint) {
	var closing sync.WaitGroup
	for _, ep := range endpoints {
		closing.Go(func() { ep.Close() })
	}
	closing.Wait()
}
