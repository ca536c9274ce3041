package tlsnet

import "syscall"

// Package syscall's names for these are numbers of its own here, which Windows never says.
const (
	wsaEMFILE       = syscall.Errno(10024)
	wsaECONNABORTED = syscall.Errno(10053)
	wsaECONNRESET   = syscall.Errno(10054)
	wsaENOBUFS      = syscall.Errno(10055)
)

// See errno.go. A peer that has hung up before it was accepted is a reset.
var (
	scarce   = []error{wsaEMFILE, wsaENOBUFS}
	vanished = []error{wsaECONNABORTED, wsaECONNRESET}
	resets   = []error{wsaECONNRESET, wsaECONNABORTED}
)
