//go:build !cgo || !((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"fmt"

	"irohub"
	"irohub/iroh/internal/native"
)

// An Endpoint is a node's place in an iroh network. In this build none can be made.
type Endpoint struct{ _ int }

// unsupported says which of the two reasons there are for this file to be built.
func unsupported() error {
	platform := native.Platform()
	if _, ok := native.ForPlatform(platform); !ok {
		return fmt.Errorf("%w: there is no native library for %s; there is one for Linux (amd64, arm64) and macOS (arm64)", ErrUnsupported, platform)
	}
	return fmt.Errorf("%w: this program was built without cgo; build it with CGO_ENABLED=1 and a C compiler", ErrUnsupported)
}

// Library returns an error: this build has no native library.
func Library() (path, version string, err error) { return "", "", unsupported() }

// Bind returns an error: this build has no native library.
func Bind(context.Context, Options) (*Endpoint, error) { return nil, unsupported() }

// Ticket returns an error: this build has no native library.
func Ticket(irohub.Addr) (string, error) { return "", unsupported() }

// ParseTicket returns an error: this build has no native library.
func ParseTicket(string) (irohub.Addr, error) { return irohub.Addr{}, unsupported() }

// ID is not called: there is no Endpoint.
func (*Endpoint) ID() irohub.NodeID { return irohub.NodeID{} }

// Addr is not called: there is no Endpoint.
func (*Endpoint) Addr() irohub.Addr { return irohub.Addr{} }

// Online is not called: there is no Endpoint.
func (*Endpoint) Online(context.Context) error { return unsupported() }

// Accept is not called: there is no Endpoint.
func (*Endpoint) Accept(context.Context) (irohub.Incoming, error) { return nil, unsupported() }

// Dial is not called: there is no Endpoint.
func (*Endpoint) Dial(context.Context, irohub.Addr) (irohub.Conn, error) { return nil, unsupported() }

// Close is not called: there is no Endpoint.
func (*Endpoint) Close() error { return nil }
