//go:build linux

package roughnet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/key"
)

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		if err := runNode(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runNode is the main function of a node. The device disappears with its process.
func runNode(at string, args []string) error {
	device, err := openDevice(netip.MustParseAddr(at))
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		fmt.Println(cannot, err)
		return nil
	}
	if err != nil {
		return err
	}
	over := os.NewFile(3, "theirs")
	if err := sendFile(over, device); err != nil {
		return err
	}
	over.Close()
	device.Close() // the test has a copy
	ctx := context.Background()
	switch args[0] {
	case "hub":
		return runHub(ctx, args[1], at)
	case "spokes":
		addr, err := irohub.ParseAddr(args[2])
		if err != nil {
			return err
		}
		return runSpokes(ctx, args[1], addr)
	}
	return fmt.Errorf("%q?", args)
}

// numbered returns a payload with an event's number.
func numbered(typ string, n int) irohub.Event {
	return irohub.Event{Type: typ, Payload: fmt.Appendf(nil, "%d", n)}
}

// pace is the pause between events, so that some are always in flight while something happens.
const pace = 5 * time.Millisecond

func runHub(ctx context.Context, transport, at string) error {
	ep, err := transports.Bind(ctx, transport, key.Secret{}, at+":4433")
	if err != nil {
		return err
	}
	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
	if err != nil {
		return err
	}
	sub, err := hub.Subscribe(ctx)
	if err != nil {
		return err
	}
	go func() {
		for ev := range sub.Events() {
			fmt.Printf("%s event %s\n", ev.ID, ev.Payload)
		}
	}()
	go hub.Serve(ctx)
	fmt.Println("at", irohub.Addr{ID: ep.ID(), Hosts: []string{at + ":4433"}})
	return commands(func(verb string, from, to int) error {
		for n := from; n < to; n++ {
			if err := hub.Publish(ctx, numbered("down", n)); err != nil {
				return err
			}
			time.Sleep(pace)
		}
		return nil
	})
}

// commands executes the commands on standard input until it ends.
func commands(do func(verb string, from, to int) error) error {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var verb string
		var from, to int
		fmt.Sscan(in.Text(), &verb, &from, &to)
		if err := do(verb, from, to); err != nil {
			return err
		}
	}
	return nil
}

// spokes is the number of spokes in a node.
const spokes = 3

func runSpokes(ctx context.Context, transport string, addr irohub.Addr) error {
	var all []*irohub.Spoke
	for i := range spokes {
		ep, err := transports.Bind(ctx, transport, key.Secret{}, "0.0.0.0:0")
		if err != nil {
			return err
		}
		spoke, err := irohub.Dial(ctx, ep, addr, irohub.SpokeOptions{
			OnDisconnect: func(err error) { fmt.Printf("%d lost %q\n", i, err) },
			OnReconnect:  func() { fmt.Printf("%d back\n", i) },
		})
		if err != nil {
			return err
		}
		all = append(all, spoke)
		sub, err := spoke.Subscribe(ctx, "down")
		if err != nil {
			return err
		}
		go func() {
			for ev := range sub.Events() {
				fmt.Printf("%d event %s\n", i, ev.Payload)
			}
			fmt.Printf("%d ended %v\n", i, sub.Err())
		}()
	}
	// Each spoke publishes in its own goroutine, and waits while it is disconnected.
	var queues []chan [2]int
	for i, spoke := range all {
		queue := make(chan [2]int, 1000)
		queues = append(queues, queue)
		go func() {
			for numbers := range queue {
				for n := numbers[0]; n < numbers[1]; n++ {
					ev := numbered("up", n)
					ev.ID = fmt.Sprint(i)
					if err := spoke.Publish(ctx, ev); err != nil {
						fmt.Printf("%d ended %v\n", i, err)
						return
					}
					time.Sleep(pace)
				}
			}
		}()
	}
	fmt.Println("ready")
	return commands(func(verb string, from, to int) error {
		switch verb {
		case "address":
			return setAddr(netip.AddrFrom4([4]byte{10, 0, 0, byte(from)}))
		case "flush":
			for i, spoke := range all {
				go func() { fmt.Printf("%d flushed %v\n", i, spoke.Flush(ctx)) }()
			}
			return nil
		}
		for _, queue := range queues {
			queue <- [2]int{from, to}
		}
		return nil
	})
}
