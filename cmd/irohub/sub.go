package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"irohub"
)

var subCommand = command{
	name:     "sub",
	synopsis: "[flags] PEER TOPIC…",
	short:    "Subscribe to topics, and print their events",
	text: `Subscribes to topics of the hub at PEER and prints each event as a line of JSON. A topic
T:* stands for all of the type T, which T alone does not, and direct:NODEID, with the
NodeID of --key, is this node's mailbox. Once the hub has acknowledged all topics, it logs "subscribed": what is
published from then on comes.

When the hub goes away, it connects and subscribes again as soon as it can; the log
says so. What was published meanwhile is not repeated. SIGINT, SIGTERM and SIGHUP end it
within a second, with status 0 unless -n has not been reached or what had come could not
be printed.`,
	setup: func(flags *pflag.FlagSet) action {
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

func (c *subConfig) declare(flags *pflag.FlagSet) {
	c.spokeConfig.declare(flags)
	declare(flags, &c.count, "count", "n", "0", "end after `COUNT` events; 0: never", func(s string) (int, error) {
		return parseNumber(s, 0, math.MaxInt32)
	})
	bytesVar(flags, &c.maxQueue, "max-queue", "how many `BYTES` may wait for standard output; over it, sub ends")
}

// flushTimeout is how long standard output may take for the rest, where sub ends by itself but
// not well.
const flushTimeout = 5 * time.Second

func (c *subConfig) run(ctx context.Context, args []string, std stdio) error {
	if len(args) < 2 {
		return usagef("PEER and at least one TOPIC are needed")
	}
	topics := args[1:]
	for _, topic := range topics {
		if err := checkSubscription(topic); err != nil {
			return err
		}
	}
	addr, err := c.parsePeer(args[0])
	if err != nil {
		return err
	}
	warnOfPatterns(topics, std.log)
	start, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	end, cancel := untilEnd(ctx)
	defer cancel()
	opts := irohub.SpokeOptions{MaxQueue: c.maxQueue}
	defer watchOutages(&opts, std.log)()
	spoke, ep, err := c.dial(start, end, addr, opts)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer closing(end, ep.Close)
	defer closing(end, spoke.Close) // nothing is lost: it has published nothing
	sub, err := spoke.Subscribe(start, topics...)
	switch {
	case errors.Is(err, irohub.ErrInvalid):
		return usageError{err}
	case err != nil:
		return interrupted(ctx, err)
	}
	std.log.Info("subscribed", "node", ep.ID(), "hub", addr.ID, "topics", strings.Join(topics, " "))

	var seen atomic.Bool // an event
	out := newSink(std.out, c.maxQueue, 0, nil)
	if hint := silenceHint(topics); hint != "" {
		quiet := time.AfterFunc(silence, func() {
			if !seen.Load() {
				std.log.Warn("nothing has come yet; " + hint)
			}
		})
		defer quiet.Stop()
	}
	printed := 0
	full := false // standard output takes less than comes, or nothing any more
	taken := make(chan struct{})
	go func() { // until sub ends, with spoke at the latest
		defer close(taken)
		p := newPrinter(out)
		for ev := range sub.Events() {
			seen.Store(true)
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
	case <-readerGone(std.out):
		sub.Close()
		err = errReaderGone
	case <-ctx.Done():
		closing(end, spoke.Close) // sub ends behind what has come
		sub.Close()               // and in any case
	}
	<-taken
	switch {
	case full:
		err = fmt.Errorf("standard output is too slow: more than %d bytes were waiting for it (see --max-queue)", c.maxQueue)
	case c.count > 0 && printed == c.count:
		err = nil
	case c.count > 0 && ctx.Err() != nil:
		err = fmt.Errorf("%w after %d of %d events", errInterrupted, printed, c.count)
	}
	return finish(end, out, err)
}

var errReaderGone = errors.New("standard output: nobody reads it any more")

// finish gives standard output the time to take what is left, until end at the most. Where all is
// well, whoever reads it may take their time.
func finish(end context.Context, out *sink, err error) error {
	if err != nil {
		var cancel context.CancelFunc
		end, cancel = context.WithTimeout(end, flushTimeout)
		defer cancel()
	}
	out.close(end)
	missed, broken := out.takeMissed()
	switch {
	case broken != nil:
		return fmt.Errorf("standard output: %w", broken)
	case err == nil && missed > 0:
		return errBlocked
	}
	return err
}
