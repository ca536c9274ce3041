//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"strings"

	"irohub"
)

// Ticket returns addr as one word, which iroh clients in every language can read. Hosts
// must be IP:PORT. Like Bind, it needs the native library.
func Ticket(addr irohub.Addr) (string, error) {
	if err := load(""); err != nil {
		return "", err
	}
	hosts, err := resolve(context.Background(), addr.Hosts)
	if err != nil {
		return "", err
	}
	var r result
	C.irohub_format_ticket(
		wire(nil).bytes(string(addr.ID[:])).c(), wire(nil).option(addr.Relay).c(), wire(nil).list(hosts).c(), &r)
	if err := failed(&r); err != nil {
		return "", &failure{doing: "ticket", kind: ErrAddr, cause: err}
	}
	return string(taken(&r)), nil
}

// ParseTicket reads an iroh ticket, made by [Ticket] or by another program.
func ParseTicket(s string) (irohub.Addr, error) {
	if err := load(""); err != nil {
		return irohub.Addr{}, err
	}
	var node, hosts, relay result
	C.irohub_parse_ticket(wire(strings.TrimSpace(s)).c(), &node, &hosts, &relay)
	if err := failed(&node); err != nil {
		return irohub.Addr{}, &failure{doing: "ticket", kind: ErrAddr, cause: err}
	}
	addr, err := readAddr(&hosts, &relay)
	if err != nil {
		return irohub.Addr{}, err
	}
	addr.ID, err = readID(taken(&node))
	return addr, err
}
