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

// ALPN is the protocol's name in a transport's handshake. Transports use it
// unless they are told another.
const ALPN = "alkpubsub/1"

// A NodeID is a node's Ed25519 public key, which the transport's handshake has
// verified. It is printed as 64 lower-case hex digits.
type NodeID [32]byte

// ParseNodeID reads the 64 hex digits that [NodeID.String] prints.
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

// MarshalText makes a NodeID readable in JSON, in flags and in logs.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *NodeID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseNodeID(string(text))
	return err
}

// An Addr says who a node is and where it may be found.
type Addr struct {
	ID    NodeID
	Hosts []string // host:port, tried in any order; the transport says which forms it takes
	Relay string   // the URL of the node's relay server; empty: none
}

// ParseAddr reads NODEID or NODEID@HOST:PORT[,HOST:PORT]…, which [Addr.String]
// prints. It looks no name up.
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
		if _, _, err := net.SplitHostPort(host); err != nil {
			return Addr{}, fmt.Errorf("irohub: %q is not HOST:PORT: %w", host, err)
		}
		addr.Hosts = append(addr.Hosts, host)
	}
	return addr, nil
}

// String prints the NodeID and the hosts, as ParseAddr reads them; the relay is
// left out.
func (a Addr) String() string {
	if len(a.Hosts) == 0 {
		return a.ID.String()
	}
	return a.ID.String() + "@" + strings.Join(a.Hosts, ",")
}

// An Endpoint is this node's place in a network, over whichever transport: what a [Hub]
// accepts from and what [Dial] dials with. Whoever made it closes it, after the hubs and
// spokes that use it; these never do. Its methods may be called from several goroutines.
type Endpoint interface {
	// ID is the endpoint's own NodeID.
	ID() NodeID

	// Addr says where others can reach the endpoint; no Hosts: it only dials, or is closed.
	// It may be called at any time, and does not wait for the network.
	Addr() Addr

	// Accept waits for the next peer that wants to connect. It does no work
	// for that peer, so that no peer can delay the next. Once the endpoint is
	// closed, it returns at once an error that wraps net.ErrClosed. An error with a method
	// Temporary() bool that returns true says that for now no peer can be accepted, for
	// want of descriptors or memory for instance: the endpoint goes on trying, at intervals
	// of its own, and the caller may call again. It is returned once until a peer has been
	// accepted again, so that a caller that loops does not spin. Any other error is
	// the end of accepting, or ctx's.
	Accept(ctx context.Context) (Incoming, error)

	// Dial connects to the node at addr and fails if a node of another
	// NodeID answers. When ctx ends it returns at once, and leaves to the endpoint what is
	// to be cleared away. Once the endpoint is closed, it returns at once an error that
	// wraps net.ErrClosed.
	Dial(ctx context.Context, addr Addr) (Conn, error)

	// Close ends the endpoint and all its connections. All calls but the first do nothing.
	Close() error
}

// isNil says whether an endpoint is missing, also where it is a pointer of some type: a
// caller that has not looked at Bind's error has such.
func isNil(ep Endpoint) bool {
	v := reflect.ValueOf(ep)
	return ep == nil || v.Kind() == reflect.Pointer && v.IsNil()
}

// An Incoming is a peer that wants to connect. Nothing is known of it yet.
// Either Handshake or Refuse is called, once.
type Incoming interface {
	// RemoteAddr says where the peer's first packet came from, IP:PORT where the
	// transport has such. It is for logs and for people: anybody can write another
	// address on a packet. It never blocks, and may be called at any time.
	RemoteAddr() string

	// Handshake waits until the peer has proven its NodeID. When ctx ends
	// first, the peer is turned away.
	Handshake(ctx context.Context) (Conn, error)

	// Refuse turns the peer away at the least cost.
	Refuse()
}

// A Conn is a connection to one node. Its methods may be called from several
// goroutines. When either side closes it, calls that wait end with an error that
// wraps a *[CloseError].
type Conn interface {
	// RemoteID is the peer's verified NodeID.
	RemoteID() NodeID

	// OpenStream opens a stream; the side that dialled does. The peer does not see it
	// before the first Write. Where a connection has one stream alone, the error of any other
	// call wraps errors.ErrUnsupported.
	OpenStream(ctx context.Context) (Stream, error)

	// AcceptStream waits for a stream that the peer opened. Until it is first called, one
	// stream of the peer waits to be accepted, and no others: these are aborted with
	// CodeTooMany as they come. On the side that dialled, all are aborted with CodeProtocol,
	// and AcceptStream waits for the connection's end.
	AcceptStream(ctx context.Context) (Stream, error)

	// Close ends the connection and all its streams at once; what is not
	// acknowledged yet is lost. The peer sees code and reason. It never
	// blocks; all calls but the first do nothing.
	Close(code uint64, reason string)

	// Wait waits until the connection has ended and says why.
	Wait(ctx context.Context) error
}

// A Stream carries bytes both ways, in order. One goroutine may read while
// another writes. When ctx ends during a call, data may have been lost or sent in
// part: the stream is then good only for Abort.
type Stream interface {
	// Read waits for at least one byte and returns what is there, at most
	// len(p). It returns io.EOF once the peer has closed its sending half and
	// all before that was read. Bytes and an end that had arrived when the peer closed the
	// connection can still be read; a connection that this side closed, or that was lost,
	// may lose them.
	Read(ctx context.Context, p []byte) (int, error)

	// Write returns once the transport has taken all of p, which it does not keep. When
	// the peer aborts the stream, or just wants no more of it, calls of Write and CloseWrite
	// that wait return a *CloseError with its code at once, and so do later ones.
	Write(ctx context.Context, p []byte) (int, error)

	// CloseWrite ends the sending half and waits until the peer has
	// acknowledged all that was written.
	CloseWrite(ctx context.Context) error

	// Abort gives up both halves at once; the peer sees code, unless the connection has ended
	// before. It never blocks, and calls that wait end. Any goroutine may call it. It is called
	// at the end of every stream, so that what is kept for it can go.
	Abort(code uint64)
}

// The codes with which a hub or a spoke closes a connection, or one stream of
// several. 0 is an end on purpose.
const (
	CodeShutdown  = 1 // the hub is shutting down
	CodeProtocol  = 2 // what came is not this protocol
	CodeForbidden = 3 // the NodeID is not admitted
	CodeSlow      = 4 // too many bytes were waiting to be taken
	CodeTooMany   = 5 // too many spokes, or replaced by a newer one of the same NodeID
	CodeTimeout   = 6 // no whole frame in time, or no progress in writing
)

// A CloseError says with which code a connection, a stream, a [Spoke] or a
// [Subscription] was closed. It wraps net.ErrClosed.
type CloseError struct {
	Code   uint64
	Reason string // words for people, the peer's or this side's; may be empty, or hold anything
}

// Error shows the beginning of the reason, with escapes for what is not printable.
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
	CodeTooMany:   "too many",
	CodeTimeout:   "timeout",
}

// Unwrap lets errors.Is find net.ErrClosed.
func (e *CloseError) Unwrap() error { return net.ErrClosed }

// closeError finds the close code in err; nil where there is none.
func closeError(err error) *CloseError {
	ce, _ := errors.AsType[*CloseError](err)
	return ce
}

// reasonOf is what a log line about an end says of its reason: of an end on purpose, nothing.
func reasonOf(err error) []any {
	if end := closeError(err); end != nil && end.Code == 0 {
		return nil
	}
	return []any{"err", err}
}
