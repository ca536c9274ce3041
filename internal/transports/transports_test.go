package transports_test

import (
	"context"
	"errors"
	"testing"

	"irohub"
	"irohub/internal/transports"
	"irohub/irohubtest"
	"irohub/key"
)

// One hub serves all transports at once: spokes receive events from spokes on every transport.
func TestHub_ServesSeveralTransports(t *testing.T) {
	type place struct{ hub, spoke irohub.Endpoint }
	network := irohubtest.NewNetwork()
	places := map[string]place{"memory": {network.Endpoint(), network.Endpoint()}}
	for _, name := range transports.Names() {
		transports.Need(t, name)
		bind := func(addr string) irohub.Endpoint {
			ep, err := transports.Bind(t.Context(), name, key.Secret{}, addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ep.Close() })
			return ep
		}
		places[name] = place{bind(transports.Loopback), bind("")}
	}
	var endpoints []irohub.Endpoint
	for _, p := range places {
		endpoints = append(endpoints, p.hub)
	}
	hub, err := irohub.NewHub(irohub.HubOptions{
		Forward: func(irohub.NodeID, string) bool { return true },
	}, endpoints...)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- hub.Serve(context.Background()) }()

	spokes, subs := make(map[string]*irohub.Spoke), make(map[string]*irohub.Subscription)
	for name, p := range places {
		s, err := irohub.Dial(t.Context(), p.spoke, p.hub.Addr(), irohub.SpokeOptions{NoReconnect: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if subs[name], err = s.Subscribe(t.Context(), "said:*"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		spokes[name] = s
	}
	for name, s := range spokes {
		if err := s.Publish(t.Context(), irohub.Event{Type: "said", ID: name}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, sub := range subs {
		missing := len(places) - 1
		for ev := range sub.Events() {
			from, ok := places[ev.ID]
			if !ok || ev.ID == name || ev.From != from.spoke.ID() {
				t.Errorf("%s got %q from %s", name, ev.ID, ev.From)
			}
			if missing--; missing == 0 {
				break
			}
		}
		if missing > 0 {
			t.Errorf("%s: %d events are missing: %v", name, missing, sub.Err())
		}
	}
	if n := hub.Stats().Spokes; n != len(places) {
		t.Errorf("%d spokes", n)
	}
	for name, s := range spokes {
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	hub.Close()
	if err := <-served; !errors.Is(err, irohub.ErrHubClosed) {
		t.Errorf("Serve: %v", err)
	}
}
