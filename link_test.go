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

// A stuck is a stream that takes so many writes, and then no more.
type stuck struct {
	Stream
	writes int
	full   chan struct{} // closed then
}

func (s *stuck) Write(ctx context.Context, p []byte) (int, error) {
	if s.writes--; s.writes >= 0 {
		return len(p), nil
	}
	close(s.full)
	<-ctx.Done()
	return 0, ctx.Err()
}

// What is written does not count any more, so it must not be kept either, or a peer that reads
// all of a batch but its end has a second queue held.
func TestWriter_KeepsNothingOfWhatIsWritten(t *testing.T) {
	const events, size = 256, 32 << 10
	before := heap()
	stream := &stuck{writes: events - 2, full: make(chan struct{})} // its writer is at the last but one
	ctx, cancel := context.WithCancel(t.Context())
	l := newLink(ctx, stream, 1<<30, time.Hour)
	for range events {
		f := frames{make([]byte, size), 1}
		l.out.push(f, f.cost(), 1)
	}
	l.out.flush()
	ended := make(chan error)
	go func() { ended <- l.writeLoop() }()
	<-stream.full
	if kept := int64(heap()) - int64(before); kept > events*size/4 {
		t.Errorf("%d bytes are kept of %d, of which nearly all is written", kept, events*size)
	}
	cancel()
	<-ended
}

// A place in a batch is there until the batch is written, so until then it counts.
func TestWriter_CountsPlacesUntilTheBatchIsWritten(t *testing.T) {
	const events, size = 16, 32 << 10
	stream := &stuck{writes: events - 1, full: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	l := newLink(ctx, stream, 1<<30, time.Hour)
	f := frames{make([]byte, size), 1}
	for range events {
		l.out.push(f, f.cost(), 1)
	}
	l.out.flush()
	ended := make(chan error)
	go func() { ended <- l.writeLoop() }()
	<-stream.full
	if bytes, waiting := l.out.waiting(); bytes != size+events*(f.cost()-size) || waiting != 1 {
		t.Errorf("%d bytes and %d events wait, want those of one event, and the places of all", bytes, waiting)
	}
	cancel()
	<-ended
	l = newLink(t.Context(), &sink{}, 1<<30, time.Hour)
	for range events {
		l.out.push(f, f.cost(), 1)
	}
	l.out.finish(&CloseError{})
	l.writeLoop()
	if bytes, waiting := l.out.waiting(); bytes != 0 || waiting != 0 {
		t.Errorf("%d bytes and %d events wait, and all are written", bytes, waiting)
	}
}

// A reader's work with the router has its frames' events in memory of that size: what it has
// gathered, one frame more, and what an allocation is rounded up by.
func TestInbound_HoldsWhatItsFramesNeed(t *testing.T) {
	const most = maxOpsSize + maxFrame + 64<<10
	for gathered := 0; gathered < maxOpsSize; gathered += 999 {
		in := &inbound{}
		for _, n := range []int{gathered, maxFrame - 100} {
			in.encode(topicName{"n", 1}, make([]byte, n), NodeID{1})
		}
		if n := cap(*in.text); n > most {
			t.Fatalf("%d bytes for a frame behind %d, want at most %d", n, gathered, most)
		}
	}
}
