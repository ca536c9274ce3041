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

// network holds the flags that say how to open an endpoint.
type network struct {
	transport string
	key       string
	addr      string
	relays    string
}

func (n *network) declare(flags *pflag.FlagSet) {
	n.declareTransport(flags)
	n.declareRelays(flags)
	flags.StringVar(&n.key, "key", "", "the `FILE` with the secret key; it is created if it is missing. Without this flag, the key is new in each run")
}

func (n *network) declareTransport(flags *pflag.FlagSet) {
	declare(flags, &n.transport, "transport", "", overIroh, "the transport, `iroh|tls`; hub and spokes need the same. tls: TLS 1.3 over TCP", func(s string) (string, error) {
		if s != overIroh && s != overTLS {
			return "", fmt.Errorf("%s or %s is wanted", overIroh, overTLS)
		}
		return s, nil
	})
}

func (n *network) declareRelays(flags *pflag.FlagSet) {
	flags.StringVar(&n.relays, "relays", "none", "the relay servers, `none|n0|URL`; n0: those of iroh's authors; only with --transport iroh")
}

func (n *network) declareAddr(flags *pflag.FlagSet) {
	flags.StringVar(&n.addr, "addr", "", "the `HOST:PORT` to listen on, both as numbers. Without this flag: a free port on every address")
}

// bind opens an endpoint that only dials. Only the methods of network know the transports.
func (n *network) bind(ctx context.Context) (irohub.Endpoint, error) { return n.open(ctx, nil) }

// listen opens a hub's endpoint. handedIn is the socket from the service manager, or nil.
func (n *network) listen(ctx context.Context, handedIn net.Listener) (irohub.Endpoint, error) {
	if handedIn != nil {
		if n.transport != overTLS {
			return nil, usagef("LISTEN_FDS: a socket was handed in, which needs --transport tls")
		}
		if n.addr != "" {
			return nil, usagef("--addr: a socket was handed in (LISTEN_FDS), which already has an address")
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

// bound returns the result of a transport's Bind, with a better error.
func bound(ep irohub.Endpoint, err error) (irohub.Endpoint, error) {
	switch {
	case err == nil:
		return ep, nil
	case errors.Is(err, tlsnet.ErrAddr), errors.Is(err, iroh.ErrAddr):
		return nil, usagef("--addr: %w", err)
	}
	return nil, explainLibrary(err)
}

// explainLibrary adds to the error of a missing native library that TLS needs none.
func explainLibrary(err error) error {
	if errors.Is(err, iroh.ErrNoLibrary) || errors.Is(err, iroh.ErrUnsupported) {
		return fmt.Errorf("%w. With --transport tls on both sides, no library is needed", err)
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

// onlineTimeout limits the wait for a relay server. Without one, the hub still has its addresses.
const onlineTimeout = 10 * time.Second

// online waits until the endpoint's address includes its relay server.
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

// ticket returns the ticket for an address. It is empty if the transport has no tickets.
func (n *network) ticket(addr irohub.Addr) (string, error) {
	if n.transport == overTLS {
		return "", nil
	}
	return iroh.Ticket(addr)
}

// parsePeer parses the argument PEER.
func (n *network) parsePeer(s string) (irohub.Addr, error) {
	addr, err := irohub.ParseAddr(s)
	if n.transport == overTLS {
		switch {
		case err != nil && !strings.Contains(s, "@"):
			return addr, usagef("%q is not NODEID@HOST:PORT, which --transport tls needs; only iroh has tickets", s)
		case err != nil:
			return addr, usagef("%q is not NODEID@HOST:PORT: %w", s, err)
		case len(addr.Hosts) == 0:
			return addr, usagef("PEER has no address; the form is NODEID@HOST:PORT")
		}
		return addr, nil
	}
	if err != nil && !strings.Contains(s, "@") {
		if addr, err = iroh.ParseTicket(s); err != nil && !errors.Is(err, iroh.ErrAddr) {
			return addr, explainLibrary(err) // without the library, a ticket cannot be parsed
		}
	}
	if err != nil {
		return addr, usagef("%q is neither NODEID@HOST:PORT nor a ticket: %w", s, err)
	}
	if len(addr.Hosts) == 0 && addr.Relay == "" && n.relays != "n0" {
		return addr, usagef("PEER has no address; the form is NODEID@HOST:PORT. With --relays n0, iroh looks the address up")
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
	durationVar(flags, &c.timeout, "timeout", 10*time.Second, "how much `TIME` the hub has for its first answers")
	bytesVar(flags, &c.maxFrame, "max-frame", "the size limit of one event in `BYTES`; the hub's limit applies too")
}

// closeTime is how long closing may take if nothing can be lost. Close tells the peers at once;
// the rest of the time it waits for their acknowledgements.
const closeTime = 500 * time.Millisecond

// closing calls f. It waits for f until end, and for closeTime at most.
func closing(end context.Context, f func() error) {
	end, cancel := context.WithTimeout(end, closeTime)
	defer cancel()
	await(end, f)
}

// dial connects to the hub before ctx ends. If it fails, it closes the endpoint before end.
// Otherwise the caller closes the spoke and then the endpoint.
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
