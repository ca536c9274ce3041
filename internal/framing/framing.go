// Package framing cuts a stream of bytes into frames: each has its length before it, as four
// bytes, big-endian. It knows nothing of what is in them.
package framing

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

const (
	HeaderSize = 4        // of the length before a frame
	MaxBuffer  = 64 << 10 // what one read asks for at most
	minBuffer  = 1 << 10  // what a reader holds that is quiet
)

// readBuffers are borrowed by readers that have more to read than their small buffer takes:
// of 4, 16 and 64 KiB.
var readBuffers [3]sync.Pool

// A SizeError says that a frame has no byte, or more than it may have.
type SizeError struct {
	Size uint32
	Max  int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("a frame of %d bytes; 1 to %d are allowed", e.Size, e.Max)
}

// A Reader cuts the bytes of a stream into frames. Its buffer grows as bytes
// arrive, never because a peer said how many it would send. While it waits for more, and
// has none of a frame, it holds a small one.
type Reader struct {
	Read func([]byte) (int, error)
	Max  int // bytes that a frame may have; it can be changed between calls

	buf   []byte // small, borrowed, or grown for a large frame
	small []byte
	start int     // what is read but not returned yet: buf[start:end]
	end   int     //
	more  bool    // the last read filled all the room that it had
	lent  *[]byte // what buf is, if it is borrowed
	class int     // of readBuffers, from which it is
}

// Next returns the next frame, its length included, which is valid until the next call. At the
// end of the stream it returns io.EOF, or io.ErrUnexpectedEOF inside a frame.
func (f *Reader) Next() ([]byte, error) {
	for {
		frame, err := f.take()
		if frame != nil || err != nil {
			return frame, err
		}
		if err := f.fill(); err != nil {
			if err == io.EOF && f.end > f.start {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Waits says whether Next would have to read.
func (f *Reader) Waits() bool {
	have := f.buf[f.start:f.end]
	return len(have) < HeaderSize || uint64(len(have)) < HeaderSize+uint64(binary.BigEndian.Uint32(have))
}

// take returns the frame at the buffer's start, if all of it is there.
func (f *Reader) take() ([]byte, error) {
	have := f.buf[f.start:f.end]
	if len(have) < HeaderSize {
		return nil, nil
	}
	n := binary.BigEndian.Uint32(have)
	if n == 0 || uint64(n) > uint64(f.Max) {
		return nil, &SizeError{n, f.Max}
	}
	size := HeaderSize + int(n)
	if len(have) < size {
		return nil, nil
	}
	f.start += size
	return have[:size:size], nil
}

// fill reads once, behind what is there.
func (f *Reader) fill() error {
	have := f.end - f.start
	switch {
	case have == 0 && (!f.more || len(f.buf) > MaxBuffer):
		f.shrink()
	case f.more && len(f.buf) < MaxBuffer:
		f.borrow()
	case have == len(f.buf):
		f.grow()
	default:
		copy(f.buf, f.buf[f.start:f.end])
	}
	f.start, f.end = 0, have

	room := f.buf[have:min(len(f.buf), have+MaxBuffer)]
	n, err := f.Read(room)
	f.end += n
	f.more = n == len(room)
	if n > 0 {
		return nil // an error that came with bytes comes again without
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// shrink makes the buffer the small one. There is nothing in it.
func (f *Reader) shrink() {
	if f.small == nil {
		f.small = make([]byte, minBuffer)
	}
	f.GiveBack()
	f.buf = f.small
}

// borrow makes the buffer four times as large, for a stream that has more than it takes.
func (f *Reader) borrow() {
	class, size := 0, 4*minBuffer
	for size <= len(f.buf) {
		class, size = class+1, 4*size
	}
	lent, ok := readBuffers[class].Get().(*[]byte)
	if !ok {
		lent = new(make([]byte, size))
	}
	copy(*lent, f.buf[f.start:f.end])
	f.GiveBack()
	f.buf, f.lent, f.class = *lent, lent, class
}

// grow doubles the buffer, up to what the largest frame needs.
func (f *Reader) grow() {
	size := HeaderSize + f.Max
	if len(f.buf) < size/2 {
		size = 2 * len(f.buf)
	}
	bigger := make([]byte, size)
	copy(bigger, f.buf[f.start:f.end])
	f.GiveBack()
	f.buf = bigger
}

// GiveBack ends a loan. It is called at the stream's end too.
func (f *Reader) GiveBack() {
	if f.lent != nil {
		readBuffers[f.class].Put(f.lent)
		f.lent = nil
	}
	f.buf = nil
}
