package main

import (
	"bytes"
	"testing"
	"time"
	"unicode/utf8"
)

func TestProgress(t *testing.T) {
	var screen bytes.Buffer
	p := progress{screen: &screen}
	p.clear()
	p.show("a")
	p.show("b")
	p.clear()
	p.clear()
	if want := clearLine + "a" + clearLine + "b" + clearLine; screen.String() != want {
		t.Errorf("%q, want %q", &screen, want)
	}
	p = progress{} // no terminal
	p.show("a")
	p.clear()
}

func TestProgress_Running(t *testing.T) {
	const want = "█████░░░░░░░░░░░░░░░ 3s of 10s  1,234 events/s  1,234,567 deliveries/s"
	if got := running(2600*time.Millisecond, 10*time.Second, 1234, 1234567); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, passed := range []time.Duration{-1, 0, time.Second, time.Hour, 1 << 62} {
		got := bar(passed, time.Hour)
		if n := utf8.RuneCountInString(got); n != barWidth || (got[:3] == "█") != (passed >= time.Hour/barWidth) {
			t.Errorf("%v: %s", passed, got)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100000: "100,000", 1234567: "1,234,567", -123: "-123", -1234: "-1,234"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
