package irohub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"

	"irohub/internal/words"
)

// ALPN is the protocol name that a transport negotiates in its handshake.
// Transports use it unless their options name another.
const ALPN = "alkpubsub/1"

// A NodeID is a node's Ed25519 public key. The transport's handshake verifies
// that the node has the secret key. A NodeID prints as 64 lower-case hex digits.
type NodeID [32]byte

// ParseNodeID reads the 64 hex digits that [NodeID.String] prints. It also accepts them in upper
// case.
func ParseNodeID(s string) (NodeID, error) {
	var id NodeID
	if len(s) != hex.EncodedLen(len(id)) {
		return NodeID{}, fmt.Errorf("irohub: a NodeID has 64 hex digits, not %d characters", len(s))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return NodeID{}, fmt.Errorf("irohub: a NodeID has 64 hex digits: %w", err)
	}
	return id, nil
}

func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the 64 hex digits, for JSON, flags and logs.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText parses the form that MarshalText writes.
func (id *NodeID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseNodeID(string(text))
	return err
}

// An Addr says who a node is and where it can be reached.
type Addr struct {
	ID    NodeID
	Hosts []string // host:port or a URL, tried in any order; each transport documents the forms it accepts
	Relay string   // the URL of the node's relay server; empty: none
}

// ParseAddr parses the form that [Addr.String] prints: NODEID or
// NODEID@HOST:PORT[,HOST:PORT]…. A URL can take the place of HOST:PORT; the transport
// checks what is in it. ParseAddr does not resolve host names.
func ParseAddr(s string) (Addr, error) {
	node, hosts, found := strings.Cut(s, "@")
	id, err := ParseNodeID(node)
	if err != nil {
		return Addr{}, err
	}
	addr := Addr{ID: id}
	if !found {
		return addr, nil
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil && !strings.Contains(host, "://") {
			return Addr{}, fmt.Errorf("irohub: %q is not HOST:PORT: %w", host, err)
		}
		addr.Hosts = append(addr.Hosts, host)
	}
	return addr, nil
}

// String returns the NodeID and the hosts in the form that ParseAddr parses. It omits
// the relay.
func (a Addr) String() string {
	if len(a.Hosts) == 0 {
		return a.ID.String()
	}
	return a.ID.String() + "@" + strings.Join(a.Hosts, ",")
}

// An Endpoint is this node's access to a network over some transport. A [Hub] accepts
// connections from it, and [Dial] dials with it. Hubs and spokes never close an endpoint: its
// creator does, after closing them. Its methods may be called from several goroutines.
type Endpoint interface {
	// ID is the endpoint's own NodeID.
	ID() NodeID

	// Addr says where other nodes can reach the endpoint. It has no Hosts if the endpoint
	// only dials or is closed. Addr may be called at any time and does not block.
	Addr() Addr

	// Accept waits for the next peer that wants to connect. It does no work
	// for that peer, so that no peer can delay the next. Once the endpoint is
	// closed, Accept returns at once, with an error that wraps net.ErrClosed.
	//
	// An error is temporary if it has a method Temporary() bool that returns true. The
	// endpoint then cannot accept peers for now, for instance because it lacks descriptors or
	// memory. It keeps trying at its own intervals, and the caller may call Accept again. The
	// endpoint returns such an error only once until it has accepted a peer, so that a caller
	// in a loop does not spin. Any other error means that ctx has ended or that the endpoint
	// accepts no more.
	Accept(ctx context.Context) (Incoming, error)

	// Dial connects to the node at addr. It fails if a node with another
	// NodeID answers. When ctx ends, Dial returns at once, and the endpoint cleans up in the
	// background. Once the endpoint is closed, Dial returns at once, with an error that
	// wraps net.ErrClosed.
	Dial(ctx context.Context, addr Addr) (Conn, error)

	// Close closes the endpoint and all its connections. Further calls do nothing.
	Close() error
}

// isNil reports whether ep is nil or holds a nil pointer. A caller that ignores an error of
// Bind has such a pointer.
func isNil(ep Endpoint) bool {
	v := reflect.ValueOf(ep)
	return ep == nil || v.Kind() == reflect.Pointer && v.IsNil()
}

// An Incoming is a peer that wants to connect. Its NodeID is not known yet.
// The caller calls either Handshake or Refuse, once.
type Incoming interface {
	// RemoteAddr is the source address of the peer's first packet: IP:PORT, if the
	// transport has such addresses. Use it for logs only, since the sender of a packet can
	// forge it. RemoteAddr never blocks and may be called at any time.
	RemoteAddr() string

	// Handshake waits until the peer has proven its NodeID. When ctx ends
	// first, Handshake refuses the peer.
	Handshake(ctx context.Context) (Conn, error)

	// Refuse rejects the peer at the lowest cost.
	Refuse()
}

