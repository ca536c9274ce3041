package tlsnet

// See errno.go. Plan 9 has error texts instead of numbers.
var scarce, vanished, resets []error
