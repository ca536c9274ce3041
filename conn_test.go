package irohub

import (
	"context"
	"testing"
	"time"
)

// A sink is a stream that counts what is written.
type sink struct {
	Stream
	n int
}

func (s *sink) Write(_ context.Context, p []byte) (int, error) { s.n += len(p); return len(p), nil }
func (s *sink) CloseWrite(context.Context) error               { return nil }

// A Spoke that is closed as soon as it is connected: the writer finds its last batch
// together with the word that published events may be written. Each is chosen by chance, so
// there are many rounds.
func TestWriter_WritesWhatWasPublishedBeforeTheLast(t *testing.T) {
	for range 100 {
		stream := &sink{}
		l := newLink(context.Background(), stream, 1<<20, time.Second)
		published := make(chan frames, 1)
		g := newGate()
		g.shut()
		l.published, l.gate, l.ready = published, &g, make(chan struct{})
		close(l.ready)
		published <- frames{[]byte("event"), 1}
		l.out.finish(&CloseError{})
		l.writeLoop()
		if stream.n == 0 {
			t.Fatal("an event was not written")
		}
	}
}
