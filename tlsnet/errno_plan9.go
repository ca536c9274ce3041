package tlsnet

// See errno.go. Plan 9 has texts instead.
var scarce, vanished, resets []error
