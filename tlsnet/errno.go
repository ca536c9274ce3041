//go:build !windows && !plan9

package tlsnet

import "syscall"

// What the system says: for want of memory, where a peer has gone before it was accepted, and
// where one has hung up.
var (
	scarce   = []error{syscall.ENOBUFS, syscall.ENOMEM}
	vanished = []error{syscall.ECONNABORTED}
	resets   = []error{syscall.ECONNRESET, syscall.EPIPE}
)
