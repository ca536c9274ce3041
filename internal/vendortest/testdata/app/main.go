// An application in a module of its own: a hub and a spoke exchange an event, in memory,
// over TLS and over iroh.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"irohub"
	"irohub/iroh"
	"irohub/irohubtest"
	"irohub/key"
	"irohub/tlsnet"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	network := irohubtest.NewNetwork()
	hubEnd := network.Endpoint()
	report("memory", exchange(ctx, hubEnd, network.Endpoint()))
	report("tls", overTLS(ctx))
	report("iroh", overIroh(ctx))
}

func report(network string, err error) {
	if errors.Is(err, iroh.ErrUnsupported) {
		fmt.Printf("%s: unsupported: %v\n", network, err)
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", network, err)
		os.Exit(1)
	}
	fmt.Printf("%s: exchanged\n", network)
}

func overTLS(ctx context.Context) error {
	hubEnd, err := tlsnet.Bind(ctx, tlsnet.Options{Addr: "127.0.0.1:0", SecretKey: key.New()})
	if err != nil {
		return err
	}
	defer hubEnd.Close()
	spokeEnd, err := tlsnet.Bind(ctx, tlsnet.Options{})
	if err != nil {
		return err
	}
	defer spokeEnd.Close()
	return exchange(ctx, hubEnd, spokeEnd)
}

func overIroh(ctx context.Context) error {
	hubEnd, err := iroh.Bind(ctx, iroh.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer hubEnd.Close()
	spokeEnd, err := iroh.Bind(ctx, iroh.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer spokeEnd.Close()
	return exchange(ctx, hubEnd, spokeEnd)
}

// exchange has an event pass from a hub to a spoke.
func exchange(ctx context.Context, hubEnd, spokeEnd irohub.Endpoint) error {
	hub, err := irohub.NewHub(irohub.HubOptions{}, hubEnd)
	if err != nil {
		return err
	}
	defer hub.Close()
	go hub.Serve(ctx)
	spoke, err := irohub.Dial(ctx, spokeEnd, hubEnd.Addr(), irohub.SpokeOptions{})
	if err != nil {
		return err
	}
	defer spoke.Close()
	sub, err := spoke.Subscribe(ctx, "greeting:*")
	if err != nil {
		return err
	}
	if err := hub.Publish(ctx, irohub.Event{Type: "greeting", ID: "world"}); err != nil {
		return err
	}
	for ev := range sub.Events() {
		if ev.Topic() != "greeting:world" {
			return fmt.Errorf("got %q", ev.Topic())
		}
		return nil
	}
	return sub.Err()
}
