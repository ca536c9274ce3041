// Package tlsnet is a transport of irohub that needs only the standard library: TCP with
// TLS 1.3, where both sides prove an Ed25519 key. It works without cgo, on every platform
// that Go supports. The same key gives the same NodeID here and in irohub/iroh. Unlike
// iroh, this package does not traverse NATs and cannot find a node whose address is
// unknown.
//
// Use [Bind] to open an [Endpoint], which [irohub.NewHub] serves and [irohub.Dial] dials
// with:
//
//	secret, err := key.LoadOrCreate("hub.key") // package irohub/key
//	…
//	ep, err := tlsnet.Bind(ctx, tlsnet.Options{SecretKey: secret, Addr: ":4433"})
//	…
//	defer ep.Close()
//	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
//
// # What is trusted
//
// Each side presents a certificate for its key, self-signed and generated in memory. The
// handshake proves that the peer has the secret key; the public key is its NodeID. The
// dialler accepts only the NodeID that it dialled. Nothing else in the certificate is
// checked: no name, no date, no issuer. [ErrIdentity] turns away a peer with no
// certificate, with several, or with another type of key. It also turns away the few
// Ed25519 keys for which anybody can forge signatures. Only TLS 1.3 is accepted, with the
// configured ALPN, and without session tickets, resumption or early data. At most 16 KiB
// are read from a peer before it is authenticated.
//
// # Connections
//
// A connection has one stream, which the side that dialled opens. Opening another is an
// error that wraps [errors.ErrUnsupported].
//
// Closing a connection gives the peer 5 seconds to receive the close, in the background. At
// most 1,024 closed connections wait like this; when there are more, the oldest is cut
// short. [Endpoint.Close] waits for all of them. A connection that the application forgets
// stays open until the endpoint is closed.
//
// A peer that vanishes is detected within 30 seconds. The transport never closes a
// connection to a peer that is alive but does not read. Such a peer still receives a close,
// because at most 256 KiB are in flight to an application that does not read.
//
// Once a connection has ended, calls return a [*irohub.CloseError] if either side closed
// it, and otherwise an error that wraps [net.ErrClosed]. Data that arrived before the peer
// closed can still be read. The reason is text chosen by the peer: up to 1,024 bytes of
// UTF-8 with any content. Error messages shorten everything that a peer says to one line
// and escape what is not printable.
//
// # On the wire
//
// TCP does not tell an application what has arrived or why a connection was closed. The TLS
// connection therefore carries a sequence of records in each direction:
//
//	kind: 1 byte | length: 3 bytes, big-endian | that many bytes
//
//	0 data    1 to 65,536 bytes of the stream
//	1 credit  4 bytes, big-endian, not 0: the receiver may send that many more bytes of data
//	2 fin     empty: the sender sends no more data
//	3 ack     empty: all data before the fin has arrived
//	4 abort   8 bytes, big-endian: both halves of the stream are aborted with this code
//	5 close   8 bytes, big-endian: the connection is closed with this code; then up to
//	          1,024 bytes of UTF-8, the reason
//	6 alive   empty: the sender is alive
//
// Each side starts with credit for 262,144 bytes of data. Credit frames add to it, but
// never more than was sent. Each side sends something at least every 14 seconds. It
// considers the connection lost when nothing has arrived for 21 to 28 seconds.
//
// The side that closes sends its close record and ends its half of TLS and of TCP. It reads
// on, for a few seconds at most, until the peer ends its half too: closing a socket with
// unread data would reset the connection, and the peer could lose the code. Any deviation
// from these rules, and any other kind or length, is a protocol error, which closes the
// connection with code 2.
package tlsnet
