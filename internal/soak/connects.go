package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"irohub"
	"irohub/internal/transports"
	"irohub/key"
)

const (
	connectors = 4   // concurrent connections
	perNode    = 100 // connections of one endpoint, and so of one NodeID
	warming    = 200 // connections before the measurement
)

// connects makes count connections to one hub and ends them in every possible way. When only the hub and
// one endpoint are left, the resources in use must be back to the initial level.
func connects(ctx context.Context, c config, count int) error {
	ep, err := transports.Bind(ctx, c.transport, key.Secret{}, transports.Loopback)
	if err != nil {
		return err
	}
	defer ep.Close()
	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
	if err != nil {
		return err
	}
	defer hub.Close()
	go hub.Serve(context.WithoutCancel(ctx))

	// One-time allocations, and pools that grow to the needed size, are not leaks.
	if err := connectMany(ctx, c, ep.Addr(), warming); err != nil {
		return err
	}
	emptied(hub) // or the base would have what is about to go
	base := steady()
	fmt.Fprintln(c.out, "before:", base)
	begin := time.Now()
	if err := connectMany(ctx, c, ep.Addr(), count); err != nil {
		return err
	}
	took := time.Since(begin)
	stats := emptied(hub)
	// One end of a connection that is not freed holds goroutines and 10 KiB of the heap (TLS),
	// or 80 KiB of what is resident (iroh), where malloc keeps some of what was freed.
	slack := usage{heap: int64(count)<<8 + 1<<20, resident: int64(count)<<15 + 32<<20}
	after, over := settled(base, slack)
	fmt.Fprintf(c.out, "after:  %s\n%d connections over %s in %.1f s\n", after, count, c.transport, took.Seconds())
	if over != "" {
		return errors.New("leaked: " + over)
	}
	if stats.Spokes+stats.Pending+stats.Topics > 0 {
		return fmt.Errorf("the hub still has %+v", stats)
	}
	return nil
}

func connectMany(ctx context.Context, c config, addr irohub.Addr, count int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(count))
	var wg sync.WaitGroup
	for range connectors {
		wg.Go(func() {
			for ctx.Err() == nil && left.Load() > 0 {
				if err := connectSome(ctx, c, addr, &left); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// connectSome makes the connections of one endpoint.
func connectSome(ctx context.Context, c config, addr irohub.Addr, left *atomic.Int64) error {
	ep, err := transports.Bind(ctx, c.transport, key.Secret{}, "")
	if err != nil {
		return err
	}
	defer ep.Close()
	for range perNode {
		n := left.Add(-1)
		if n < 0 {
			return nil
		}
		if err := connectOnce(ctx, ep, addr, n); err != nil {
			return err
		}
	}
	return nil
}

// connectOnce connects and ends the connection in one of four ways.
func connectOnce(ctx context.Context, ep irohub.Endpoint, addr irohub.Addr, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	frail := &frail{Endpoint: ep}
	if n%4 == 0 { // leaves without sending anything
		conn, err := frail.Dial(ctx, addr)
		if err != nil {
			return err
		}
		conn.Close(0, "")
		return nil
	}
	spoke, err := irohub.Dial(ctx, frail, addr, irohub.SpokeOptions{NoReconnect: true})
	if err != nil {
		return err
	}
	if n%4 == 1 { // breaks the connection; nobody closes the Subscription
		if _, err := spoke.Subscribe(ctx, "n"); err != nil {
			return err
		}
		frail.breakOff()
		spoke.Close()
		return nil
	}
	if n%4 == 2 {
		if err := spoke.Publish(ctx, irohub.Event{Type: "n"}); err != nil {
			return err
		}
	}
	return spoke.Close()
}
