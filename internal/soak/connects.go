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
	connectors = 4   // at a time
	perNode    = 100 // connections of one endpoint, and so of one NodeID, before the next
	warming    = 200 // connections before those that count
)

// connects makes count connections to one hub and ends them in every way there is. What is
// used when the hub and one endpoint are left is to be what it was before.
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

	// What is made once, or grows to what the work needs, is no leak.
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
		return errors.New("left behind: " + over)
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

// connectOnce connects, and ends that in one of four ways.
func connectOnce(ctx context.Context, ep irohub.Endpoint, addr irohub.Addr, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	frail := &frail{Endpoint: ep}
	if n%4 == 0 { // says nothing, and leaves
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
	if n%4 == 1 { // breaks, and nobody closes the Subscription
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
