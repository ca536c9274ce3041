package iroh

import (
	"irohub"
	"irohub/key"
)

// Options configure an [Endpoint]. The zero value is valid: a new identity, any free port,
// no relays, no discovery.
type Options struct {
	// Identity.

	// SecretKey determines the endpoint's NodeID. Zero: a new random key.
	SecretKey key.Secret

	// ALPN is the protocol name, which must be the same on both ends. Empty: [irohub.ALPN].
	ALPN string

	// Network.

	// Addr is the IP:PORT to listen on, for example "127.0.0.1:0". Port 0 chooses a free
	// port; ":4433" listens on every address. Empty: any free port on every address.
	Addr string

	// Relays are the URLs of relay servers. They carry traffic between nodes that cannot
	// reach each other directly. Empty: none; the endpoint then communicates only with the
	// nodes that it dials and that dial it. [PublicRelays] alone: the relays of iroh's
	// authors.
	Relays []string

	// Limits.

	// MaxStreams is the most streams that a peer that dialled may have open on one
	// connection. A further stream is aborted at once with [irohub.CodeTooMany]. 0: 16.
	MaxStreams int

	// Native library.

	// Library is the path of libiroh_ffi. Empty: the search described in the package
	// documentation. A process loads only one library, so the first Bind decides.
	Library string
}

// PublicRelays, in [Options.Relays], selects the relay servers of iroh's authors, and their
// discovery service, which finds a node by its NodeID alone. Both learn which nodes use
// them.
const PublicRelays = "public"

func (o Options) alpn() string {
	if o.ALPN == "" {
		return irohub.ALPN
	}
	return o.ALPN
}

func (o Options) maxStreams() int {
	if o.MaxStreams <= 0 {
		return 16
	}
	return o.MaxStreams
}
