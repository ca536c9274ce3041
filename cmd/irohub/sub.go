package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"irohub"
)

var subCommand = command{
	name:     "sub",
	synopsis: "[flags] PEER TOPIC…",
	text: `Subscribes to topics of the hub at PEER and prints each event as a line of JSON. A topic
T:* stands for all of the type T, and direct:NODEID, with the NodeID of -key, is this
node's mailbox. Once the hub has acknowledged all topics, it logs "subscribed": what is
published from then on comes.

When the hub goes away, it connects and subscribes again as soon as it can; the log
says so. What was published meanwhile is not repeated. SIGINT and SIGTERM end it, with
status 0 unless -n has not been reached.`,
	setup: func(flags *flag.FlagSet) action {
		var c subConfig
		c.declare(flags)
		return c.run
	},
}

type subConfig struct {
	spokeConfig
	count    int
	maxQueue int
}

func (c *subConfig) declare(flags *flag.FlagSet) {
	c.spokeConfig.declare(flags)
	flags.IntVar(&c.count, "n", 0, "end after `COUNT` events; 0: never")
	bytesVar(flags, &c.maxQueue, "max-queue", "how many `BYTES` may wait for standard output; over it, sub ends")
}

// flushTimeout is how long standard output may take for the rest at the end.
const flushTimeout = 5 * time.Second

func (c *subConfig) run(ctx context.Context, args []string, std stdio) error {
	switch {
	case len(args) < 2:
		return usagef("PEER and at least one TOPIC are needed")
	case c.count < 0:
		return usagef("-n: %d is less than 0", c.count)
	}
	for _, topic := range args[1:] {
		if strings.HasPrefix(topic, "-") {
			return usagef("%s stands behind PEER; flags stand before it", topic)
		}
	}
	addr, err := c.parsePeer(args[0])
	if err != nil {
		return err
	}
	spoke, ep, err := c.dial(ctx, addr, std.log, irohub.SpokeOptions{MaxQueue: c.maxQueue})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer ep.Close()
	defer spoke.Close()
	start, cancel := context.WithTimeout(ctx, c.timeout)
	sub, err := spoke.Subscribe(start, args[1:]...)
	cancel()
	switch {
	case errors.Is(err, irohub.ErrInvalid):
		return usageError{err}
	case err != nil:
		return interrupted(ctx, err)
	}
	std.log.Info("subscribed", "node", ep.ID(), "hub", addr.ID, "topics", strings.Join(args[1:], " "))

	type result struct {
		printed int
		err     error
	}
	printer := make(chan result, 1)
	go func() { // until sub ends, with spoke at the latest
		printed, err := printEvents(std.out, sub, c.count)
		printer <- result{printed, err}
	}()
	var r result
	select {
	case r = <-printer:
		if r.err == nil && (c.count == 0 || r.printed < c.count) {
			r.err = explainSlow(sub.Err(), c.maxQueue)
		}
		return r.err
	case <-ctx.Done():
	}
	spoke.Close() // sub ends behind what has come
	select {
	case r = <-printer:
	case <-time.After(flushTimeout):
		return errBlocked
	}
	if r.err == nil && r.printed < c.count {
		r.err = fmt.Errorf("%w after %d of %d events", errInterrupted, r.printed, c.count)
	}
	return r.err
}
