package siege

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"irohub"
)

// Frame lengths at the limit and above it. The hub does not wait for a frame above it.
func TestFrames_Lengths(t *testing.T) {
	const limit = 1000
	body := func(n int) string { return fmt.Sprintf(`{"type":"n","payload":"%s"}`, strings.Repeat("x", n-25)) }
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{MaxFrame: limit})
		all, err := s.hub.Subscribe(s.ctx)
		s.must(err)
		from := s.bind()
		for _, header := range []string{"\x00\x00\x00\x00", "\x00\x00\x03\xe9", "\x7f\xff\xff\xff", "\xff\xff\xff\xff"} {
			r := s.raw(from)
			r.subscribe("n")
			r.write([]byte(header))
			r.wantClosed(irohub.CodeProtocol)
		}
		// With "from" added, an event of the full size would exceed the limit. The spoke gets
		// an error and stays connected.
		r := s.raw(from)
		r.subscribe("n")
		r.write(frame(body(limit)))
		r.want(fmt.Sprintf(`{"type":"__error","payload":{"code":"invalid_payload","topic":"n","message":"with its from, the frame has %d bytes, the limit is %d"}}`, limit+74, limit))
		r.write(frame(body(limit - 74)))
		for ev := range all.Events() {
			if len(ev.Payload) != limit-74-23 {
				s.Errorf("a payload of %d bytes", len(ev.Payload))
			}
			break
		}
		s.wantServed()
	})
}

// A frame's announced length costs no memory until its bytes arrive.
func TestFrames_AnnouncedBytesAreNotAllocated(t *testing.T) {
	const peers, announced, each = 64, 64 << 20, 256 << 10
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{MaxFrame: announced, MaxSpokesPerNode: peers})
		from := s.bind()
		var rs []*raw
		for range peers {
			r := s.raw(from)
			r.subscribe("n")
			rs = append(rs, r)
		}
		before := heap()
		for _, r := range rs {
			r.write([]byte("\x04\x00\x00\x00{")) // announces 64 MiB, sends one byte
		}
		// When the hub has served another spoke, it has read that too, or will soon.
		s.wantServed()
		time.Sleep(100 * time.Millisecond)
		if grown := heap() - before; grown > peers*each {
			s.Errorf("%d bytes for %d peers that announced %d each", grown, peers, announced)
		}
	})
}

// A frame may arrive byte by byte.
func TestFrames_OneByteAtATime(t *testing.T) {
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{})
		r := s.raw(s.bind())
		for _, b := range frame(`{"type":"__subscribe","id":"1","payload":{"topic":"n"}}`) {
			r.write([]byte{b})
		}
		r.want(`{"type":"__ack","id":"1"}`)
	})
}

// Incomplete bytes do not extend the deadline for the first frame.
func TestFrames_HalfAFrameAndSilence(t *testing.T) {
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{HandshakeTimeout: 3 * time.Second})
		from := s.bind()
		half := s.raw(from)
		half.write([]byte("\x00\x00\x10\x00{"))
		drip := s.raw(from)
		drip.write([]byte("\x00\x00\x10\x00{"))
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			for { // ends when the hub closes
				if _, err := drip.stream.Write(s.ctx, []byte{' '}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}()
		half.wantClosed(irohub.CodeTimeout)
		drip.wantClosed(irohub.CodeTimeout)
		<-dripped
		s.eventually("nothing is left of them", func() bool { return s.hub.Stats().Pending == 0 })
	})
}

// Thousands of tiny frames in one write, both valid and refused.
func TestFrames_ThousandsOfTinyOnes(t *testing.T) {
	const frames = 20_000
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{MaxQueue: 64 << 20})
		all, err := s.hub.Subscribe(s.ctx)
		s.must(err)
		r := s.raw(s.bind())
		var p []byte
		for i := range frames {
			p = append(p, frame(fmt.Sprintf(`{"type":"n","payload":%d}`, i))...)
			p = append(p, frame(`{"type":"__x"}`)...)
		}
		go r.stream.Write(s.ctx, p)
		s.wantNumbered(all, frames)
		s.eventually("all unknown ones are counted", func() bool { return s.hub.Stats().Ignored == frames })
	})
}
