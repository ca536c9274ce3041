// Package websocket is a transport of irohub over WebSocket, so that browsers can be spokes.
// It is a module of its own because it requires a library. A hub's [Endpoint] is an
// http.Handler. Mount it in any server at any path, behind any reverse proxy that passes
// WebSocket on. The same key gives the same NodeID here and over the other transports.
//
// Use [New] to make an Endpoint, which [irohub.NewHub] serves and [irohub.Dial] dials with:
//
//	secret, err := key.LoadOrCreate("hub.key") // package irohub/key
//	…
//	ep, err := websocket.New(websocket.Options{
//		SecretKey: secret,
//		URLs:      []string{"wss://hub.example.org/events"},
//	})
//	…
//	defer ep.Close()
//	http.Handle("/events", ep)
//	hub, err := irohub.NewHub(irohub.HubOptions{}, ep)
//
// # What is trusted
//
// TLS and the certificates of the web prove the host. TLS ends at the server or at its proxy.
// Over WebSocket, both sides then prove their keys: each signs both NodeIDs, both nonces, the
// protocol, and the host that was dialled, as the dialling side knows it. The hub knows its own
// hosts ([Options].URLs) and refuses any other. So both sides refuse a man in the middle who has
// a certificate for another host and relays what they say. Whoever has the host's own
// certificate, such as the operator of its proxy, can read and change what passes through.
//
// [ErrIdentity] turns away the few Ed25519 keys for which anybody can forge signatures. Before
// a peer is authenticated, at most two of its messages are read, of at most 1,033 bytes each.
// Only the loopback can be dialled with ws://, which has no TLS.
//
// A browser says in the header Origin which page dials. Pages of the hub's own hosts and of
// [Options].Origins may connect. Other programs send no such header.
//
// # Connections
//
// A connection has one stream, which the side that dialled opens. Opening another is an
// error that wraps [errors.ErrUnsupported].
//
// Closing a connection gives the peer 5 seconds to receive the close, in the background. At
// most 1,024 closed connections wait like this; when there are more, the oldest is cut
// short. [Endpoint.Close] waits for all of them.
//
// A hub pings a quiet peer every 20 seconds, so that no proxy takes the connection for idle.
// Each side considers the connection lost when nothing has arrived for 30 to 40 seconds. The
// transport never closes a connection to a peer that is alive but does not read. Such a peer
// still receives a close, because at most 256 KiB are in flight to an application that does
// not read.
//
// Once a connection has ended, calls return a [*irohub.CloseError] if either side closed
// it, and otherwise an error that wraps [net.ErrClosed]. Data that arrived before the peer
// closed can still be read. The reason is text chosen by the peer: up to 1,024 bytes of
// UTF-8.
//
// docs/protocol.md has the handshake and the records, byte for byte.
package websocket
