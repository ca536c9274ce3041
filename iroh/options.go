package iroh

import (
	"irohub"
	"irohub/key"
)

// Options say how to bind an [Endpoint]. The zero value is a sound choice: a new
// identity, any free port, no relays, no discovery.
type Options struct {
	// Identity.

	// SecretKey makes the endpoint's NodeID. Zero: a new random one.
	SecretKey key.Secret

	// ALPN is the protocol's name, which both ends must give alike. Empty:
	// [irohub.ALPN].
	ALPN string

	// Network.

	// Addr is the IP:PORT to listen on, "127.0.0.1:0" for instance; port 0 is
	// any free one, and ":4433" is that port of every address. Empty: any free
	// port of every address.
	Addr string

	// Relays are the URLs of relay servers that carry the traffic of nodes
	// which cannot reach each other. Empty: none, and the endpoint talks to
	// nobody but those that it dials and that dial it. [PublicRelays] alone:
	// those of iroh's authors.
	Relays []string

	// Limits.

	// MaxStreams is how many streams a peer that has dialled may have open on one
	// connection; one more is ended at once with [irohub.CodeTooMany]. 0: 16.
	MaxStreams int

	// Native library.

	// Library is the path of libiroh_ffi. Empty: it is searched for; the
	// package's documentation says where. A process loads one library, so the
	// first Bind decides.
	Library string
}

// PublicRelays, in [Options.Relays], stands for the relay servers that iroh's
// authors run, and for their service that finds a node by its NodeID alone.
// Both learn which nodes use them.
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
