package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"irohub"
)

var pubCommand = command{
	name:     "pub",
	synopsis: "[flags] PEER [TOPIC [PAYLOAD]]",
	short:    "Publish events",
	text: `Publishes to the hub at PEER. With TOPIC it publishes one event. Without TOPIC it publishes
each line of standard input, an event as JSON. TOPIC is type:id, or only a type. PAYLOAD is
JSON, so a string has quotes: '"hello"'.

It exits 0 once the hub has received all events. A line that is not an event ends it with
status 2; the lines before it are published. The hub prints the events, and forwards them
to other spokes if it runs with --forward. The hub does not say whether a spoke got them.
SIGINT, SIGTERM and SIGHUP end pub within a second, with status 1.`,
	setup: func(flags *pflag.FlagSet) action {
		var c pubConfig
		c.declare(flags)
		return c.run
	},
}

type pubConfig struct {
	spokeConfig
}

func (c *pubConfig) run(ctx context.Context, args []string, std stdio) error {
	var single *irohub.Event
	switch len(args) {
	case 1:
	case 2, 3:
		ev, err := eventOf(args[1:])
		if err != nil {
			return err
		}
		single = &ev
	default:
		return usagef("PEER is needed, and there may be a TOPIC and a PAYLOAD at most")
	}
	addr, err := c.parsePeer(args[0])
	if err != nil {
		return err
	}
	if single != nil {
		if lower, ok := lowerMailbox(single.Topic()); ok {
			std.log.Warn("nobody can subscribe to this topic: the NodeID of a mailbox must be in lower case", "mailbox", lower)
		}
	}
	start, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	end, cancel := untilEnd(ctx)
	defer cancel()
	spoke, ep, err := c.dial(start, end, addr, irohub.SpokeOptions{
		Logger:      std.log,
		NoReconnect: true, // a reconnect would hide that events were lost
	})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer await(end, ep.Close)
	if single != nil {
		if err = spoke.Publish(ctx, *single); errors.Is(err, irohub.ErrInvalid) {
			err = usageError{err}
		}
	} else {
		err = c.publishLines(ctx, spoke, std)
	}
	// The events published before an error are handed over too.
	handed := cmp.Or(spoke.Flush(ctx), await(end, spoke.Close))

	err, handed = interrupted(ctx, err), interrupted(ctx, handed)
	switch {
	case err == nil:
		return handed
	case handed == nil || errors.Is(handed, err):
		return err
	}
	return fmt.Errorf("%w; and the events published before it may be lost: %w", err, handed)
}

// eventOf returns the event of the arguments TOPIC and PAYLOAD.
func eventOf(args []string) (irohub.Event, error) {
	topic := args[0]
	if err := checkTopic(topic); err != nil {
		return irohub.Event{}, err
	}
	ev := irohub.Event{Type: topic}
	if typ, id, _ := strings.Cut(topic, ":"); typ != "" && id != "" {
		ev.Type, ev.ID = typ, id
	}
	if len(args) > 1 {
		if !utf8.ValidString(args[1]) {
			return ev, usagef("PAYLOAD is not UTF-8: %q", args[1])
		}
		if !json.Valid([]byte(args[1])) {
			return ev, usagef("PAYLOAD is not JSON: %s; a string needs quotes: '%q'", args[1], "hello")
		}
		ev.Payload = json.RawMessage(args[1])
	}
	return ev, nil
}

// publishLines publishes the events of standard input, up to the first line with an error.
func (c *pubConfig) publishLines(ctx context.Context, spoke *irohub.Spoke, std stdio) error {
	done := make(chan error, 1)
	// Nobody waits for this goroutine after ctx has ended, because nothing can interrupt its reading.
	go func() {
		for l := range readEvents(std.in, c.maxFrame) {
			err := l.err
			if err == nil {
				err = l.wrap(spoke.Publish(ctx, l.event))
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
