//go:build !cgo || !((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"context"
	"errors"
	"strings"
	"testing"

	"irohub"
)

var _ irohub.Endpoint = (*Endpoint)(nil)

func TestUnsupported(t *testing.T) {
	_, bind := Bind(context.Background(), Options{})
	_, ticket := Ticket(irohub.Addr{})
	_, parse := ParseTicket("")
	for _, err := range []error{bind, ticket, parse} {
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
			t.Error(err)
		}
	}
}
