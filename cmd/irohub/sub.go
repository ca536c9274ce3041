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
	start, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	spoke, ep, err := c.dial(start, addr, std.log, irohub.SpokeOptions{MaxQueue: c.maxQueue})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer await(start, closeGrace, ep.Close)
	defer await(start, closeGrace, spoke.Close) // nothing is lost: it has published nothing
	sub, err := spoke.Subscribe(start, args[1:]...)
	switch {
	case errors.Is(err, irohub.ErrInvalid):
		return usageError{err}
	case err != nil:
		return interrupted(ctx, err)
	}
	std.log.Info("subscribed", "node", ep.ID(), "hub", addr.ID, "topics", strings.Join(args[1:], " "))

	out := newSink(std.out, c.maxQueue, 0, nil)
	printed := 0
	full := false // standard output takes less than comes, or nothing any more
	taken := make(chan struct{})
	go func() { // until sub ends, with spoke at the latest
		defer close(taken)
		p := newPrinter(out)
		for ev := range sub.Events() {
			if full = !p.print(ev); full {
				return
			}
			if printed++; printed == c.count {
				return
			}
		}
	}()
	select {
	case <-taken:
		err = explainSlow(sub.Err(), c.maxQueue)
	case <-out.broken:
		sub.Close()
	case <-ctx.Done():
		await(ctx, closeGrace, spoke.Close) // sub ends behind what has come
		sub.Close()                         // and in any case
	}
	<-taken
	switch {
	case full:
		err = fmt.Errorf("standard output is too slow: more than %d bytes were waiting for it (see -max-queue)", c.maxQueue)
	case c.count > 0 && printed == c.count:
		err = nil
	case c.count > 0 && ctx.Err() != nil:
		err = fmt.Errorf("%w after %d of %d events", errInterrupted, printed, c.count)
	}
	return finish(ctx, out, err)
}

// finish gives standard output the time to take what is left. Where all is well, whoever reads
// it may take their time.
func finish(ctx context.Context, out *sink, err error) error {
	if err != nil || ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
	}
	out.close(ctx)
	missed, broken := out.takeMissed()
	switch {
	case broken != nil:
		return fmt.Errorf("standard output: %w", broken)
	case err == nil && missed > 0:
		return errBlocked
	}
	return err
}
