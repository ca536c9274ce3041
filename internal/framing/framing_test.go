package framing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// body returns the next frame without its length.
func (f *Reader) body() ([]byte, error) {
	frame, err := f.Next()
	if err != nil {
		return nil, err
	}
	return frame[HeaderSize:], nil
}

// chunked returns a read function for a stream. size gives the size of each read.
func chunked(stream []byte, size func() int) func([]byte) (int, error) {
	return func(p []byte) (int, error) {
		if len(stream) == 0 {
			return 0, io.EOF
		}
		n := copy(p[:min(len(p), max(1, size()))], stream)
		stream = stream[n:]
		return n, nil
	}
}

func always(n int) func() int { return func() int { return n } }

// stream returns the frames of the bodies, one after the other.
func stream(bodies ...string) (all []byte) {
	for _, body := range bodies {
		all = binary.BigEndian.AppendUint32(all, uint32(len(body)))
		all = append(all, body...)
	}
	return all
}

func wantBodies(t *testing.T, r *Reader, bodies []string) {
	t.Helper()
	for i, want := range bodies {
		if body, err := r.body(); err != nil || string(body) != want {
			t.Fatalf("frame %d is %.40q (%d bytes), %v; want %.40q (%d bytes)", i, body, len(body), err, want, len(want))
		}
	}
}

func TestReader_SplitAnywhere(t *testing.T) {
	bodies := []string{"a", "bc", strings.Repeat("d", 300), "e"}
	all := stream(bodies...)
	for cut := range all {
		sizes := []int{cut, len(all)}
		r := Reader{Max: 300, Read: chunked(all, func() int {
			n := sizes[0]
			sizes = sizes[1:]
			if n == 0 {
				n = len(all)
			}
			return n
		})}
		wantBodies(t, &r, bodies)
	}
	for _, n := range []int{1, 2, 3, 5, 7, 11} {
		r := Reader{Max: 300, Read: chunked(all, always(n))}
		wantBodies(t, &r, bodies)
		for range 2 {
			if body, err := r.body(); err != io.EOF {
				t.Fatalf("%d bytes at a time: at the end %q, %v, want io.EOF", n, body, err)
			}
		}
	}
}

func TestReader_Length(t *testing.T) {
	const limit = 100
	for _, tc := range []struct {
		length uint32
		ok     bool
	}{
		{0, false}, {1, true}, {limit - 1, true}, {limit, true}, {limit + 1, false},
		{1 << 24, false}, {math.MaxInt32, false}, {math.MaxInt32 + 1, false}, {math.MaxUint32 - 3, false}, {math.MaxUint32, false},
	} {
		body := strings.Repeat("x", int(min(tc.length, limit)))
		all := append(binary.BigEndian.AppendUint32(nil, tc.length), body...)
		for _, n := range []int{1, len(all)} {
			r := Reader{Max: limit, Read: chunked(all, always(n))}
			got, err := r.body()
			if tc.ok {
				if err != nil || string(got) != body {
					t.Errorf("length %d: %q, %v", tc.length, got, err)
				}
				continue
			}
			if want := fmt.Sprintf("a frame of %d bytes; 1 to %d are allowed", tc.length, limit); fmt.Sprint(err) != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if len(r.buf) > minBuffer {
				t.Errorf("length %d: the buffer has %d bytes", tc.length, len(r.buf))
			}
			if _, again := r.body(); fmt.Sprint(again) != fmt.Sprint(err) {
				t.Errorf("length %d: the next call returns %v", tc.length, again)
			}
		}
	}
}

// A peer that announces a large frame but sends little costs little memory.
func TestReader_AllocatesWhatHasCome(t *testing.T) {
	all := binary.BigEndian.AppendUint32(nil, 1<<30)
	all = append(all, make([]byte, 10000)...)
	for n := HeaderSize; n <= len(all); n += 1249 {
		for _, size := range []int{1, 700, len(all)} {
			r := Reader{Max: 1 << 30, Read: chunked(all[:n], always(size))}
			if _, err := r.body(); err != io.ErrUnexpectedEOF {
				t.Fatalf("got %v, want io.ErrUnexpectedEOF", err)
			}
			if cap(r.buf) > max(minBuffer, 4*n) {
				t.Errorf("%d bytes came, the buffer has %d", n, cap(r.buf))
			}
		}
	}
}

