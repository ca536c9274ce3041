package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"irohub"
	"irohub/cmd/irohub/internal/service"
)

var hubCommand = command{
	name:     "hub",
	synopsis: "[flags]",
	short:    "Run a hub",
	reloads:  true,
	text: `Runs a hub. When it is ready it prints one line of JSON on standard output, with its
NodeID, its addresses and, over iroh, its ticket, and then each event that a spoke
publishes, whose "from" is the NodeID of that spoke. Nobody waits for whoever reads that:
events that find too much waiting, or no reader any more, are missed, and the log says how
many. With --quiet it prints no events.

With --stdin it publishes each line of standard input, an event as JSON, to the spokes. A
line that is not an event is reported on standard error and skipped; the end of the
input does not end the hub. Input that comes faster than a spoke takes it fills the
spoke's queue: see --max-queue.

SIGINT and SIGTERM end it: it hands over what has been published, within
--shutdown-timeout, and exits 0; or 1, if not all of it was handed over or not all events
were printed. Where all spokes take what is for them, that is at once. A second signal ends
it at once. SIGHUP has it read --allow-file and --deny-file again, unless it runs in a
terminal, whose end it is.

A service manager can hand in the socket (LISTEN_FDS, with --transport tls), and is told
when the hub is ready and when it stops (NOTIFY_SOCKET).`,
	setup: func(flags *pflag.FlagSet) action {
		var c hubConfig
		c.declare(flags)
		return c.run
	},
}

type hubConfig struct {
	network
	access
	forward  bool
	stdin    bool
	quiet    bool
	shutdown time.Duration
	limits   irohub.HubOptions // these fields of it alone
}

func (c *hubConfig) declare(flags *pflag.FlagSet) {
	c.network.declare(flags)
	c.declareAddr(flags)
	flags.BoolVar(&c.forward, "forward", false, "pass the events of each spoke on to the other spokes")
	flags.BoolVar(&c.stdin, "stdin", false, "publish the lines of standard input")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "print no events")
	c.access.declare(flags)
	declareLimits(flags, &c.limits)
	durationVar(flags, &c.shutdown, "shutdown-timeout", 15*time.Second, "the `TIME`, from a signal on, in which what has been published must be handed over")
}

// declareLimits declares a flag for each limit and timeout of a hub.
func declareLimits(flags *pflag.FlagSet, o *irohub.HubOptions) {
	bytesVar(flags, &o.MaxQueue, "max-queue", "how many `BYTES` may wait for one spoke, or for standard output; over it, a spoke is cut off, and standard output misses events")
	bytesVar(flags, &o.MaxFrame, "max-frame", "the largest event in `BYTES`; spokes with a lower limit are ended by a larger one")
	numberVar(flags, &o.MaxSpokes, "max-spokes", 4096, 1, "the `NUMBER` of spokes in all; further ones are turned away")
	numberVar(flags, &o.MaxSpokesPerNode, "max-spokes-per-node", 8, 1, "the `NUMBER` of spokes of one NodeID; a further one replaces the oldest")
	numberVar(flags, &o.MaxStreamsPerConn, "max-streams-per-conn", 16, 1, "the `NUMBER` of spokes of one connection; further ones are turned away")
	numberVar(flags, &o.MaxSubscriptions, "max-subscriptions", 1024, 1, "the `NUMBER` of topics of one spoke, and of one request")
	numberVar(flags, &o.MaxPending, "max-pending", 1024, 1, "the `NUMBER` of connections without a spoke yet; a further one replaces the oldest")
	numberVar(flags, &o.MaxEventRate, "max-event-rate", 0, 0, "the `NUMBER` of events and requests that are read of one spoke in a second; 0: no limit")
	numberVar(flags, &o.MaxByteRate, "max-byte-rate", 0, 0, "how many `BYTES` are read of one spoke in a second; 0: no limit")
	durationVar(flags, &o.HandshakeTimeout, "handshake-timeout", 10*time.Second, "the `TIME` from a connection's first packet to its first spoke")
	durationVar(flags, &o.WriteTimeout, "write-timeout", 10*time.Second, "the `TIME` in which a spoke must take 64 KiB, or the rest at the end")
}

