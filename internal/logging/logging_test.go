package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTally_KnowsWhoComesMost(t *testing.T) {
	var away Tally
	for i := range 10_000 {
		away.Add(fmt.Sprint("host", i), errors.New("no"))
		if i%10 == 0 {
			away.Add("flood", errors.New("no"))
		}
	}
	if len(away.hosts) > tallyHosts {
		t.Errorf("%d hosts are kept", len(away.hosts))
	}
	if away.Count != 11_000 || away.Most() != "flood" {
		t.Errorf("%d, most from %q", away.Count, away.Most())
	}
}

func TestTally_KeepsLittle(t *testing.T) {
	var away Tally
	check := func(most string, counts ...int) {
		t.Helper()
		got := slices.Sorted(maps.Values(away.hosts))
		if away.Most() != most || !slices.Equal(got, counts) {
			t.Errorf("most from %q, want %q; counts %v, want %v", away.Most(), most, got, counts)
		}
	}
	check("")
	for i := range tallyHosts {
		away.Add(fmt.Sprintf("host%02d", tallyHosts-1-i), io.ErrClosedPipe)
	}
	away.Add("host01", io.EOF)
	check("host01", append(slices.Repeat([]int{1}, tallyHosts-1), 2)...)
	away.Add("another", io.EOF) // the tally is full; this lowers all counts
	check("host01", 1)
	away.Add("host00", io.ErrNoProgress)
	check("host00", 1, 1)
	if away.Count != tallyHosts+3 || away.Last != io.ErrNoProgress {
		t.Errorf("%d, last %v", away.Count, away.Last)
	}
}

// A slowWriter blocks until the test releases it.
type slowWriter struct {
	open chan struct{}
	bytes.Buffer
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.open
	return w.Buffer.Write(p)
}

// If a handler is too slow, a bounded number of lines waits for it. The others are counted.
func TestLog_CountWhatIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{open: make(chan struct{})}
		l := New(slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo})))
		l.Add(slog.LevelDebug, "unwanted")
		l.Add(slog.LevelInfo, "first")
		synctest.Wait()
		for range logQueue + 5 {
			l.Add(slog.LevelWarn, "more", "n", 1)
		}
		close(w.open)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(w.String()), "\n")
		if len(lines) != 1+1+logQueue || !strings.Contains(lines[1], "log lines dropped") || !strings.HasSuffix(lines[1], "lines=5") {
			t.Errorf("%d lines; the second is %q", len(lines), lines[min(1, len(lines)-1)])
		}
		w.Reset()
		l.Add(slog.LevelInfo, "last")
		synctest.Wait()
		if got := w.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=INFO msg=last\n") || l.writing.Load() {
			t.Errorf("%q, writing: %v", got, l.writing.Load())
		}
	})
}

func TestLog_GuardMakesAnErrorOfAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&w, nil)))
		if err := l.Guard("Admit", func() error { return io.EOF }); err != io.EOF {
			t.Error(err)
		}
		if err := l.Guard("Admit", func() error { panic("oh") }); err == nil || err.Error() != "internal error" {
			t.Error(err)
		}
		synctest.Wait()
		if got := w.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR msg=\"callback panicked\" callback=Admit panic=oh stack=") {
			t.Error(got)
		}
	})
}
