// Package iroh is a transport of irohub over iroh: QUIC connections between nodes that are
// identified by their public keys. It calls iroh's native library, libiroh_ffi 1.2.0, and
// needs no Go module.
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
// Building needs a C compiler but not the library. The first Bind, [Ticket] or
// [ParseTicket] of the process loads the library. It is searched for in this order:
//
//  1. the path in [Options.Library]
//  2. the path in the environment variable IROH_LIB
//  3. .native/GOOS-GOARCH/ in the working directory and each directory above it,
//     where "go run irohub/iroh/fetch" puts it; here its SHA-256 must be the one
//     that this package pins
//  4. the directory of the executable
//
// Nothing is downloaded at run time. Loading compares the library's ABI version and the
// checksum of each function used, so another version causes an error and not a crash.
// Libraries exist for Linux on amd64 and arm64, with glibc 2.28 or later, and for macOS on
// arm64. On other platforms, and without cgo, the package compiles and Bind returns
// [ErrUnsupported].
//
// # Goroutines
//
// All methods may be called from several goroutines. On one stream, one goroutine may read
// while another writes. A waiting call occupies no thread. When its context ends, it
// returns at once and the operation is dropped. After that, the affected half of a stream
// can only be aborted; a handshake has turned the peer away; any other call has had no
// effect.
//
// What the application closes or aborts is freed at once. After the peer has closed a
// connection, each of its streams is freed when it is read to the end or aborted. The
// garbage collector eventually closes what the application forgets.
//
// # Limits
//
// Each Read or Write calls the library once for up to 32 or 64 KiB, which costs a few
// microseconds. For speed, put many frames into one call. The library handles all network
// traffic of a process on one thread.
//
// A peer cannot make the library buffer without limit. Before the first call of
// AcceptStream, one stream of a peer waits; on the side that dialled, none. All other
// streams are aborted, unidirectional streams are stopped, and a datagram closes the
// connection with [irohub.CodeProtocol]. A stream that waits or is not read holds at most
// 1.25 MB. The library also holds data that was written and not acknowledged: up to 1.25 MB
// for a peer that makes no progress, and up to 10 MB for a peer that grants more credit
// than it uses. The library has no setting for that.
//
// A peer that vanishes is detected after about 30 seconds. The transport never closes a
// connection to a peer that is alive but does not read. A close by either side loses data
// that has not arrived: call CloseWrite on the streams first. Data that arrived before the
// peer closed can still be read.
//
// # Errors
//
// Once a connection has ended, calls return a [*irohub.CloseError] if either side closed
// it, and otherwise, for example after a timeout, an error that wraps [net.ErrClosed]. A
// stream that the peer aborted returns a CloseError with the peer's code. The reason is
// text chosen by the peer: up to 1,024 bytes of UTF-8 with any content, including several
// lines. Error messages shorten it to one line and escape what is not printable.
package iroh
