package websocket_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"

	"irohub"
	"irohub/key"
	"irohub/websocket"
)

// A hub and a spoke on the loopback, where no TLS is needed.
func Example() {
	ctx := context.Background()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ep, err := websocket.New(websocket.Options{URLs: []string{"ws://" + l.Addr().String() + "/events"}})
	if err != nil {
		log.Fatal(err)
	}
	defer ep.Close()
	mux := http.NewServeMux()
	mux.Handle("/events", ep)
	go http.Serve(l, mux)
	defer l.Close()
	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
	if err != nil {
		log.Fatal(err)
	}
	go hub.Serve(ctx)
	defer hub.Close()

	own, err := websocket.New(websocket.Options{}) // only dials
	if err != nil {
		log.Fatal(err)
	}
	defer own.Close()
	spoke, err := irohub.Dial(ctx, own, ep.Addr(), irohub.SpokeOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer spoke.Close()
	sub, err := spoke.Subscribe(ctx, "greeting")
	if err != nil {
		log.Fatal(err)
	}
	if err := hub.Publish(ctx, irohub.Event{Type: "greeting", Payload: []byte(`"hello"`)}); err != nil {
		log.Fatal(err)
	}
	for ev := range sub.Events() {
		fmt.Println(ev.Type, string(ev.Payload))
		break
	}
	// Output: greeting "hello"
}

// A hub behind TLS, at one path of an application's server.
func ExampleNew() {
	secret, err := key.LoadOrCreate("hub.key")
	if err != nil {
		log.Fatal(err)
	}
	ep, err := websocket.New(websocket.Options{SecretKey: secret, URLs: []string{"wss://hub.example.org/events"}})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/events", ep)
	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
	if err != nil {
		log.Fatal(err)
	}
	go hub.Serve(context.Background())
	log.Fatal(http.ListenAndServeTLS(":443", "certificate.pem", "key.pem", nil))
}