// The same of a frame that is larger than what readers share.
func TestReader_GrowsAsBytesArrive(t *testing.T) {
	for _, n := range []int{MaxBuffer, MaxBuffer + 1, 3 * MaxBuffer} {
		all := binary.BigEndian.AppendUint32(nil, 1<<24)
		all = append(all, make([]byte, n)...)
		r := Reader{Max: 1 << 24, Read: chunked(all, always(MaxBuffer))}
		if _, err := r.body(); err != io.ErrUnexpectedEOF {
			t.Fatalf("got %v, want io.ErrUnexpectedEOF", err)
		}
		if cap(r.buf) > 4*n {
			t.Errorf("%d bytes came, the buffer has %d", n, cap(r.buf))
		}
	}
}

func TestReader_End(t *testing.T) {
	all := stream("first", "second")
	first := HeaderSize + len("first")
	for n := range len(all) + 1 {
		r := Reader{Max: 100, Read: chunked(all[:n], always(3))}
		want := io.ErrUnexpectedEOF
		if n == 0 || n == first || n == len(all) {
			want = io.EOF
		}
		var err error
		for err == nil {
			_, err = r.body()
		}
		if err != want {
			t.Errorf("cut off at %d: %v, want %v", n, err, want)
		}
	}
}

func TestReader_Errors(t *testing.T) {
	broken := errors.New("broken")
	all := stream("first", "second")

	t.Run("passes on what the stream says", func(t *testing.T) {
		for _, n := range []int{0, 5, 12} {
			r := Reader{Max: 100, Read: io.MultiReader(bytes.NewReader(all[:n]), iotest.ErrReader(broken)).Read}
			var err error
			for err == nil {
				_, err = r.body()
			}
			if err != broken {
				t.Errorf("got %v, want %v", err, broken)
			}
		}
	})
	t.Run("bytes that come with an error count", func(t *testing.T) {
		r := Reader{Max: 100, Read: iotest.DataErrReader(bytes.NewReader(all)).Read}
		wantBodies(t, &r, []string{"first", "second"})
		if _, err := r.body(); err != io.EOF {
			t.Errorf("got %v, want io.EOF", err)
		}
	})
	t.Run("nothing without an error", func(t *testing.T) {
		r := Reader{Max: 100, Read: func([]byte) (int, error) { return 0, nil }}
		if _, err := r.body(); err != io.ErrNoProgress {
			t.Errorf("got %v, want io.ErrNoProgress", err)
		}
	})
}

func TestReader_BigFrames(t *testing.T) {
	var bodies []string
	for _, n := range []int{1, minBuffer - HeaderSize - 1, minBuffer - HeaderSize, minBuffer - HeaderSize + 1, 10, MaxBuffer, MaxBuffer + 1, 3, 1 << 20, 1 << 20, 2} {
		bodies = append(bodies, strings.Repeat(string(rune('a'+len(bodies))), n))
	}
	all := stream(bodies...)
	for _, size := range []int{1200, 4096, 65536, len(all)} {
		r := Reader{Max: 1 << 20}
		next := chunked(all, always(size))
		r.Read = func(p []byte) (int, error) {
			if most := HeaderSize + r.Max; len(r.buf) > most {
				t.Fatalf("the buffer has %d bytes, more than %d", len(r.buf), most)
			}
			return next(p)
		}
		wantBodies(t, &r, bodies)
	}
}

// Under heavy traffic, one read fetches many frames. After some light traffic, the reader frees
// the memory.
func TestReader_BufferFollowsTraffic(t *testing.T) {
	small := stream(strings.Repeat("s", 100))
	size := 1
	r := Reader{Max: 1 << 20}
	r.Read = func(p []byte) (int, error) {
		n := 0
		for range size {
			if n+len(small) > len(p) {
				break
			}
			n += copy(p[n:], small)
		}
		return n, nil
	}
	read := func(frames int) {
		t.Helper()
		for range frames {
			if body, err := r.body(); err != nil || len(body) != 100 {
				t.Fatalf("%q, %v", body, err)
			}
		}
	}
	read(100)
	if len(r.buf) != minBuffer {
		t.Errorf("an idle reader holds %d bytes, want %d", len(r.buf), minBuffer)
	}

	r.Read = chunked(bytes.Repeat(small, 5000), always(1<<20))
	read(4000)
	if len(r.buf) != MaxBuffer {
		t.Errorf("with much to read the buffer has %d bytes, want %d", len(r.buf), MaxBuffer)
	}
	read(1000)

	r.Read = chunked(bytes.Repeat(small, 100), always(len(small)))
	read(100)
	if len(r.buf) != minBuffer {
		t.Errorf("after quiet the buffer has %d bytes, want %d", len(r.buf), minBuffer)
	}
}

