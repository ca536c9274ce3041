package irohub_test

import (
	"context"
	"errors"
	"fmt"

	"irohub"
	"irohub/irohubtest"
)

// A hub publishes, and a spoke listens. With iroh, iroh.Bind makes the endpoints
// instead.
func Example() {
	ctx := context.Background()
	network := irohubtest.NewNetwork()

	endpoint := network.Endpoint()
	hub, err := irohub.NewHub(irohub.HubOptions{}, endpoint)
	if err != nil {
		fmt.Println(err)
		return
	}
	go hub.Serve(ctx)

	spoke, err := irohub.Dial(ctx, network.Endpoint(), endpoint.Addr(), irohub.SpokeOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	sub, err := spoke.Subscribe(ctx, "message.sent:*")
	if err != nil {
		fmt.Println(err)
		return
	}

	hub.Publish(ctx, irohub.Event{Type: "message.sent", ID: "conv-123", Payload: []byte(`{"text":"hello"}`)})
	hub.Publish(ctx, irohub.Event{Type: "message.read", ID: "conv-123"})
	hub.Shutdown(ctx) // writes what was published, and then closes

	for event := range sub.Events() {
		fmt.Println(event.Topic(), string(event.Payload))
		spoke.Close() // or the spoke would wait for the hub to come back
	}
	// Output: message.sent:conv-123 {"text":"hello"}
}

// Spokes publish to each other if the hub forwards events. They see who published an event.
func ExampleHubOptions_forward() {
	ctx := context.Background()
	network := irohubtest.NewNetwork()
	endpoint, alice, bob := network.Endpoint(), network.Endpoint(), network.Endpoint()

	hub, _ := irohub.NewHub(irohub.HubOptions{
		Forward: func(from irohub.NodeID, topic string) bool { return true },
		AllowSubscribe: func(id irohub.NodeID, topic string) error {
			if topic == "audit" {
				return errors.New("auditors only")
			}
			return nil
		},
	}, endpoint)
	go hub.Serve(ctx)
	defer hub.Close()

	a, _ := irohub.Dial(ctx, alice, endpoint.Addr(), irohub.SpokeOptions{})
	defer a.Close()
	b, _ := irohub.Dial(ctx, bob, endpoint.Addr(), irohub.SpokeOptions{})
	defer b.Close()

	_, err := b.Subscribe(ctx, "audit")
	fmt.Println(err, errors.Is(err, irohub.ErrForbidden))

	mailbox, _ := b.Subscribe(ctx, "direct:"+bob.ID().String())
	a.Publish(ctx, irohub.Event{Type: "direct", ID: bob.ID().String(), Payload: []byte(`"hi"`)})
	for event := range mailbox.Events() {
		fmt.Println(string(event.Payload), event.From == alice.ID())
		break
	}
	// Output:
	// irohub: forbidden: topic "audit": auditors only true
	// "hi" true
}

// A hub listens to its spokes.
func ExampleHub_Subscribe() {
	ctx := context.Background()
	network := irohubtest.NewNetwork()
	endpoint := network.Endpoint()
	hub, _ := irohub.NewHub(irohub.HubOptions{}, endpoint)
	go hub.Serve(ctx)
	defer hub.Close()

	sub, _ := hub.Subscribe(ctx, "temperature:*")
	spoke, _ := irohub.Dial(ctx, network.Endpoint(), endpoint.Addr(), irohub.SpokeOptions{})
	spoke.Publish(ctx, irohub.Event{Type: "temperature", ID: "attic", Payload: []byte("31.5")})
	spoke.Close() // returns nil once the hub has all of it

	for event := range sub.Events() {
		fmt.Println(event.ID, string(event.Payload))
		sub.Close()
	}
	// Output: attic 31.5
}
