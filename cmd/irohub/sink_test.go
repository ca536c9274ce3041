package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A slowWriter waits for a permit in each Write.
type slowWriter struct {
	strings.Builder
	permits chan struct{}
	writes  int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.permits
	w.writes++
	return w.Builder.Write(p)
}

// A brokenWriter behaves like a pipe that nobody reads any more.
type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestSink_WritesAtOnceAndABurstTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{permits: make(chan struct{}, 2)}
		s := newSink(w, 1000, 0, nil)
		fmt.Fprintln(s, "first")
		synctest.Wait() // now it is being written
		for range 64 {
			fmt.Fprintln(s, "more")
		}
		w.permits <- struct{}{}
		w.permits <- struct{}{}
		s.close(t.Context())
		if want := "first\n" + strings.Repeat("more\n", 64); w.String() != want || w.writes != 2 {
			t.Errorf("%d writes of %q, want 2 of %q", w.writes, w.String(), want)
		}
		if missed, err := s.takeMissed(); missed != 0 || err != nil {
			t.Errorf("%d missed (%v)", missed, err)
		}
	})
}

// If nobody reads the output, put does not wait, the memory is bounded, and close ends in time.
func TestSink_Stuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{permits: make(chan struct{})}
		defer close(w.permits)
		s := newSink(w, 1000, 0, nil)
		line := strings.Repeat("x", 99)
		for range 1000 {
			s.put([]byte(line))
		}
		if s.size > 1000 {
			t.Errorf("%d bytes wait, the limit is 1000", s.size)
		}
		begin := time.Now()
		end, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.close(end)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the end took %v", took)
		}
		if missed, _ := s.takeMissed(); missed != 1000 {
			t.Errorf("%d missed, want all", missed)
		}
	})
}

func TestSink_TellsOfMissedLinesWhereTheyAreMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{permits: make(chan struct{}, 100)}
		s := newSink(w, 20, 0, func(n int) string { return fmt.Sprint(n, " missed") })
		put := func(lines string) {
			for line := range strings.FieldsSeq(lines) {
				s.put([]byte(line))
			}
			synctest.Wait()
		}
		put("aaaaaaaaa")
		put("bbbbbbbbb ccccccccc ddddddddd")
		w.permits <- struct{}{}
		synctest.Wait()
		close(w.permits)
		synctest.Wait()
		put("eeeeeeeee")
		s.close(t.Context())
		if want := "aaaaaaaaa\nbbbbbbbbb\n2 missed\neeeeeeeee\n"; w.String() != want {
			t.Errorf("%q, want %q", w.String(), want)
		}
	})
}

func TestSink_ALineByItselfHasNoLimit(t *testing.T) {
	var w strings.Builder
	s := newSink(&w, 10, 0, nil)
	if !s.put([]byte(strings.Repeat("x", 1000))) {
		t.Error("dropped")
	}
	s.close(t.Context())
	if w.Len() != 1001 {
		t.Errorf("%d bytes", w.Len())
	}
}

func TestSink_WritingFails(t *testing.T) {
	s := newSink(brokenWriter{}, 1000, 0, nil)
	s.put([]byte("a"))
	<-s.broken
	s.put([]byte("b"))
	s.close(t.Context())
	if missed, err := s.takeMissed(); missed != 2 || err != errBroken {
		t.Errorf("%d missed (%v), want 2 (%v)", missed, err, errBroken)
	}
}

func TestSink_LongLinesAreCut(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"0123456789", "0123456789"},
		{"0123456789a", "0123456789… (11 bytes)"},
		{"012345678ä", "012345678… (11 bytes)"}, // no half character
		{"01234567\x1b", `01234567\u… (9 bytes)`},
		{strings.Repeat("ä", 1000), "äääää… (2000 bytes)"},
	} {
		if got := string((&sink{width: 10}).fit([]byte(test.line))); got != test.want {
			t.Errorf("%.20q: %q, want %q", test.line, got, test.want)
		}
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		end, cancelEnd := untilEnd(ctx)
		defer cancelEnd()
		begin := time.Now()
		if err := await(end, func() error { time.Sleep(time.Minute / 2); return io.EOF }); err != io.EOF {
			t.Errorf("error %v", err)
		}
		closing(end, func() error { time.Sleep(time.Hour); return nil })
		if took := time.Since(begin); took != time.Minute/2+closeTime {
			t.Errorf("closing took until %v", took)
		}
		if err := await(end, func() error { time.Sleep(time.Hour); return nil }); err != context.Canceled {
			t.Errorf("error %v", err)
		}
		defer time.Sleep(time.Hour) // for f, which nothing ends here
		if took := time.Since(begin); took != time.Minute+endTime {
			t.Errorf("it took until %v", took)
		}
		closing(end, func() error { time.Sleep(time.Hour); return nil })
		if took := time.Since(begin); took != time.Minute+endTime {
			t.Errorf("closing at the end took until %v", took)
		}
	})
}

// After a signal, everything including the last log lines takes less than a second.
func TestEnd_IsWithinASecond(t *testing.T) {
	if sum := endTime + logTimeout; sum >= time.Second {
		t.Errorf("the end may take %v", sum)
	}
}
