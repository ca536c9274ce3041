// Package framing splits a stream of bytes into frames. Each frame is preceded by its length:
// four bytes, big-endian. The package does not look into the frames.
package framing

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

const (
	HeaderSize = 4        // bytes of the length before a frame
	MaxBuffer  = 64 << 10 // the maximal size of one read
	minBuffer  = 1 << 10  // the buffer of an idle reader
)

// readBuffers are buffers of 4, 16 and 64 KiB. A reader borrows one when its small buffer is
// too small for the traffic.
var readBuffers [3]sync.Pool

// A SizeError says that a frame is empty or larger than allowed.
type SizeError struct {
	Size uint32
	Max  int
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("a frame of %d bytes; 1 to %d are allowed", e.Size, e.Max)
}

// A Reader splits the bytes of a stream into frames. Its buffer grows only as bytes arrive, and
// not by the length that a peer announces. While the Reader waits between two frames, it holds
// only a small buffer.
type Reader struct {
	Read func([]byte) (int, error)
	Max  int // the maximal size of a frame in bytes; may be changed between calls

	buf   []byte // small, borrowed, or grown for a large frame
	small []byte
	start int     // buf[start:end] is read, but not returned yet
	end   int     //
	more  bool    // the last read filled its buffer
	lent  *[]byte // the borrowed buffer that buf is; nil: buf is not borrowed
	class int     // index in readBuffers of lent's pool
}

// Next returns the next frame with its length header. The frame is valid until the next call.
// At the end of the stream Next returns io.EOF, or io.ErrUnexpectedEOF inside a frame.
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

// Waits reports whether Next would have to read.
func (f *Reader) Waits() bool {
	have := f.buf[f.start:f.end]
	return len(have) < HeaderSize || uint64(len(have)) < HeaderSize+uint64(binary.BigEndian.Uint32(have))
}

// take returns the frame at the buffer's start, or nil if it is not complete.
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

// fill reads once, behind the bytes in the buffer.
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
		return nil // Read returns an error again at the next call
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// shrink switches to the small buffer. The current one must be empty.
func (f *Reader) shrink() {
	if f.small == nil {
		f.small = make([]byte, minBuffer)
	}
	f.GiveBack()
	f.buf = f.small
}

// borrow switches to a buffer that is four times as large.
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

// grow doubles the buffer, up to the size of the largest frame.
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

// GiveBack returns a borrowed buffer. The Reader's user calls it at the end of the stream.
func (f *Reader) GiveBack() {
	if f.lent != nil {
		readBuffers[f.class].Put(f.lent)
		f.lent = nil
	}
	f.buf = nil
}
