// Package records has what the transports share that carry a connection with one stream over
// bytes or messages: the kinds of records, their sizes, and the rules for the two halves of
// the stream.
package records

import (
	"errors"
	"fmt"
)

// A Kind is the type of a record. docs/protocol.md describes them all.
type Kind byte

const (
	Data   Kind = iota // 1 to MaxData bytes of the stream
	Credit             // 4 bytes: how many more bytes of data may be sent
	Fin                // empty: the sender's half of the stream ends here
	Ack                // empty: all data up to the receiver's fin has arrived
	Abort              // 8 bytes: the stream is aborted with this code
	Close              // 8 bytes of code, then up to MaxReason bytes of text
	Alive              // empty: the sender is alive
	Kinds
)

const (
	MaxData   = 64 << 10
	MaxReason = 1 << 10

	// Window is how many bytes of data a side may send before it gets credit. The receiver
	// buffers that much for an application that does not read. Data never arrives without
	// credit, so the reader never leaves anything in the socket. It therefore sees a close
	// or a dead peer, whatever the application does.
	Window = 256 << 10
)

// sizes are the minimum and maximum number of bytes in a record, without its kind and length.
var sizes = [Kinds]struct{ min, max int }{
	Data:   {1, MaxData},
	Credit: {4, 4},
	Abort:  {8, 8},
	Close:  {8, 8 + MaxReason},
}

// Err is wrapped by every protocol error of a peer.
var Err = errors.New("invalid record")

// Check returns an error unless a record of this kind may have n bytes.
func (k Kind) Check(n int) error {
	if k >= Kinds {
		return fmt.Errorf("%w: a record of the unknown kind %d", Err, k)
	}
	if n < sizes[k].min || n > sizes[k].max {
		return fmt.Errorf("%w: a record of kind %d with %d bytes", Err, k, n)
	}
	return nil
}

// Max returns the maximum number of bytes in a record of this kind, and 0 for an unknown kind.
func (k Kind) Max() int {
	if k >= Kinds {
		return 0
	}
	return sizes[k].max
}

// An Inbound is the receiving half of a stream. Its owner's lock guards it, except for the
// space of the queue that is being filled.
type Inbound struct {
	Queue
	window int  // bytes that the peer has sent without new credit
	owed   int  // bytes read for which the peer has no credit yet
	ended  bool // the peer's fin has arrived
}

// Arrive is called before n bytes of data are put into the queue.
func (in *Inbound) Arrive(n int) error {
	in.window += n
	switch {
	case in.ended:
		return fmt.Errorf("%w: data after the end of the stream", Err)
	case in.window > Window:
		return fmt.Errorf("%w: data without credit", Err)
	}
	return nil
}

// Read moves bytes from the queue to p. credit is what the peer must be sent for them.
func (in *Inbound) Read(p []byte) (n, credit int) {
	n = in.Take(p)
	in.owed += n
	if in.owed < Window/2 || in.ended {
		return n, 0
	}
	credit, in.owed = in.owed, 0
	in.window -= credit
	return n, credit
}

// End is called when the peer's fin has arrived.
func (in *Inbound) End() error {
	if in.ended {
		return fmt.Errorf("%w: the stream ends twice", Err)
	}
	in.ended = true
	return nil
}

// Ended reports whether the peer's fin has arrived.
func (in *Inbound) Ended() bool { return in.ended }

// An Outbound is the sending half of a stream. Its owner's lock guards it. The zero value may
// send Window bytes.
type Outbound struct {
	used    int  // bytes sent without new credit
	finSent bool // an acknowledgement is valid from then on
	acked   bool
}

// Claim returns how many of n bytes may be sent, and counts them as sent.
func (out *Outbound) Claim(n int) int {
	n = min(n, Window-out.used)
	out.used += n
	return n
}

// GiveBack notes that n claimed bytes were not sent.
func (out *Outbound) GiveBack(n int) { out.used -= n }

// Credited is called for the peer's credit, which must not exceed what was sent.
func (out *Outbound) Credited(n uint32) error {
	if n == 0 || n > uint32(out.used) {
		return fmt.Errorf("%w: credit for %d bytes", Err, n)
	}
	out.used -= int(n)
	return nil
}

// Finish is called before the fin is sent.
func (out *Outbound) Finish() { out.finSent = true }

// FinSent reports whether the fin was sent.
func (out *Outbound) FinSent() bool { return out.finSent }

// Acknowledged is called when the peer has acknowledged the fin.
func (out *Outbound) Acknowledged() error {
	if !out.finSent || out.acked {
		return fmt.Errorf("%w: an acknowledgement without a fin", Err)
	}
	out.acked = true
	return nil
}

// Acked reports whether the peer has acknowledged the fin.
func (out *Outbound) Acked() bool { return out.acked }
