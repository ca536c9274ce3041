//go:build !linux || !cgo

package trim

// Memory reports that there is no such allocator, or no access to it.
func Memory() bool { return false }
