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
	text: `Publishes to the hub at PEER: one event, or with PEER alone each line of standard input,
an event as JSON. TOPIC is type:id or a type alone. PAYLOAD is JSON, so a string has its
quotes: '"hello"'.

It exits 0 once the hub has taken all of it. A line that is not an event ends it with
status 2, and those before it are published. The hub's own listeners get the events, and
other spokes if the hub runs with --forward; the hub does not tell which. SIGINT, SIGTERM
and SIGHUP end it within a second, with status 1.`,
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
		return usagef("PEER is needed, and at most a TOPIC and a PAYLOAD")
	}
	addr, err := c.parsePeer(args[0])
	if err != nil {
		return err
	}
	if single != nil {
		if lower, ok := lowerMailbox(single.Topic()); ok {
			std.log.Warn("nobody can subscribe to this topic; the NodeID of a mailbox is written in lower case", "mailbox", lower)
		}
	}
	start, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	end, cancel := untilEnd(ctx)
	defer cancel()
	spoke, ep, err := c.dial(start, end, addr, irohub.SpokeOptions{
		Logger:      std.log,
		NoReconnect: true, // what was on its way would be lost, and nobody told
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
	// Whatever the error, what was published before it is handed over.
	handed := cmp.Or(spoke.Flush(ctx), await(end, spoke.Close))

	err, handed = interrupted(ctx, err), interrupted(ctx, handed)
	switch {
	case err == nil:
		return handed
	case handed == nil || errors.Is(handed, err):
		return err
	}
	return fmt.Errorf("%w; besides, of what was published before: %w", err, handed)
}

// eventOf makes an event of TOPIC and PAYLOAD.
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
			return ev, usagef("PAYLOAD is not JSON: %s; a string has its quotes: '%q'", args[1], "hello")
		}
		ev.Payload = json.RawMessage(args[1])
	}
	return ev, nil
}

// publishLines publishes standard input, up to the first line that is wrong.
func (c *pubConfig) publishLines(ctx context.Context, spoke *irohub.Spoke, std stdio) error {
	done := make(chan error, 1)
	// Nobody waits for this goroutine when ctx ends: nothing can end its reading.
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
