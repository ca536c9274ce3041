// Package tlsnet is a transport of irohub that needs the standard library alone: TCP with
// TLS 1.3, both sides of which prove an Ed25519 key. It works without cgo, wherever Go
// does. It has the identities of irohub/iroh, by the same keys, but neither finds its way
// through a NAT nor to a node whose address is not known.
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
// Each side shows a certificate of its key, which it has signed itself and made in memory.
// The handshake proves that the peer has the secret key; that key is its NodeID, and the
// dialler goes on only if it is the one that it has dialled. Nothing else in the
// certificate is looked at: no name, no date, no signer. A peer that shows none, several,
// or one of another kind of key is turned away ([ErrIdentity]), and so is one of the few
// Ed25519 keys that verify what anybody has signed. Only TLS 1.3 is spoken, with the ALPN
// that both sides are set to, without session tickets, resumption or early data. Of a peer
// that is not known yet, 16 KiB are read at the most.
//
// # Connections
//
// A connection has one stream, which the side that dialled opens; to open another is an
// error that wraps [errors.ErrUnsupported]. Closing gives the peer 5 seconds to learn of
// it, in the background, but waits for 1,024 peers at once at the most, the latest;
// [Endpoint.Close] waits for all. A connection that the application forgets stays open
// until the endpoint is closed. A peer that vanishes is noticed within 30 seconds; one
// that stays but does not read never is, by the transport. It hears of a close all the
// same, because 256 KiB at most are on their way to an application that does not read.
//
// Once a connection has ended, calls return a [*irohub.CloseError] with the code of whoever
// closed it, or else an error that wraps [net.ErrClosed]. What has arrived before the peer
// closed can still be read. A reason is the peer's text, up to 1,024 bytes of UTF-8: it may
// hold anything. What an error prints of it, or of anything else that a peer says, is shorter,
// on one line, and has escapes for what is not printable.
//
// # On the wire
//
// TCP tells an application neither what has arrived nor why a connection was closed. So
// what goes through TLS, each way, is a sequence of records:
//
//	kind: 1 byte | length: 3 bytes, big-endian | so many bytes
//
//	0 data    1 to 65,536 bytes of the stream
//	1 credit  4 bytes, big-endian, not 0: so many more bytes of data may come
//	2 fin     nothing: there is no more data from here
//	3 ack     nothing: all that was before the fin has arrived
//	4 abort   8 bytes, big-endian: both halves of the stream are given up, with this code
//	5 close   8 bytes, big-endian: the connection is closed with this code; then up to
//	          1,024 bytes of UTF-8, the reason
//	6 alive   nothing: the sender is there
//
// Each side may send 262,144 bytes of data at first, and as much again as it is given
// credit for, which is never more than it has sent. Each sends something every 14 seconds
// at the least, and takes the connection for lost when nothing has come for 21 to 28
// seconds. Who closes sends its close and ends its half of TLS and of TCP, but reads on
// until the other ends too, for some seconds at most: closing a socket with something
// unread in it would take the code away from the peer. Anything that is not so, and any
// other kind or length, is a protocol error, which closes the connection with code 2.
package tlsnet