// Small reads of a large frame are not light traffic: shrinking after each frame would mean an
// allocation for each one.
func TestReader_BigFramesInSmallReadsKeepTheBuffer(t *testing.T) {
	frame := stream(strings.Repeat("x", 50_000))
	rest := frame
	r := Reader{Max: 1 << 20, Read: func(p []byte) (int, error) {
		if len(rest) == 0 {
			rest = frame
		}
		n := copy(p[:min(len(p), 1200)], rest)
		rest = rest[n:]
		return n, nil
	}}
	least := math.Inf(1) // with the race detector, a pool drops some items
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, func() {
			if _, err := r.body(); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least > 0 {
		t.Errorf("%v allocations, want none", least)
	}
}

func TestReader_Waits(t *testing.T) {
	all := stream("first", "second")
	arrived := 0
	r := Reader{Max: 100, Read: func(p []byte) (int, error) {
		n := copy(p, all[arrived:arrived+1])
		arrived += n
		return n, nil
	}}
	if !r.Waits() {
		t.Error("a new reader does not wait")
	}
	for range all {
		before := arrived
		if err := r.fill(); err != nil || arrived != before+1 {
			t.Fatalf("fill: %v", err)
		}
		if got, want := r.Waits(), arrived < HeaderSize+len("first"); got != want {
			t.Errorf("with %d bytes waits is %v, want %v", arrived, got, want)
		}
	}
	before := arrived
	wantBodies(t, &r, []string{"first"})
	if r.Waits() {
		t.Error("waits, though the second frame is there")
	}
	wantBodies(t, &r, []string{"second"})
	if !r.Waits() || arrived != before {
		t.Error("does not wait with all frames returned, or has read for them")
	}
}

// Appending to a body must not overwrite the next frame.
func TestReader_BodyIsClipped(t *testing.T) {
	r := Reader{Max: 100, Read: chunked(stream("first", "second"), always(100))}
	body, err := r.body()
	if err != nil {
		t.Fatal(err)
	}
	_ = append(body, "overwritten"...)
	wantBodies(t, &r, []string{"second"})
}

func TestReader_RandomChunks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var bodies []string
		for range rnd.IntN(20) {
			bodies = append(bodies, strings.Repeat(string(rune('a'+rnd.IntN(26))), 1+rnd.IntN(1<<rnd.IntN(15))))
		}
		r := Reader{Max: 1 << 15, Read: chunked(stream(bodies...), func() int { return rnd.IntN(1 << rnd.IntN(16)) })}
		wantBodies(t, &r, bodies)
		if _, err := r.body(); err != io.EOF {
			t.Fatalf("at the end %v", err)
		}
	}
}

// A reader that waits for the next frame holds little memory, even after large frames.
func TestReader_HoldsLittleWhileItWaits(t *testing.T) {
	var all []byte
	for range 1000 {
		all = append(all, stream(strings.Repeat("x", 200))...)
	}
	all = append(all, stream(strings.Repeat("y", 300_000))...)
	in := bytes.NewReader(all)
	r := Reader{Max: 1 << 20}
	r.Read = func(p []byte) (int, error) {
		if in.Len() == 0 && len(r.buf) > minBuffer {
			t.Errorf("it waits with %d bytes", len(r.buf))
		}
		return in.Read(p)
	}
	for {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReader_AllocatesNothing(t *testing.T) {
	r := Reader{Max: 1 << 20, Read: func(p []byte) (int, error) {
		return copy(p, "\x00\x00\x00\x02{}\x00\x00\x00\x02{}"), nil
	}}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.body(); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
