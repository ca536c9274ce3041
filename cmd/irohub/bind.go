package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/spf13/pflag"

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

func (n *network) declare(flags *pflag.FlagSet) {
	n.declareTransport(flags)
	n.declareRelays(flags)
	flags.StringVar(&n.key, "key", "", "the `FILE` with the secret key, made if it is missing; none: a key for this run alone")
}

func (n *network) declareTransport(flags *pflag.FlagSet) {
	declare(flags, &n.transport, "transport", "", overIroh, "how to connect, `iroh|tls`, the same as the other side; tls: TLS 1.3 over TCP", func(s string) (string, error) {
		if s != overIroh && s != overTLS {
			return "", fmt.Errorf("%s or %s is wanted", overIroh, overTLS)
		}
		return s, nil
	})
}

func (n *network) declareRelays(flags *pflag.FlagSet) {
	flags.StringVar(&n.relays, "relays", "none", "the relay servers, `none|n0|URL`; n0: those of iroh's authors; with --transport iroh only")
}

func (n *network) declareAddr(flags *pflag.FlagSet) {
	flags.StringVar(&n.addr, "addr", "", "the `HOST:PORT` to listen on, by numbers; none: any free port of every address")
}

// bind opens an endpoint that dials. This function, listen, ticket and parsePeer are all that
// names the transport.
func (n *network) bind(ctx context.Context) (irohub.Endpoint, error) { return n.open(ctx, nil) }

// listen opens a hub's endpoint; handedIn is a listener that is there already, or nil.
func (n *network) listen(ctx context.Context, handedIn net.Listener) (irohub.Endpoint, error) {
	if handedIn != nil {
		if n.transport != overTLS {
			return nil, usagef("LISTEN_FDS: a socket was handed in, which --transport tls alone takes")
		}
		if n.addr != "" {
			return nil, usagef("--addr: a socket was handed in (LISTEN_FDS), which says where to listen")
		}
		return n.open(ctx, handedIn)
	}
	with := *n
	if with.transport == overTLS && with.addr == "" {
		with.addr = ":0"
	}
	return with.open(ctx, nil)
}

func (n *network) open(ctx context.Context, handedIn net.Listener) (irohub.Endpoint, error) {
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
		ep, err := tlsnet.Bind(ctx, tlsnet.Options{SecretKey: secret, Addr: n.addr, Listener: handedIn})
		return bound(ep, err)
	}
	ep, err := iroh.Bind(ctx, iroh.Options{SecretKey: secret, Addr: n.addr, Relays: relays})
	return bound(ep, err)
}

// bound is what a transport has made, or why not.
func bound(ep irohub.Endpoint, err error) (irohub.Endpoint, error) {
	switch {
	case err == nil:
		return ep, nil
	case errors.Is(err, tlsnet.ErrAddr), errors.Is(err, iroh.ErrAddr):
		return nil, usagef("--addr: %w", err)
	}
	return nil, explainLibrary(err)
}

// explainLibrary says that there is a way without iroh's native library.
func explainLibrary(err error) error {
	if errors.Is(err, iroh.ErrNoLibrary) || errors.Is(err, iroh.ErrUnsupported) {
		return fmt.Errorf("%w. --transport tls, on both sides, needs no library", err)
	}
	return err
}

func (n *network) parseRelays() ([]string, error) {
	switch {
	case n.relays == "none":
		return nil, nil
	case n.transport == overTLS:
		return nil, usagef("--relays: --transport tls has no relay servers")
	case n.relays == "n0":
		return []string{iroh.PublicRelays}, nil
	case !strings.Contains(n.relays, "://"):
		return nil, usagef("--relays: %q is not none, n0 or a URL", n.relays)
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
			return addr, usagef("%q is not NODEID@HOST:PORT, which is what --transport tls takes; tickets are iroh's", s)
		case err != nil:
			return addr, usagef("%q is not NODEID@HOST:PORT: %w", s, err)
		case len(addr.Hosts) == 0:
			return addr, usagef("PEER says no address: NODEID@HOST:PORT")
		}
		return addr, nil
	}
	if err != nil && !strings.Contains(s, "@") {
		if addr, err = iroh.ParseTicket(s); err != nil && !errors.Is(err, iroh.ErrAddr) {
			return addr, explainLibrary(err) // there is no library to read it
		}
	}
	if err != nil {
		return addr, usagef("%q is neither NODEID@HOST:PORT nor a ticket: %w", s, err)
	}
	if len(addr.Hosts) == 0 && addr.Relay == "" && n.relays != "n0" {
		return addr, usagef("PEER says no address: NODEID@HOST:PORT, or --relays n0 to look the NodeID up")
	}
	return addr, nil
}

// A spokeConfig holds the flags that sub and pub have in common.
type spokeConfig struct {
	network
	timeout  time.Duration
	maxFrame int
}

func (c *spokeConfig) declare(flags *pflag.FlagSet) {
	c.network.declare(flags)
	durationVar(flags, &c.timeout, "timeout", 10*time.Second, "the `TIME` in which the hub must answer at the start")
	bytesVar(flags, &c.maxFrame, "max-frame", "the largest event in `BYTES`; larger than the hub's is of no use")
}

// closeTime is how long an endpoint may take to close where nothing is lost by it. Peers are
// told of it at once, and most of what it waits for is that they have heard.
const closeTime = 500 * time.Millisecond

// closing calls f, and waits for it until end, or for closeTime.
func closing(end context.Context, f func() error) {
	end, cancel := context.WithTimeout(end, closeTime)
	defer cancel()
	await(end, f)
}

// dial connects to the hub, in the time that ctx has, and clears away until end if it fails. The
// caller closes both, the endpoint last.
func (c *spokeConfig) dial(ctx, end context.Context, addr irohub.Addr, opts irohub.SpokeOptions) (*irohub.Spoke, irohub.Endpoint, error) {
	ep, err := c.bind(ctx)
	if err != nil {
		return nil, nil, err
	}
	opts.MaxFrame = c.maxFrame
	spoke, err := irohub.Dial(ctx, ep, addr, opts)
	if err != nil {
		closing(end, ep.Close)
		return nil, nil, err
	}
	return spoke, ep, nil
}
