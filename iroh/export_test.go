//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// For the tests of package iroh_test.
var NeedLibrary = needLibrary
