//go:build !cgo || !((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"errors"
	"strings"
	"testing"

	"irohub"
	"irohub/iroh/internal/native"
)

var _ irohub.Endpoint = (*Endpoint)(nil)

func TestUnsupported(t *testing.T) {
	_, bind := Bind(context.Background(), Options{})
	_, ticket := Ticket(irohub.Addr{})
	_, parse := ParseTicket("")
	_, _, library := Library()
	cause := "CGO_ENABLED=1"
	if _, ok := native.ForPlatform(native.Platform()); !ok {
		cause = "no native library for " + native.Platform()
	}
	for _, err := range []error{bind, ticket, parse, library} {
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), cause) {
			t.Error(err)
		}
	}
}
