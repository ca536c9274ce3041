package tlsnet

import (
	"encoding/binary"
	"io"

	"irohub/internal/records"
)

const headerSize = 4

// A header is a kind and a length, in one big-endian word.
type header [headerSize]byte

func newHeader(k records.Kind, n int) (h header) {
	binary.BigEndian.PutUint32(h[:], uint32(k)<<24|uint32(n))
	return h
}

// parse checks the length too, before memory of that size is allocated.
func (h header) parse() (k records.Kind, n int, err error) {
	word := binary.BigEndian.Uint32(h[:])
	k, n = records.Kind(word>>24), int(word&(1<<24-1))
	return k, n, k.Check(n)
}

func appendCredit(p []byte, n int) []byte {
	h := newHeader(records.Credit, 4)
	return binary.BigEndian.AppendUint32(append(p, h[:]...), uint32(n))
}

func appendAbort(p []byte, code uint64) []byte {
	h := newHeader(records.Abort, 8)
	return binary.BigEndian.AppendUint64(append(p, h[:]...), code)
}

func appendClose(p []byte, code uint64, reason string) []byte {
	h := newHeader(records.Close, 8+len(reason))
	return append(binary.BigEndian.AppendUint64(append(p, h[:]...), code), reason...)
}

func appendEmpty(p []byte, k records.Kind) []byte {
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
	if k == records.Data {
		return to.data(r.r, n)
	}
	fixed := r.body[:min(n, len(r.body))]
	if _, err := io.ReadFull(r.r, fixed); err != nil {
		return unexpected(err)
	}
	switch k {
	case records.Credit:
		return to.credit(binary.BigEndian.Uint32(fixed))
	case records.Fin:
		return to.fin()
	case records.Ack:
		return to.ack()
	case records.Abort:
		return to.abort(binary.BigEndian.Uint64(fixed))
	case records.Close:
		reason := make([]byte, n-len(fixed))
		if _, err := io.ReadFull(r.r, reason); err != nil {
			return unexpected(err)
		}
		return to.closed(binary.BigEndian.Uint64(fixed), string(reason))
	default: // records.Alive: there is nothing to do
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
