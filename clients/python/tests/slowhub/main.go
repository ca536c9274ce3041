// Command slowhub is a hub for the tests of the spoke in Python: its policy takes a while
// for each topic. It starts and ends as irohub hub does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"irohub"
	"irohub/iroh"
	"irohub/key"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "the HOST:PORT to listen on")
	file := flag.String("key", "", "the file with the secret key")
	delay := flag.Duration("delay", 0, "how long the policy takes for a topic")
	queue := flag.Int("max-queue", 0, "bytes that may wait for a spoke")
	topics := flag.Int("max-subscriptions", 0, "topics of a spoke")
	flag.Parse()
	if err := run(*addr, *file, *delay, *queue, *topics); err != nil {
		log.Fatal(err)
	}
}

func run(addr, file string, delay time.Duration, queue, topics int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	secret, err := key.LoadOrCreate(file)
	if err != nil {
		return err
	}
	endpoint, err := iroh.Bind(ctx, iroh.Options{Addr: addr, SecretKey: secret})
	if err != nil {
		return err
	}
	defer endpoint.Close()
	hub, err := irohub.NewHub(irohub.HubOptions{
		MaxQueue:         queue,
		MaxSubscriptions: topics,
		AllowSubscribe: func(_ irohub.NodeID, topic string) error {
			time.Sleep(delay)
			if strings.HasPrefix(topic, "no") {
				return errors.New("a topic that begins with no")
			}
			return nil
		},
	}, endpoint)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- hub.Serve(context.Background()) }()
	ready := map[string]any{"node": endpoint.ID().String(), "addrs": endpoint.Addr().Hosts, "ticket": ""}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	select {
	case err = <-served:
		return err
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return hub.Shutdown(limited)
}