func (c *hubConfig) options(log *slog.Logger) irohub.HubOptions {
	opts := c.limits
	opts.Logger = log
	c.access.apply(&opts)
	var once sync.Once
	opts.Forward = func(_ irohub.NodeID, topic string) bool {
		if !c.forward {
			once.Do(func() {
				log.Info("events of spokes are not passed on to other spokes; --forward does that", "first_topic", topic)
			})
		}
		return c.forward
	}
	return opts
}

func (c *hubConfig) run(ctx context.Context, args []string, std stdio) error {
	if err := unexpected(args); err != nil {
		return err
	}
	if err := c.access.load(); err != nil {
		return usageError{err}
	}
	handedIn, err := service.Listener()
	if err != nil {
		return usageError{err}
	}
	ep, err := c.listen(ctx, handedIn)
	switch {
	case err != nil && ctx.Err() != nil: // a signal is a hub's usual end
		return nil
	case err != nil:
		return err
	}
	end, over := context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	defer closing(end, ep.Close)
	c.online(ctx, ep, std.log)
	if ctx.Err() != nil {
		return nil
	}
	hub, err := irohub.NewHub(c.options(std.log), ep)
	if err != nil {
		return err
	}
	defer closing(end, hub.Close)
	l, err := c.serve(ctx, hub, ep.Addr(), std)
	// All that is left has endTime.
	time.AfterFunc(endTime, over)
	if l != nil {
		err = cmp.Or(err, l.close(end))
	}
	return err
}

// serve says where the hub is, and serves until it ends. The listener, if there is one, may have
// events that are not printed yet.
func (c *hubConfig) serve(ctx context.Context, hub *irohub.Hub, addr irohub.Addr, std stdio) (l *listener, err error) {
	// A hub of which nobody can learn where it is ends here.
	if err := await(ctx, func() error { return c.printReady(std.out, addr) }); err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, fmt.Errorf("standard output: %w", err)
	}
	if !c.quiet {
		if l, err = listen(hub, newSink(std.out, c.limits.MaxQueue, 0, nil), std.log); err != nil {
			return nil, err
		}
	}
	served := make(chan error, 1)
	go func() { served <- hub.Serve(context.WithoutCancel(ctx)) }() // until hub is closed
	if c.stdin {
		// Nobody waits for this goroutine: nothing can end its reading.
		go c.publish(ctx, hub, std)
	}
	notify(service.Ready, std.log)
	err = c.wait(ctx, served, std)
	notify(service.Stopping, std.log)
	return l, cmp.Or(err, c.handOver(ctx, hub, std.log))
}

// wait waits for the hub's end, or for a signal that asks for it.
func (c *hubConfig) wait(ctx context.Context, served <-chan error, std stdio) error {
	for {
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		case <-std.hangup:
			c.reload(std.log)
		}
	}
}

// reload reads the lists again. Who is connected stays so.
func (c *hubConfig) reload(log *slog.Logger) {
	if c.allowFile == "" && c.denyFile == "" {
		log.Info("there are no lists to read again")
		return
	}
	if err := c.access.load(); err != nil {
		log.Error("the lists are as they were", "err", err)
		return
	}
	l := c.access.lists.Load()
	log.Info("the lists were read again", "allowed", len(l.allowed), "denied", len(l.denied))
}

// handOver ends the hub, with nothing lost if spokes take what is for them in time.
func (c *hubConfig) handOver(ctx context.Context, hub *irohub.Hub, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.shutdown)
	defer cancel()
	log.Info("shutting down")
	err := hub.Shutdown(ctx)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, irohub.ErrUndelivered): // which says how much
		err = fmt.Errorf("not all that was published may have been handed over: %w", err)
	}
	return fmt.Errorf("shutting down: %w", err)
}

func notify(state string, log *slog.Logger) {
	if err := service.Notify(state); err != nil {
		log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

var errBlocked = errors.New("standard output takes nothing; events are left that were not printed")

// explainSlow says what to do where standard output does not keep up.
func explainSlow(err error, maxQueue int) error {
	if end, ok := errors.AsType[*irohub.CloseError](err); ok && end.Code == irohub.CodeSlow {
		return fmt.Errorf("more than %d bytes were waiting for this program or its standard output (see --max-queue): %w", maxQueue, err)
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
	for l := range readEvents(std.in, c.limits.MaxFrame) {
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
