package tlsnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A kind is the type of a record. The package documentation describes them all.
type kind byte

const (
	kindData   kind = iota // 1 to maxData bytes of the stream
	kindCredit             // 4 bytes: how many more bytes of data may be sent
	kindFin                // empty: the sender's half of the stream ends here
	kindAck                // empty: all data up to the receiver's fin has arrived
	kindAbort              // 8 bytes: the stream is aborted with this code
	kindClose              // 8 bytes of code, then up to maxReason bytes of text
	kindAlive              // empty: the sender is alive
	kinds
)

const (
	headerSize = 4
	maxData    = 64 << 10
	maxReason  = 1 << 10

	// window is how many bytes of data a side may send before it gets credit. The receiver
	// buffers that much for an application that does not read. Data never arrives without
	// credit, so the reader never leaves anything in the socket. It therefore sees a close
	// or a dead peer, whatever the application does.
	window = 256 << 10
)

// sizes are the minimum and maximum number of bytes after a record's header.
var sizes = [kinds]struct{ min, max int }{
	kindData:   {1, maxData},
	kindCredit: {4, 4},
	kindAbort:  {8, 8},
	kindClose:  {8, 8 + maxReason},
}

// A header is a kind and a length, in one big-endian word.
type header [headerSize]byte

func newHeader(k kind, n int) (h header) {
	binary.BigEndian.PutUint32(h[:], uint32(k)<<24|uint32(n))
	return h
}

// parse checks the length too, before memory of that size is allocated.
func (h header) parse() (k kind, n int, err error) {
	word := binary.BigEndian.Uint32(h[:])
	k, n = kind(word>>24), int(word&(1<<24-1))
	if k >= kinds {
		return k, n, fmt.Errorf("%w: a record of the unknown kind %d", errRecord, k)
	}
	if n < sizes[k].min || n > sizes[k].max {
		return k, n, fmt.Errorf("%w: a record of kind %d with %d bytes", errRecord, k, n)
	}
	return k, n, nil
}

// errRecord is wrapped by every protocol error of a peer.
var errRecord = errors.New("invalid record")

func appendCredit(p []byte, n int) []byte {
	h := newHeader(kindCredit, 4)
	return binary.BigEndian.AppendUint32(append(p, h[:]...), uint32(n))
}

func appendAbort(p []byte, code uint64) []byte {
	h := newHeader(kindAbort, 8)
	return binary.BigEndian.AppendUint64(append(p, h[:]...), code)
}

func appendClose(p []byte, code uint64, reason string) []byte {
	h := newHeader(kindClose, 8+len(reason))
	return append(binary.BigEndian.AppendUint64(append(p, h[:]...), code), reason...)
}

func appendEmpty(p []byte, k kind) []byte {
	h := newHeader(k, 0)
	return append(p, h[:]...)
}

// A receiver handles the records that a recordReader reads. If a method returns an error,
// reading ends with it.
type receiver interface {
	// data reads n bytes from r.
	data(r io.Reader, n int) error
	credit(n uint32) error
	fin() error
	ack() error
	abort(code uint64) error
	closed(code uint64, reason string) error
}

// A recordReader reads records.
type recordReader struct {
	r    io.Reader
	head header // a field: as a local variable it would be allocated for each record
	body [8]byte
}

// next reads one record and passes it to the receiver.
func (r *recordReader) next(to receiver) error {
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return err
	}
	k, n, err := r.head.parse()
	if err != nil {
		return err
	}
	if k == kindData {
		return to.data(r.r, n)
	}
	fixed := r.body[:min(n, len(r.body))]
	if _, err := io.ReadFull(r.r, fixed); err != nil {
		return unexpected(err)
	}
	switch k {
	case kindCredit:
		return to.credit(binary.BigEndian.Uint32(fixed))
	case kindFin:
		return to.fin()
	case kindAck:
		return to.ack()
	case kindAbort:
		return to.abort(binary.BigEndian.Uint64(fixed))
	case kindClose:
		reason := make([]byte, n-len(fixed))
		if _, err := io.ReadFull(r.r, reason); err != nil {
			return unexpected(err)
		}
		return to.closed(binary.BigEndian.Uint64(fixed), string(reason))
	default: // kindAlive: there is nothing to do
		return nil
	}
}

// unexpected returns the error for a connection that ends inside a record.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
