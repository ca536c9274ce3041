// Package irohub is a publish/subscribe hub for applications that connect peer to peer
// over iroh, where every node is known by its Ed25519 key.
//
// A [Hub] accepts connections from spokes, keeps who is subscribed to which topic, and
// fans events out. Use [NewHub] to make one, and [Dial] to make a [Spoke]. Both work over
// any [Endpoint]: package irohub/iroh has the one that this is made for, irohub/tlsnet one
// over TLS that needs no native library, and irohub/irohubtest one in memory, for tests.
// Secret keys are irohub/key's. Spokes in other languages take part by the protocol in
// docs/protocol.md.
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
// Three kinds of goroutine, channels between them, and no lock:
//
//	stream ─► reader (one per spoke) ─┐                        ┌─► writer (one per spoke) ─► stream
//	                                  ├─► router (one per hub) ┤
//	Hub.Publish, Subscribe, … ────────┘   owns every map       └─► Subscription (in this process)
//
// A reader turns bytes into frames, checks them, and hands them to the router. The router
// alone knows the spokes and their subscriptions; it never waits for a spoke, a listener or
// the application. What a subscriber is to get, it puts into that subscriber's bounded queue,
// many events in one channel operation; the writer writes as much as is waiting in one
// call. An event is encoded once, events of one topic and sender that follow each other are
// joined to one piece, and all subscribers share its bytes.
//
// # Topics
//
// An event's topic is its Type, or Type:ID where it has an ID. A subscription names a whole
// topic, or T:* for every topic whose part before the first colon is T, the bare T included.
// The topic direct:<NodeID> is a node's mailbox: no other node may subscribe to it. Topics
// have 1 to 1,024 bytes of UTF-8 without control characters; those that begin with __ are
// the protocol's.
//
// # What is delivered
//
// Events are delivered at most once. What one publisher publishes reaches each subscriber in
// that order, each event whole and once, with no gap: a spoke whose connection is open has
// been sent every event of its topics since its subscription was acknowledged, and one that
// falls behind is disconnected, never skipped. In plain words: if you have heard of no
// disconnect, you have missed nothing.
//
// What is not promised: that events of different publishers come in the same order everywhere;
// that an event survives a lost connection, or comes before those that a Spoke publishes
// after it, over the next one; that a publisher learns who got its event (whether
// the hub did, Spoke.Flush and Spoke.Close say). A Spoke that reconnects has missed what was
// published meanwhile. Hub.Publish goes to
// spokes, not to the hub's own Subscriptions; a spoke's event goes to those, to other spokes
// only where HubOptions.Forward says so, and never back to its publisher. Event.From tells
// which node published; the hub has it from the connection's handshake, not from the spoke.
//
// # Slow subscribers
//
// The memory that waits for one subscriber is counted. Over MaxQueue (default 1 MiB) a spoke is
// disconnected with [CodeSlow], and a Subscription ends with it; nobody else notices. A single
// event larger than MaxQueue still goes to a subscriber with nothing waiting. A writer that
// makes no progress for the WriteTimeout (default 10 s) is cut off too.
//
// A publisher does not wait for subscribers. So whoever may publish to a topic can cut off
// who takes its events more slowly than they come: any spoke the hub's own Subscriptions,
// and one whose events are forwarded other spokes. Where publishers are strangers, set
// MaxEventRate and MaxByteRate, which hold back the reading of a spoke that sends more.
//
// # Goroutines and callbacks
//
// All methods may be called from any goroutine, but for ranging over one Subscription's
// Events, which is for one goroutine at a time. Callbacks about a spoke run on that spoke's
// reader, and so hold up its events alone; Admit runs on a goroutine of its connection; those
// of a Spoke run one after the other on a goroutine of their own, on which nothing else
// depends; where they do not keep up, the oldest calls are left out: of OnRefused beyond 16, of
// OnDisconnect and OnReconnect beyond 8 pairs, which still take turns. All may call any method
// of their Hub or Spoke. A panic in one is logged, and where it was asked for permission it counts as a no.
// Neither Shutdown nor Close waits for callbacks. Nothing waits for a Logger's handler: lines
// that it is too slow for are dropped, and the next one says how many.
//
// # Limits and trust
//
// A peer is bounded before it is known: in connections without a spoke, in streams and the
// size of the first frame, before anything is allocated for it, in nesting, in topics, in
// spokes per node and in all. What it asks for is done in turns with what others ask for, and
// charged by its cost. [HubOptions] lists the limits with their defaults; docs/security.md
// says what memory they add up to. What breaks the protocol closes the
// stream with [CodeProtocol] and harms nobody else. By default every node is admitted, may
// subscribe to every topic but others' mailboxes, and may publish to the hub alone: set Admit,
// AllowSubscribe, AllowPublish and Forward to say otherwise.
//
// # Errors
//
// Errors are to be tested for with errors.Is and errors.As: [ErrInvalid] for what the
// protocol does not allow, [ErrForbidden] and [ErrTooMany] for what a hub refuses,
// [ErrHubClosed] after the hub's end, [ErrUndelivered] for a Shutdown that lost something,
// and *[CloseError], which wraps net.ErrClosed, for why a
// connection, a Spoke or a Subscription was closed.
package irohub
