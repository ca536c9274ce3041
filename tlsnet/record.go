package tlsnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A kind says what a record is. The package's documentation describes them all.
type kind byte

const (
	kindData   kind = iota // 1 to maxData bytes of the stream
	kindCredit             // 4 bytes: so many more bytes of data may be sent
	kindFin                // nothing: the sender's half of the stream ends here
	kindAck                // nothing: all up to the receiver's fin has arrived
	kindAbort              // 8 bytes: the stream is given up with this code
	kindClose              // 8 bytes of code, and up to maxReason of words
	kindAlive              // nothing: the sender is still there
	kinds
)

const (
	headerSize = 4
	maxData    = 64 << 10
	maxReason  = 1 << 10

	// window is how many bytes of data a side may send before it has been given credit:
	// what the other keeps for an application that does not read. As data never comes
	// without credit, the reader never has to leave anything in the socket, and so sees a
	// close, or that the peer is dead, whatever the application does.
	window = 256 << 10
)

// sizes are the least and the most bytes that a record has behind its header.
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

// parse checks the length too, before anything is made of that size.
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

// errRecord is what a peer breaks the protocol with.
var errRecord = errors.New("not as the record layer has it")

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

// A receiver is given what a record reader reads. An error of its ends the reading.
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
	head header // here, because what is given to an io.Reader is allocated
	body [8]byte
}

// next reads one record and gives it to the receiver.
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
	default: // kindAlive: that it came is all
		return nil
	}
}

// unexpected is for an end inside a record.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
