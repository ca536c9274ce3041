package tlsnet

import "syscall"

// On Windows, package syscall gives these names invented numbers that the system never
// returns.
const (
	wsaEMFILE       = syscall.Errno(10024)
	wsaECONNABORTED = syscall.Errno(10053)
	wsaECONNRESET   = syscall.Errno(10054)
	wsaENOBUFS      = syscall.Errno(10055)
)

// See errno.go. A peer that hung up before it was accepted appears as a reset.
var (
	scarce   = []error{wsaEMFILE, wsaENOBUFS}
	vanished = []error{wsaECONNABORTED, wsaECONNRESET}
	resets   = []error{wsaECONNRESET, wsaECONNABORTED}
)
