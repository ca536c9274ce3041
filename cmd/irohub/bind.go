package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"irohub"
	"irohub/iroh"
	"irohub/key"
	"irohub/tlsnet"
)

// The transports.
const (
	overIroh = "iroh"
	overTLS  = "tls"
)

// network holds the flags that say how to be in the network.
type network struct {
	transport string
	key       string
	addr      string
	relays    string
}

func (n *network) declare(flags *flag.FlagSet) {
	n.declareTransport(flags)
	n.declareRelays(flags)
	flags.StringVar(&n.key, "key", "", "the `FILE` with the secret key, made if it is missing; none: a key for this run alone")
}

func (n *network) declareTransport(flags *flag.FlagSet) {
	n.transport = overIroh
	flags.Func("transport", "how to connect, `iroh|tls`, the same as the other side; tls: TLS 1.3 over TCP (default iroh)", func(s string) error {
		if s != overIroh && s != overTLS {
			return fmt.Errorf("%s or %s is wanted", overIroh, overTLS)
		}
		n.transport = s
		return nil
	})
}

func (n *network) declareRelays(flags *flag.FlagSet) {
	flags.StringVar(&n.relays, "relays", "none", "the relay servers, `none|n0|URL`; n0: those of iroh's authors; with -transport iroh only")
}

func (n *network) declareAddr(flags *flag.FlagSet) {
	flags.StringVar(&n.addr, "addr", "", "the `HOST:PORT` to listen on, by numbers; none: any free port of every address")
}

// bind opens the endpoint, which listens if it is a hub's. This function, ticket and
// parsePeer are all that names the transport.
func (n *network) bind(ctx context.Context, listens bool) (irohub.Endpoint, error) {
	relays, err := n.parseRelays()
	if err != nil {
		return nil, err
	}
	var secret key.Secret
	if n.key != "" {
		if secret, err = key.LoadOrCreate(n.key); err != nil {
			return nil, err
		}
	}
	if n.transport == overTLS {
		addr := n.addr
		if listens && addr == "" {
			addr = ":0"
		}
		ep, err := tlsnet.Bind(ctx, tlsnet.Options{SecretKey: secret, Addr: addr})
		return bound(ep, err, tlsnet.ErrAddr)
	}
	ep, err := iroh.Bind(ctx, iroh.Options{SecretKey: secret, Addr: n.addr, Relays: relays})
	return bound(ep, err, iroh.ErrAddr)
}

// bound is what a transport has made, or why not; badAddr is its word for an address that
// is wrong.
func bound(ep irohub.Endpoint, err, badAddr error) (irohub.Endpoint, error) {
	switch {
	case errors.Is(err, badAddr):
		return nil, usagef("-addr: %w", err)
	case err != nil:
		return nil, err
	}
	return ep, nil
}

func (n *network) parseRelays() ([]string, error) {
	switch {
	case n.relays == "none":
		return nil, nil
	case n.transport == overTLS:
		return nil, usagef("-relays: -transport tls has no relay servers")
	case n.relays == "n0":
		return []string{iroh.PublicRelays}, nil
	case !strings.Contains(n.relays, "://"):
		return nil, usagef("-relays: %q is not none, n0 or a URL", n.relays)
	}
	return []string{n.relays}, nil
}

// onlineTimeout bounds the wait for a relay server, without which there are still
// the addresses.
const onlineTimeout = 10 * time.Second

// online waits until the endpoint's address names its relay server.
func (n *network) online(ctx context.Context, ep irohub.Endpoint, log *slog.Logger) {
	relayed, ok := ep.(interface{ Online(context.Context) error })
	if !ok || n.relays == "none" {
		return
	}
	waiting := time.AfterFunc(time.Second, func() {
		log.Info("waiting for a relay server", "relays", n.relays, "at_most", onlineTimeout)
	})
	defer waiting.Stop()
	within, cancel := context.WithTimeout(ctx, onlineTimeout)
	defer cancel()
	if err := relayed.Online(within); err != nil && ctx.Err() == nil {
		log.Warn("no relay server answers", "relays", n.relays, "err", err)
	}
}

// ticket is empty where the transport has none.
func (n *network) ticket(addr irohub.Addr) (string, error) {
	if n.transport == overTLS {
		return "", nil
	}
	return iroh.Ticket(addr)
}

// parsePeer reads what a user gives for a hub.
func (n *network) parsePeer(s string) (irohub.Addr, error) {
	addr, err := irohub.ParseAddr(s)
	if n.transport == overTLS {
		switch {
		case err != nil && !strings.Contains(s, "@"):
			return addr, usagef("%q is not NODEID@HOST:PORT, which is what -transport tls takes; tickets are iroh's", s)
		case err != nil:
			return addr, usagef("%q is not NODEID@HOST:PORT: %w", s, err)
		case len(addr.Hosts) == 0:
			return addr, usagef("PEER says no address: NODEID@HOST:PORT")
		}
		return addr, nil
	}
	if err != nil && !strings.Contains(s, "@") {
		if addr, err = iroh.ParseTicket(s); err != nil && !errors.Is(err, iroh.ErrAddr) {
			return addr, err // there is no library to read it
		}
	}
	if err != nil {
		return addr, usagef("%q is neither NODEID@HOST:PORT nor a ticket: %w", s, err)
	}
	if len(addr.Hosts) == 0 && addr.Relay == "" && n.relays != "n0" {
		return addr, usagef("PEER says no address: NODEID@HOST:PORT, or -relays n0 to look the NodeID up")
	}
	return addr, nil
}

// A spokeConfig holds the flags that sub and pub have in common.
type spokeConfig struct {
	network
	timeout  time.Duration
	maxFrame int
}

func (c *spokeConfig) declare(flags *flag.FlagSet) {
	c.network.declare(flags)
	flags.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long the hub may take to answer at the start")
	bytesVar(flags, &c.maxFrame, "max-frame", "the largest event in `BYTES`; larger than the hub's is of no use")
}

// closeGrace is how long an endpoint may take to close at the end of the process, once there is
// no more time for anything else. Peers are told of it at once, and most of what it waits for is
// that they have heard.
const closeGrace = 500 * time.Millisecond

// dial connects to the hub, in the time that ctx has. The caller closes both, the endpoint last.
func (c *spokeConfig) dial(ctx context.Context, addr irohub.Addr, log *slog.Logger, opts irohub.SpokeOptions) (*irohub.Spoke, irohub.Endpoint, error) {
	ep, err := c.bind(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	opts.MaxFrame = c.maxFrame
	opts.Logger = log
	spoke, err := irohub.Dial(ctx, ep, addr, opts)
	if err != nil {
		await(ctx, closeGrace, ep.Close)
		return nil, nil, err
	}
	return spoke, ep, nil
}

// bytesVar declares a flag for a number of bytes, with the library's own default.
// Below the minimum, a hub could not even be told of a long topic.
func bytesVar(flags *flag.FlagSet, p *int, name, usage string) {
	const minimum, standard, maximum = 2 << 10, 1 << 20, 1 << 30
	*p = standard
	flags.Func(name, fmt.Sprintf("%s (default %d)", usage, standard), func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < minimum || n > maximum {
			return fmt.Errorf("a number from %d to %d is wanted", minimum, maximum)
		}
		*p = n
		return nil
	})
}
