//go:build !windows && !plan9

package tlsnet

import "syscall"

// System errors that mean: out of memory, the peer left before it was accepted, and the
// peer hung up.
var (
	scarce   = []error{syscall.ENOBUFS, syscall.ENOMEM}
	vanished = []error{syscall.ECONNABORTED}
	resets   = []error{syscall.ECONNRESET, syscall.EPIPE}
)
