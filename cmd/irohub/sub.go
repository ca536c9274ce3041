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
	text: `Subscribes to topics of the hub at PEER, and prints each event as a line of JSON. The topic
T matches only events of the type T without an id. T:* matches all events of the type T.
direct:NODEID, with the NodeID of --key, is this node's mailbox. Once the hub has
acknowledged all topics, sub logs "subscribed". It gets every event that is published
from then on.

If the connection is lost, sub connects and subscribes again as soon as it can, and logs
it. It misses the events that were published meanwhile. SIGINT, SIGTERM and SIGHUP end sub
within a second. The status is 0, unless there were fewer events than -n asks for, or some
could not be printed.`,
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
	bytesVar(flags, &c.maxQueue, "max-queue", "the limit of `BYTES` that wait for standard output; over it, sub ends")
}

// flushTimeout limits the time to print the remaining events after an error.
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
	defer closing(end, spoke.Close) // nothing is lost, because sub publishes nothing
	sub, err := spoke.Subscribe(start, topics...)
	switch {
	case errors.Is(err, irohub.ErrInvalid):
		return usageError{err}
	case err != nil:
		return interrupted(ctx, err)
	}
	std.log.Info("subscribed", "node", ep.ID(), "hub", addr.ID, "topics", strings.Join(topics, " "))

	var seen atomic.Bool // an event has come
	out := newSink(std.out, c.maxQueue, 0, nil)
	if hint := silenceHint(topics); hint != "" {
		quiet := time.AfterFunc(silence, func() {
			if !seen.Load() {
				std.log.Warn("no event has come yet: " + hint)
			}
		})
		defer quiet.Stop()
	}
	printed := 0
	full := false                // standard output is too slow or has failed
	taken := make(chan struct{}) // closed when the goroutine ends
	go func() {                  // ends with sub, which ends with spoke at the latest
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
		closing(end, spoke.Close) // ends sub after the events that have arrived
		sub.Close()               // in case that has failed
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

// finish waits until the remaining events are printed, or until end. After an error it waits for
// flushTimeout at most.
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
