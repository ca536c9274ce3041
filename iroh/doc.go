// Package iroh is the transport of irohub: connections of iroh, which are QUIC
// connections between nodes that know each other by their public keys. It binds
// iroh's own native library, libiroh_ffi 1.2.0, and needs no Go module.
//
// Use [Bind] to open an [Endpoint], which [irohub.NewHub] serves and
// [irohub.Dial] dials with:
//
//	secret, err := key.LoadOrCreate("hub.key") // package irohub/key
//	…
//	ep, err := iroh.Bind(ctx, iroh.Options{SecretKey: secret, Addr: ":4433"})
//	…
//	defer ep.Close()
//	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
//
// # The native library
//
// Building needs a C compiler but not the library, which is loaded by the first
// Bind, [Ticket] or [ParseTicket] of the process. It is searched for in this
// order:
//
//  1. the path in [Options.Library]
//  2. the path in the environment variable IROH_LIB
//  3. .native/GOOS-GOARCH/ in the working directory and each directory above it,
//     where "go run irohub/iroh/fetch" puts it; here its SHA-256 must be the one
//     that this package pins
//  4. the directory of the executable
//
// Nothing is ever downloaded at run time. The library's ABI version and the
// checksum of each function used are compared at loading, so another version is
// an error and not a crash. There is a library for Linux on amd64 and arm64, with
// glibc 2.28 or later, and for macOS on arm64; elsewhere, and without cgo, the
// package compiles and Bind returns [ErrUnsupported].
//
// # Goroutines
//
// All methods may be called from several goroutines; of one stream, one
// goroutine may read while another writes. A call that waits holds no thread.
// When its context ends it returns at once, and what it waited for is dropped:
// an operation on a stream leaves that half of it good for Abort only, a
// handshake turns the peer away, everything else is as if it had not been called.
//
// What is closed explicitly frees the library's memory at once; a stream of a
// connection that the peer has closed does so when it is read to its end or
// aborted. What the application just forgets, the garbage collector closes some
// time.
//
// # Limits
//
// Each Read and Write crosses into the library once for up to 32 and 64 KiB, at
// a cost of some microseconds, so many frames in one call are what is fast. All
// network traffic of a process runs on one thread of the library's.
//
// What a peer begins is taken at once: until AcceptStream is first called, one stream of it
// waits, and on the side that dialled none; all others are aborted, unidirectional streams are
// stopped, and a datagram closes the connection with [irohub.CodeProtocol]. A stream that
// waits, or is not read, holds 1.25 MB at the most. What was written and the peer does not
// acknowledge, the library holds too: up to 1.25 MB for a peer that stands still, up to 10 MB
// for one that gives more credit than it means, and it has no setting for that.
//
// A peer that vanishes is noticed after about 30 seconds; one that stays but does
// not read never is, by the transport. Close, and a close by the peer, lose what
// has not arrived: call CloseWrite on the streams first. What has arrived before
// the peer closed can still be read.
//
// # Errors
//
// Once a connection has ended, calls return a [*irohub.CloseError] with the code
// of whoever closed it, or else, as after a timeout, an error that wraps
// [net.ErrClosed]. A stream that the peer has aborted returns a CloseError with the
// peer's code. A reason is the peer's text, up to 1,024 bytes of UTF-8: it may hold
// anything, on several lines. What an error prints of it is shorter, on one line, and has
// escapes for what is not printable.
package iroh
