package irohubtest_test

import (
	"context"
	"fmt"

	"irohub"
	"irohub/irohubtest"
)

// A hub and a spoke run in one test.
func Example() {
	ctx := context.Background()
	network := irohubtest.NewNetwork()

	hubEnd := network.Endpoint()
	hub, err := irohub.NewHub(irohub.HubOptions{}, hubEnd)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer hub.Close()
	go hub.Serve(ctx)

	spoke, err := irohub.Dial(ctx, network.Endpoint(), hubEnd.Addr(), irohub.SpokeOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer spoke.Close()
	sub, err := spoke.Subscribe(ctx, "alarm")
	if err != nil {
		fmt.Println(err)
		return
	}

	hub.Publish(ctx, irohub.Event{Type: "alarm", Payload: []byte(`"fire"`)})
	for event := range sub.Events() {
		fmt.Println(event.Topic(), string(event.Payload))
		break
	}
	// Output: alarm "fire"
}
