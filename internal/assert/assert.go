// Package assert lets a test see what a router of package irohub believes.
package assert

// Round is called by every router at the end of each of its rounds, on the router's
// goroutine, with a check of all that must hold there. The simulation sets it, before
// there is a router; nothing else does.
var Round func(check func() error)
