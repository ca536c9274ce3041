package irohub

import (
	"encoding/binary"
	"io"
	"sync"
)

const (
	minBuffer = 1 << 10  // what a reader holds that is quiet
	maxBuffer = 64 << 10 // what one read asks for at most
)

// readBuffers are borrowed by readers that have more to read than their small buffer takes:
// of 4, 16 and 64 KiB.
var readBuffers [3]sync.Pool

// A frameReader cuts the bytes of a stream into frames. Its buffer grows as bytes
// arrive, never because a peer said how many it would send. While it waits for more, and
// has none of a frame, it holds a small one.
type frameReader struct {
	read func([]byte) (int, error)
	max  int // bytes a frame may have

	buf   []byte // small, borrowed, or grown for a large frame
	small []byte
	start int     // what is read but not returned yet: buf[start:end]
	end   int     //
	more  bool    // the last read filled all the room that it had
	lent  *[]byte // what buf is, if it is borrowed
	class int     // of readBuffers, from which it is
}

// next returns the next frame, its length included, which is valid until the next call. At the
// end of the stream it returns io.EOF, or io.ErrUnexpectedEOF inside a frame.
func (f *frameReader) next() ([]byte, error) {
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

// waits says whether next would have to read.
func (f *frameReader) waits() bool {
	have := f.buf[f.start:f.end]
	return len(have) < headerSize || uint64(len(have)) < headerSize+uint64(binary.BigEndian.Uint32(have))
}

// take returns the frame at the buffer's start, if all of it is there.
func (f *frameReader) take() ([]byte, error) {
	have := f.buf[f.start:f.end]
	if len(have) < headerSize {
		return nil, nil
	}
	n := binary.BigEndian.Uint32(have)
	if n == 0 || uint64(n) > uint64(f.max) {
		return nil, protocolError("a frame of %d bytes; 1 to %d are allowed", n, f.max)
	}
	size := headerSize + int(n)
	if len(have) < size {
		return nil, nil
	}
	f.start += size
	return have[:size:size], nil
}

// fill reads once, behind what is there.
func (f *frameReader) fill() error {
	have := f.end - f.start
	switch {
	case have == 0 && (!f.more || len(f.buf) > maxBuffer):
		f.shrink()
	case f.more && len(f.buf) < maxBuffer:
		f.borrow()
	case have == len(f.buf):
		f.grow()
	default:
		copy(f.buf, f.buf[f.start:f.end])
	}
	f.start, f.end = 0, have

	room := f.buf[have:min(len(f.buf), have+maxBuffer)]
	n, err := f.read(room)
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
func (f *frameReader) shrink() {
	if f.small == nil {
		f.small = make([]byte, minBuffer)
	}
	f.giveBack()
	f.buf = f.small
}

// borrow makes the buffer four times as large, for a stream that has more than it takes.
func (f *frameReader) borrow() {
	class, size := 0, 4*minBuffer
	for size <= len(f.buf) {
		class, size = class+1, 4*size
	}
	lent, ok := readBuffers[class].Get().(*[]byte)
	if !ok {
		lent = new(make([]byte, size))
	}
	copy(*lent, f.buf[f.start:f.end])
	f.giveBack()
	f.buf, f.lent, f.class = *lent, lent, class
}

// grow doubles the buffer, up to what the largest frame needs.
func (f *frameReader) grow() {
	size := headerSize + f.max
	if len(f.buf) < size/2 {
		size = 2 * len(f.buf)
	}
	bigger := make([]byte, size)
	copy(bigger, f.buf[f.start:f.end])
	f.giveBack()
	f.buf = bigger
}

// giveBack ends a loan. It is called at the stream's end too.
func (f *frameReader) giveBack() {
	if f.lent != nil {
		readBuffers[f.class].Put(f.lent)
		f.lent = nil
	}
	f.buf = nil
}
