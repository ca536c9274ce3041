package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"irohub"
)

var hubCommand = command{
	name:     "hub",
	synopsis: "[flags]",
	text: `Runs a hub. When it is ready it prints one line of JSON on standard output, with its
NodeID, its addresses and, over iroh, its ticket, and then each event that a spoke
publishes, whose "from" is the NodeID of that spoke. Nobody waits for whoever reads that:
events that find too much waiting, or no reader any more, are missed, and the log says how
many. With -quiet it prints no events.

With -stdin it publishes each line of standard input, an event as JSON, to the spokes. A
line that is not an event is reported on standard error and skipped; the end of the
input does not end the hub. Input that comes faster than a spoke takes it fills the
spoke's queue: see -max-queue.

SIGINT and SIGTERM end it: it hands over what has been published, within 15 seconds, and
exits 0; or 1, if not all of it was handed over or not all events were printed. A second
signal ends it at once.`,
	setup: func(flags *flag.FlagSet) action {
		var c hubConfig
		c.declare(flags)
		return c.run
	},
}

type hubConfig struct {
	network
	forward  bool
	stdin    bool
	quiet    bool
	allow    map[irohub.NodeID]bool // nil: everybody
	maxQueue int
	maxFrame int
}

func (c *hubConfig) declare(flags *flag.FlagSet) {
	c.network.declare(flags)
	c.declareAddr(flags)
	flags.BoolVar(&c.forward, "forward", false, "pass the events of each spoke on to the other spokes")
	flags.BoolVar(&c.stdin, "stdin", false, "publish the lines of standard input")
	flags.BoolVar(&c.quiet, "quiet", false, "print no events")
	flags.Func("allow", "admit the node `NODEID`, and none but those so named; may be repeated", func(s string) error {
		id, err := irohub.ParseNodeID(s)
		if err != nil {
			return err
		}
		if c.allow == nil {
			c.allow = make(map[irohub.NodeID]bool)
		}
		c.allow[id] = true
		return nil
	})
	bytesVar(flags, &c.maxQueue, "max-queue", "how many `BYTES` may wait for one spoke, or for standard output; over it, a spoke is cut off, and standard output misses events")
	bytesVar(flags, &c.maxFrame, "max-frame", "the largest event in `BYTES`")
}

func (c *hubConfig) options() irohub.HubOptions {
	opts := irohub.HubOptions{MaxQueue: c.maxQueue, MaxFrame: c.maxFrame}
	if c.allow != nil {
		opts.Admit = func(_ context.Context, id irohub.NodeID) error {
			if !c.allow[id] {
				return errors.New("this NodeID is not on the hub's list")
			}
			return nil
		}
	}
	if c.forward {
		opts.Forward = func(irohub.NodeID, string) bool { return true }
	}
	return opts
}

// shutdownTimeout is how long the hub's end may take, from the signal on; longer than the
// library's own limit for a spoke that takes nothing.
const shutdownTimeout = 15 * time.Second

func (c *hubConfig) run(ctx context.Context, args []string, std stdio) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	ep, err := c.bind(ctx, true)
	switch {
	case err != nil && ctx.Err() != nil: // a signal is a hub's usual end
		return nil
	case err != nil:
		return err
	}
	defer await(ctx, closeGrace, ep.Close)
	c.online(ctx, ep, std.log)
	if ctx.Err() != nil {
		return nil
	}

	opts := c.options()
	opts.Logger = std.log
	hub, err := irohub.NewHub(opts, ep)
	if err != nil {
		return err
	}
	defer await(ctx, closeGrace, hub.Close)
	out := newSink(std.out, c.maxQueue, 0, nil)
	var l *listener // nil: quiet
	if !c.quiet {
		if l, err = listen(hub, out, std.log); err != nil {
			return err
		}
	}
	if err := c.printReady(out, ep.Addr()); err != nil {
		return err
	}

	served := make(chan error, 1)
	go func() { served <- hub.Serve(context.WithoutCancel(ctx)) }() // until hub is closed
	if c.stdin {
		// Nobody waits for this goroutine: nothing can end its reading.
		go c.publish(ctx, hub, std)
	}

	var failed error
	select {
	case failed = <-served:
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	std.log.Info("shutting down")
	if err := await(end, closeGrace, func() error { return hub.Shutdown(end) }); err != nil {
		if !errors.Is(err, irohub.ErrUndelivered) { // which says how much
			err = fmt.Errorf("not all that was published may have been handed over: %w", err)
		}
		failed = cmp.Or(failed, fmt.Errorf("shutting down: %w", err))
	}
	if l == nil {
		out.close(end)
		return failed
	}
	return cmp.Or(failed, l.close(end))
}

var errBlocked = errors.New("standard output takes nothing; events are left that were not printed")

// explainSlow says what to do where standard output does not keep up.
func explainSlow(err error, maxQueue int) error {
	if end, ok := errors.AsType[*irohub.CloseError](err); ok && end.Code == irohub.CodeSlow {
		return fmt.Errorf("more than %d bytes were waiting for this program or its standard output (see -max-queue): %w", maxQueue, err)
	}
	return err
}

// printReady tells whoever started the hub where it is.
func (c *hubConfig) printReady(out io.Writer, addr irohub.Addr) error {
	ticket, err := c.ticket(addr)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(struct {
		Node   irohub.NodeID `json:"node"`
		Addrs  []string      `json:"addrs"`
		Ticket string        `json:"ticket,omitempty"`
	}{addr.ID, addr.Hosts, ticket})
}

// publish publishes what standard input has. A hub outlives what is wrong with it.
func (c *hubConfig) publish(ctx context.Context, hub *irohub.Hub, std stdio) {
	for l := range readEvents(std.in, c.maxFrame) {
		err := l.err
		if err == nil {
			err = l.wrap(hub.Publish(ctx, l.event))
		}
		if errors.Is(err, irohub.ErrHubClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			std.log.Error("not published", "err", err)
		}
	}
	std.log.Info("standard input has ended")
}
