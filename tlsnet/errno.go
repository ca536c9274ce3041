//go:build !windows && !plan9

package tlsnet

import "syscall"

// What the system says: for want of memory or of a peer that is there still, and where a peer
// has hung up.
var (
	scarce = []error{syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}
	resets = []error{syscall.ECONNRESET, syscall.EPIPE}
)
