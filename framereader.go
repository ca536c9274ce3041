package irohub

import (
	"encoding/binary"
	"io"
)

const (
	minBuffer = 1 << 10  // what a reader holds that is quiet, and twice maxBuffer at most between frames
	maxBuffer = 64 << 10 // what one read asks for at most
)

// A frameReader cuts the bytes of a stream into frames. Its buffer grows as bytes
// arrive, never because a peer said how many it would send.
type frameReader struct {
	read func([]byte) (int, error)
	max  int // bytes a frame may have

	buf   []byte
	start int // what is read but not returned yet: buf[start:end]
	end   int
	quiet int // reads in a row that a small buffer would have served
}

// next returns the next frame, its length included, which is valid until the next call. At the end of the stream it returns io.EOF, or io.ErrUnexpectedEOF inside a frame.
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

// fill reads once, behind what is there. It makes the buffer as large as the
// traffic wants: doubled where it is full, small again after a while of quiet.
func (f *frameReader) fill() error {
	have := f.end - f.start
	switch {
	case have == 0 && (f.buf == nil || len(f.buf) > 2*maxBuffer || len(f.buf) > minBuffer && f.quiet >= 16):
		f.buf, f.quiet = make([]byte, minBuffer), 0
	case have == len(f.buf):
		f.grow()
	default:
		copy(f.buf, f.buf[f.start:f.end])
	}
	f.start, f.end = 0, have

	room := f.buf[have:min(len(f.buf), have+maxBuffer)]
	n, err := f.read(room)
	f.end += n
	if f.end > minBuffer {
		f.quiet = 0
	} else {
		f.quiet++
	}
	if n == len(room) && f.end == len(f.buf) && len(f.buf) < maxBuffer {
		f.grow()
	}
	if n > 0 {
		return nil // an error that came with bytes comes again without
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// grow doubles the buffer.
func (f *frameReader) grow() {
	bigger := make([]byte, 2*len(f.buf))
	copy(bigger, f.buf)
	f.buf = bigger
}
