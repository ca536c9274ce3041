// Package irohub is a publish/subscribe hub for applications that connect peer to peer over iroh,
// where every node is known by its Ed25519 key.
//
// A [Hub] accepts connections from spokes, knows who is subscribed to which topic, and passes
// events on. Use [NewHub] to make one, and [Dial] to make a [Spoke]. Both work over any
// [Endpoint]. Package irohub/iroh has endpoints of iroh, irohub/tlsnet endpoints over TLS, which
// need no native library, and irohub/irohubtest endpoints in memory, for tests. A hub serves one
// endpoint or several. Secret keys are in irohub/key. Spokes in other languages follow the
// protocol in docs/protocol.md.
//
//	hub, err := irohub.NewHub(irohub.HubOptions{}, endpoint)
//	go hub.Serve(ctx)
//	hub.Publish(ctx, irohub.Event{Type: "message.sent", ID: "conv-123", Payload: payload})
//
//	spoke, err := irohub.Dial(ctx, otherEndpoint, addr, irohub.SpokeOptions{})
//	sub, err := spoke.Subscribe(ctx, "message.sent:conv-123")
//	for event := range sub.Events() {
//		fmt.Println(event.Type, event.ID, string(event.Payload))
//	}
//	err = sub.Err()
//
// # How it works
//
// Events pass three kinds of goroutine, with channels between them and no lock:
//
//	stream ─► reader (one per spoke) ─┐                        ┌─► writer (one per spoke) ─► stream
//	                                  ├─► router (one per hub) ┤
//	Hub.Publish, Subscribe, … ────────┘   owns every map       └─► Subscription (in this process)
//
// A reader turns bytes into frames, checks them, and hands them to the router. The router alone
// knows the spokes and their subscriptions. It never waits for a spoke, a listener or the
// application: it puts each event into the bounded queue of each subscriber. A writer writes all
// that is waiting in one call. An event is encoded once, and all subscribers share its bytes.
// docs/architecture.md says more.
//
// # Topics
//
// An event's topic is its Type, or Type:ID if it has an ID. A subscription names a whole topic, or
// T:* for every topic whose part before the first colon is T, the bare T included. The topic
// direct:<NodeID> is a node's mailbox: no other node may subscribe to it. A topic has 1 to 1,024
// bytes of UTF-8 without control characters. Topics that begin with __ are reserved.
//
// # What is delivered
//
// Events are delivered at most once. The events of one publisher reach each subscriber in the
// order in which they were published, each event whole and once, with no gap. While its
// connection is open, a spoke gets every event of its topics from the acknowledgement of its
// subscription on. A spoke that falls behind is disconnected; the hub never skips events for it.
// In plain words: if you have heard of no disconnect, you have missed nothing.
//
// Three things are not promised. Events of different publishers may come in a different order at
// each subscriber. An event in transit when a connection is lost may be lost; if it is not, it may
// arrive after events that its Spoke publishes over the next connection. A publisher does not
// learn who got its event; Spoke.Flush and Spoke.Close say whether the hub did.
//
// A Spoke that reconnects has missed what was published meanwhile. An event of Hub.Publish goes to
// spokes, not to the hub's Subscriptions. An event of a spoke goes to the hub's Subscriptions and,
// if HubOptions.Forward says so, to other spokes. The handshake proves the NodeID in Event.From.
//
// # Slow subscribers
//
// The memory that waits for each subscriber is counted. Over MaxQueue (default 1 MiB) a spoke is
// disconnected with [CodeSlow], and a Subscription ends with it. Nobody else notices. A single
// event larger than MaxQueue still goes to a subscriber with nothing waiting. A spoke whose writer
// makes no progress for the WriteTimeout (default 10 s) is disconnected too.
//
// A publisher does not wait for subscribers. So a fast publisher can cause slower subscribers to
// be cut off: any spoke the hub's own Subscriptions, and a spoke with forwarded events also other
// spokes. If you do not trust the publishers, set MaxEventRate and MaxByteRate. The hub then reads
// more slowly from a spoke that exceeds them.
//
// # Goroutines and callbacks
//
// All methods may be called from any goroutine, but one Subscription's Events may be ranged over
// by one goroutine at a time. A Hub's callbacks about a spoke run on that spoke's reader, and so
// delay that spoke's events alone. Admit runs on a goroutine of its connection. A Spoke's
// callbacks run one after the other on a goroutine of their own, which nothing else waits for. If
// they do not keep up, the oldest calls are dropped, as [SpokeOptions] says. All callbacks may
// call any method of their Hub or Spoke. A panic in a callback is logged; a callback that was
// asked for permission has then refused. Shutdown and Close do not wait for callbacks. Nothing
// waits for a Logger's handler: lines that come too fast for it are dropped and counted.
//
// # Limits and trust
//
// What a peer can make a hub hold is bounded from its first byte on: connections without a spoke,
// streams, the size of the first frame, nesting, topics, and spokes, per node and in all. A
// frame's size is checked before memory is allocated for it. The hub works on requests in turns,
// and charges each by its cost. [HubOptions] lists the limits with their defaults, and
// docs/security.md says how much memory they add up to. A peer that breaks the protocol loses its
// stream, with [CodeProtocol], and harms nobody else. By default every node is admitted, may
// subscribe to every topic but others' mailboxes, and may publish to the hub alone. Set Admit,
// AllowSubscribe, AllowPublish and Forward to change that.
//
// # Errors
//
// Test errors with errors.Is and errors.As. [ErrInvalid] is what the protocol does not allow.
// [ErrForbidden] and [ErrTooMany] are a hub's refusals. [ErrHubClosed] comes after the hub's end,
// and [ErrUndelivered] from a Shutdown that lost something. A *[CloseError] says why a connection,
// a Spoke or a Subscription was closed; it wraps net.ErrClosed.
package irohub
