package records

import (
	"bytes"
	"errors"
	"testing"
)

// A record is checked before anything is made of its size, whatever kind it says it is.
func TestKind_Check(t *testing.T) {
	for k := range Kind(255) {
		for _, n := range []int{0, 1, 4, 5, 7, 8, 9, 8 + MaxReason, 9 + MaxReason, MaxData, MaxData + 1} {
			ok := map[Kind]bool{
				Data: n >= 1 && n <= MaxData, Credit: n == 4, Fin: n == 0, Ack: n == 0,
				Abort: n == 8, Close: n >= 8 && n <= 8+MaxReason, Alive: n == 0,
			}[k]
			if err := k.Check(n); (err == nil) != ok || err != nil && !errors.Is(err, Err) {
				t.Errorf("kind %d with %d bytes: %v", k, n, err)
			}
			if ok && n > k.Max() {
				t.Errorf("kind %d has %d bytes at the most, and may have %d", k, k.Max(), n)
			}
		}
	}
}

// What one half may send, the other takes, and no byte more, however often credit is given.
func TestWindow_BothHalvesCountAlike(t *testing.T) {
	var out Outbound
	var in Inbound
	p := make([]byte, 40_000)
	read, sent := make([]byte, 30_000), 0
	for range 1000 {
		n := out.Claim(len(p))
		sent += n
		if err := in.Arrive(n); err != nil {
			t.Fatalf("after %d bytes: %v", sent, err)
		}
		for left := n; left > 0; {
			k := copy(in.Space(left), p)
			in.Filled(k)
			left -= k
		}
		if _, credit := in.Read(read); credit > 0 {
			if err := out.Credited(uint32(credit)); err != nil {
				t.Fatalf("after %d bytes: %v", sent, err)
			}
		}
	}
	for n := 1; n > 0; {
		n = out.Claim(len(p))
		if err := in.Arrive(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Arrive(1); !errors.Is(err, Err) {
		t.Errorf("a byte more than there was credit for: %v", err)
	}
	if err := out.Credited(Window + 1); !errors.Is(err, Err) {
		t.Errorf("more credit than was used: %v", err)
	}
}

func TestHalves_EndOnce(t *testing.T) {
	var in Inbound
	if err := in.End(); err != nil || !in.Ended() {
		t.Error(err)
	}
	if in.End() == nil || in.Arrive(1) == nil {
		t.Error("something behind the end")
	}
	var out Outbound
	if out.Acknowledged() == nil {
		t.Error("an acknowledgement of nothing")
	}
	out.Finish()
	if err := out.Acknowledged(); err != nil || !out.Acked() || out.Acknowledged() == nil {
		t.Error(err)
	}
}

// A queue gives back what was put in, in any portions, and then has no memory.
func TestQueue_KeepsTheOrder(t *testing.T) {
	var q Queue
	var want, got []byte
	for i := range 500 {
		for left := i * 37 % 5000; left > 0; {
			p := q.Space(left)
			for j := range p {
				p[j] = byte(len(want) + j)
			}
			want = append(want, p...)
			q.Filled(len(p))
			left -= len(p)
		}
		p := make([]byte, i*53%4000)
		got = append(got, p[:q.Take(p)]...)
	}
	rest := make([]byte, len(want))
	got = append(got, rest[:q.Take(rest)]...)
	if !bytes.Equal(got, want) {
		t.Error("what came out is not what was put in")
	}
	if q.Drop(); len(q.parts) != 0 {
		t.Errorf("%d chunks are left", len(q.parts))
	}
}
