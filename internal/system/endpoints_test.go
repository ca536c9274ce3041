package system_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"irohub"
	"irohub/irohubtest"
)

// When one endpoint fails, the hub ends, and Serve names the endpoint. The spokes of the other
// endpoints see CodeShutdown.
func TestHub_OneEndpointsEndIsTheHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := irohubtest.NewNetwork()
		one, other := network.Endpoint(), network.Endpoint()
		hub, err := irohub.NewHub(irohub.HubOptions{}, one, other)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- hub.Serve(t.Context()) }()
		s, err := irohub.Dial(t.Context(), network.Endpoint(), one.Addr(), irohub.SpokeOptions{NoReconnect: true})
		if err != nil {
			t.Fatal(err)
		}
		addr := other.Addr().String()
		other.Close()
		err = <-served
		if errors.Is(err, irohub.ErrHubClosed) || !errors.Is(err, net.ErrClosed) || !strings.Contains(fmt.Sprint(err), addr) {
			t.Errorf("Serve: %v, want the end of %s", err, addr)
		}
		synctest.Wait()
		end, _ := errors.AsType[*irohub.CloseError](s.Publish(t.Context(), irohub.Event{Type: "n"}))
		if end == nil || end.Code != irohub.CodeShutdown {
			t.Errorf("the other endpoint's spoke ended with %v", end)
		}
		if err := hub.Publish(t.Context(), irohub.Event{Type: "n"}); !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Publish: %v", err)
		}
		one.Close()
	})
}

// NewHub and Dial return an error without an endpoint: none, nil, or the nil pointer that a
// caller has after it ignored a transport's error.
func TestEndpoint_MissingIsAnError(t *testing.T) {
	here, missing := irohubtest.NewNetwork().Endpoint(), (*irohubtest.Endpoint)(nil)
	for want, endpoints := range map[string][]irohub.Endpoint{
		"needs an endpoint":      {},
		"endpoint 1 of 1 is nil": {nil},
		"endpoint 2 of 2 is nil": {here, missing},
	} {
		hub, err := irohub.NewHub(irohub.HubOptions{}, endpoints...)
		if hub != nil || !errors.Is(err, irohub.ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("NewHub: %v, want an error that says %q", err, want)
		}
	}
	for _, ep := range []irohub.Endpoint{nil, missing} {
		s, err := irohub.Dial(t.Context(), ep, here.Addr(), irohub.SpokeOptions{})
		if s != nil || !errors.Is(err, irohub.ErrInvalid) {
			t.Errorf("Dial: %v", err)
		}
	}
}
