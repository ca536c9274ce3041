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
	text: `Runs a hub. When it is ready, it prints one line of JSON on standard output: its NodeID,
its addresses and, over iroh, its ticket. Then it prints each event that a spoke
publishes. The event's "from" is the NodeID of that spoke. The hub does not wait for the
reader of its output. It drops events if too many bytes wait for the reader, or if the
reader is gone. The log says how many. With --quiet the hub prints no events.

With --stdin it publishes each line of standard input to the spokes. Each line is an event
as JSON. A line that is not an event is reported on standard error and skipped. The hub
goes on after the end of the input. Input that comes faster than a spoke receives fills
the spoke's queue: see --max-queue.

SIGINT and SIGTERM end the hub. It first hands over all events that were published, which
may take up to --shutdown-timeout. It exits 0, or 1 if some events were not handed over or
not printed. A second signal ends it at once. SIGHUP makes it read --allow-file and
--deny-file again. In a terminal, SIGHUP means that the terminal was closed, and ends the
hub.

A service manager can hand in the socket (LISTEN_FDS, with --transport tls). The hub tells
it when it is ready and when it stops (NOTIFY_SOCKET).`,
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
	limits   irohub.HubOptions // only the limits and timeouts are set
}

func (c *hubConfig) declare(flags *pflag.FlagSet) {
	c.network.declare(flags)
	c.declareAddr(flags)
	flags.BoolVar(&c.forward, "forward", false, "forward the events of each spoke to the other spokes")
	flags.BoolVar(&c.stdin, "stdin", false, "publish the lines of standard input")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "print no events")
	c.access.declare(flags)
	declareLimits(flags, &c.limits)
	durationVar(flags, &c.shutdown, "shutdown-timeout", 15*time.Second, "how much `TIME` there is after a signal to hand over all published events")
}

// declareLimits declares a flag for each limit and timeout of a hub. The defaults are the library's;
// a test compares them with the comments of HubOptions.
func declareLimits(flags *pflag.FlagSet, o *irohub.HubOptions) {
	bytesVar(flags, &o.MaxQueue, "max-queue", "the limit of `BYTES` that wait for one spoke, or for standard output. A spoke over it is cut off. Standard output over it misses events")
	bytesVar(flags, &o.MaxFrame, "max-frame", "the size limit of one event in `BYTES`. An event over a spoke's own limit ends that spoke")
	numberVar(flags, &o.MaxSpokes, "max-spokes", 4096, 1, "the maximal `NUMBER` of all spokes; further ones are turned away")
	numberVar(flags, &o.MaxSpokesPerNode, "max-spokes-per-node", 8, 1, "the maximal `NUMBER` of spokes of one NodeID; a further one replaces the oldest")
	numberVar(flags, &o.MaxStreamsPerConn, "max-streams-per-conn", 16, 1, "the maximal `NUMBER` of spokes of one connection; further ones are turned away")
	numberVar(flags, &o.MaxSubscriptions, "max-subscriptions", 1024, 1, "the maximal `NUMBER` of topics of one spoke, and of one request")
	numberVar(flags, &o.MaxPending, "max-pending", 1024, 1, "the maximal `NUMBER` of connections without a spoke; a further one replaces the oldest")
	numberVar(flags, &o.MaxEventRate, "max-event-rate", 0, 0, "the maximal `NUMBER` of events and requests per second from one spoke; 0: no limit")
	numberVar(flags, &o.MaxByteRate, "max-byte-rate", 0, 0, "the maximal number of `BYTES` per second from one spoke; 0: no limit")
	durationVar(flags, &o.HandshakeTimeout, "handshake-timeout", 10*time.Second, "the maximal `TIME` from a connection's first packet to its first spoke")
	durationVar(flags, &o.WriteTimeout, "write-timeout", 10*time.Second, "the maximal `TIME` in which a spoke receives 64 KiB, or the rest at the end")
}

func (c *hubConfig) options(log *slog.Logger) irohub.HubOptions {
	opts := c.limits
	opts.Logger = log
	c.access.apply(&opts)
	var once sync.Once
	opts.Forward = func(_ irohub.NodeID, topic string) bool {
		if !c.forward {
			once.Do(func() {
				log.Info("events of spokes are not forwarded to other spokes; --forward does that", "first_topic", topic)
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
	case err != nil && ctx.Err() != nil: // ended by a signal, which is no error for a hub
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
	// The rest may take endTime.
	time.AfterFunc(endTime, over)
	if l != nil {
		err = cmp.Or(err, l.close(end))
	}
	return err
}

// serve prints the hub's addresses, and serves until the hub has ended. If it returns a
// listener, that one may still have events to print.
func (c *hubConfig) serve(ctx context.Context, hub *irohub.Hub, addr irohub.Addr, std stdio) (l *listener, err error) {
	// If nobody can learn the hub's addresses, it ends.
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
	go func() { served <- hub.Serve(context.WithoutCancel(ctx)) }() // ends when the hub is closed
	if c.stdin {
		// Nobody waits for this goroutine, because nothing can interrupt its reading.
		go c.publish(ctx, hub, std)
	}
	notify(service.Ready, std.log)
	err = c.wait(ctx, served, std)
	notify(service.Stopping, std.log)
	return l, cmp.Or(err, c.handOver(ctx, hub, std.log))
}

// wait waits for the end of Serve or for a signal to end. Meanwhile it handles SIGHUP.
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

// reload reads the lists again. It does not disconnect nodes that they now exclude.
func (c *hubConfig) reload(log *slog.Logger) {
	if c.allowFile == "" && c.denyFile == "" {
		log.Info("SIGHUP: there are no lists to read again")
		return
	}
	if err := c.access.load(); err != nil {
		log.Error("the lists were not changed", "err", err)
		return
	}
	l := c.access.lists.Load()
	log.Info("the lists were read again", "allowed", len(l.allowed), "denied", len(l.denied))
}

// handOver shuts the hub down. Nothing is lost if the spokes receive their events in time.
func (c *hubConfig) handOver(ctx context.Context, hub *irohub.Hub, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.shutdown)
	defer cancel()
	log.Info("shutting down")
	err := hub.Shutdown(ctx)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, irohub.ErrUndelivered): // ErrUndelivered says itself that events were lost
		err = fmt.Errorf("some published events may not have been handed over: %w", err)
	}
	return fmt.Errorf("shutting down: %w", err)
}

func notify(state string, log *slog.Logger) {
	if err := service.Notify(state); err != nil {
		log.Warn("the service manager was not told", "state", state, "err", err)
	}
}

var errBlocked = errors.New("standard output is blocked; not all events were printed")

// explainSlow adds to the error of a slow Subscription what to do about it.
func explainSlow(err error, maxQueue int) error {
	if end, ok := errors.AsType[*irohub.CloseError](err); ok && end.Code == irohub.CodeSlow {
		return fmt.Errorf("more than %d bytes were waiting for this program or its standard output (see --max-queue): %w", maxQueue, err)
	}
	return err
}

// printReady prints the line with the hub's NodeID, addresses and ticket.
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

// publish publishes the events of standard input. Errors are logged and do not end the hub.
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