// A Conn is a connection to one node. Its methods may be called from several
// goroutines. When either side closes the connection, blocked calls return an error that
// wraps a *[CloseError].
type Conn interface {
	// RemoteID is the peer's verified NodeID.
	RemoteID() NodeID

	// OpenStream opens a stream. Only the side that dialled calls it. The peer does not see
	// the stream before the first Write. If the transport allows one stream per connection,
	// further calls return an error that wraps errors.ErrUnsupported.
	OpenStream(ctx context.Context) (Stream, error)

	// AcceptStream waits for a stream that the peer opened. Before the first call, one stream
	// of the peer may wait to be accepted; the transport aborts further ones with CodeTooMany.
	// On the side that dialled, the transport aborts every stream of the peer with
	// CodeProtocol, and AcceptStream waits until the connection ends.
	AcceptStream(ctx context.Context) (Stream, error)

	// Close closes the connection and all its streams at once. Data that the peer has not
	// acknowledged is lost. The peer sees code and reason. Close never
	// blocks. Further calls do nothing.
	Close(code uint64, reason string)

	// Wait waits until the connection has ended and says why.
	Wait(ctx context.Context) error
}

// A Stream carries bytes both ways, in order. One goroutine may read while
// another writes. When ctx ends during a call, data may have been lost or sent in
// part. The caller can then only Abort the stream.
type Stream interface {
	// Read waits for at least one byte and returns the bytes that have arrived, at most
	// len(p). It returns io.EOF once the peer has closed its sending half and
	// all earlier bytes have been read. After the peer has closed the connection, Read still
	// returns the bytes and the io.EOF that arrived before. After this side has closed the
	// connection, or the connection was lost, they may be lost too.
	Read(ctx context.Context, p []byte) (int, error)

	// Write returns once the transport has taken all of p. The transport does not keep p.
	// When the peer aborts the stream or stops reading it, Write and CloseWrite return a
	// *CloseError with the peer's code at once. Later calls do so too.
	Write(ctx context.Context, p []byte) (int, error)

	// CloseWrite closes the sending half and waits until the peer has
	// acknowledged all written bytes.
	CloseWrite(ctx context.Context) error

	// Abort ends both halves at once. The peer sees code, unless the connection has already
	// ended. Abort never blocks, and calls that are blocked return. Any goroutine may call it.
	// Every stream must be aborted at its end, so that the transport can free its resources.
	Abort(code uint64)
}

// The codes with which a hub or a spoke closes a connection, or one of its
// streams. Code 0 is a normal end.
const (
	CodeShutdown  = 1 // the hub is shutting down
	CodeProtocol  = 2 // the peer broke the protocol
	CodeForbidden = 3 // the NodeID is not admitted
	CodeSlow      = 4 // too many bytes were queued for the receiver
	CodeTooMany   = 5 // over a limit on connections, spokes or streams; or replaced by a newer spoke of the same NodeID
	CodeTimeout   = 6 // no whole frame in time, or no progress in writing
)

// A CloseError says why a connection, a stream, a [Spoke] or a [Subscription] was
// closed. It wraps net.ErrClosed.
type CloseError struct {
	Code   uint64
	Reason string // a text for people, from this side or the peer; may be empty; not sanitized
}

// Error returns the code's name and the first bytes of the reason. It escapes unprintable
// characters.
func (e *CloseError) Error() string {
	name := fmt.Sprintf("code %d", e.Code)
	if e.Code < uint64(len(codeNames)) {
		name = codeNames[e.Code]
	}
	if e.Reason == "" || e.Reason == name {
		return "irohub: closed: " + name
	}
	return "irohub: closed: " + name + ": " + words.Printable(e.Reason)
}

var codeNames = [...]string{
	0:             "normal end",
	CodeShutdown:  "shutting down",
	CodeProtocol:  "protocol error",
	CodeForbidden: "forbidden",
	CodeSlow:      "too slow",
	CodeTooMany:   "over a limit",
	CodeTimeout:   "timeout",
}

// Unwrap lets errors.Is find net.ErrClosed.
func (e *CloseError) Unwrap() error { return net.ErrClosed }

// closeError returns the *CloseError that err wraps, or nil.
func closeError(err error) *CloseError {
	ce, _ := errors.AsType[*CloseError](err)
	return ce
}

// reasonOf returns the attributes with which a log line gives the reason of an end. A normal end
// has none.
func reasonOf(err error) []any {
	if end := closeError(err); end != nil && end.Code == 0 {
		return nil
	}
	return []any{"err", err}
}
