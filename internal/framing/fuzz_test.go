package framing

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"irohub/internal/jsonscan/reference"
)

// refFrames is a reference implementation that splits a stream. err says how it ends.
func refFrames(stream []byte, limit int) (bodies [][]byte, err error) {
	for len(stream) > 0 {
		if len(stream) < HeaderSize {
			return bodies, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(stream))
		if n == 0 || n > int64(limit) {
			return bodies, &SizeError{uint32(n), limit}
		}
		stream = stream[HeaderSize:]
		if int64(len(stream)) < n {
			return bodies, io.ErrUnexpectedEOF
		}
		bodies = append(bodies, stream[:n])
		stream = stream[n:]
	}
	return bodies, io.EOF
}

// FuzzFrames reads a stream in reads whose sizes repeat those in chunks.
func FuzzFrames(f *testing.F) {
	long := stream(strings.Repeat("x", 9000), "y", strings.Repeat("z", 5000))
	f.Add([]byte(nil), []byte(nil), uint16(1))
	f.Add(stream("a", "bc", "def"), []byte{1}, uint16(10))
	f.Add(stream("a", "bc", "def"), []byte{255, 3}, uint16(2))
	f.Add(long, []byte{200, 0, 255, 255}, uint16(9000))
	f.Add(bytes.Repeat(stream("small"), 1000), []byte{251, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, uint16(9))
	f.Add([]byte("\x00\x00\x00\x00"), []byte{2}, uint16(9))
	f.Add([]byte("\xff\xff\xff\xffxyz"), []byte{5}, uint16(65535))
	f.Add(stream(`{"type":"message.sent","id":"conv-123"}`, `{"type":"t"}`), []byte{3, 90}, uint16(65535))
	f.Fuzz(func(t *testing.T, input, chunks []byte, limit uint16) {
		turn := 0
		r := Reader{Max: int(limit)}
		come := 0 // bytes that the reader has got
		deliver := chunked(input, func() int {
			if len(chunks) == 0 {
				return len(input)
			}
			turn++
			n := int(chunks[turn%len(chunks)])
			return n * n // small sizes and sizes up to that of the largest read
		})
		r.Read = func(p []byte) (int, error) {
			if len(p) == 0 || len(p) > MaxBuffer {
				t.Fatalf("a read of %d bytes", len(p))
			}
			n, err := deliver(p)
			come += n
			if n > 0 && turn%3 == 0 && come == len(input) {
				err = io.EOF
			}
			return n, err
		}

		bodies, end := refFrames(input, int(limit))
		for i, want := range bodies {
			before, waits := come, r.Waits()
			body, err := r.body()
			if err != nil || !bytes.Equal(body, want) {
				t.Fatalf("frame %d is %.40q (%d bytes), %v; want %.40q (%d bytes)", i, body, len(body), err, want, len(want))
			}
			if waits != (come > before) {
				t.Fatalf("frame %d: waits was %v, then %d bytes were read", i, waits, come-before)
			}
			checkBuffer(t, &r, come)
		}
		_, err := r.body()
		checkBuffer(t, &r, come)
		if want, ok := end.(*SizeError); ok {
			if got, ok := err.(*SizeError); !ok || *got != *want {
				t.Fatalf("at the end %v, want %v", err, end)
			}
		} else if err != end {
			t.Fatalf("at the end %v, want %v", err, end)
		}
	})
}

func checkBuffer(t *testing.T, r *Reader, come int) {
	if r.start < 0 || r.start > r.end || r.end > len(r.buf) {
		t.Fatalf("start %d, end %d of %d", r.start, r.end, len(r.buf))
	}
	if most := max(minBuffer, 4*come); cap(r.buf) > most {
		t.Fatalf("the buffer has %d bytes after %d have come", cap(r.buf), come)
	}
	if most := max(MaxBuffer, 2*(HeaderSize+r.Max)); cap(r.buf) > most {
		t.Fatalf("the buffer has %d bytes, frames at most %d", cap(r.buf), r.Max)
	}
}

// BenchmarkReader splits a stream of equal frames. The reads are as large as the buffer or as a
// packet.
func BenchmarkReader(b *testing.B) {
	for _, size := range reference.Sizes {
		frame := stream(string(reference.Kinds[0].Make(size.Bytes)))
		all := bytes.Repeat(frame, max(1, 256<<10/len(frame)))
		for _, chunk := range []struct {
			name  string
			bytes int
		}{{"full", len(all)}, {"1200", 1200}} {
			b.Run("size="+size.Name+"/read="+chunk.name, func(b *testing.B) {
				b.SetBytes(int64(len(frame)))
				b.ReportAllocs()
				rest := all
				r := Reader{Max: 1 << 20, Read: func(p []byte) (int, error) {
					if len(rest) == 0 {
						rest = all
					}
					n := copy(p[:min(len(p), chunk.bytes)], rest)
					rest = rest[n:]
					return n, nil
				}}
				for b.Loop() {
					if _, err := r.body(); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
