package irohub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"irohub/internal/framing"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of hubs and spokes alike, besides maxFrame, and the most that MaxFrame can be.
const (
	maxMaxFrame      = 1 << 30
	maxQueue         = 1 << 20
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second
)

// writeSize is what a writer gives the transport at most in one call.
const writeSize = 64 << 10

// gatherSize is what is copied together for one write at most.
const gatherSize = 16 << 10

// A link is one stream with its reader and its writer, the same in a hub and in a
// spoke. It ends when its context does, whoever ends that: the writer then closes
// the stream with the code that the context's cause has.
type link struct {
	// Immutable.
	stream    Stream
	ctx       context.Context // ends with the link
	cancel    context.CancelCauseFunc
	shut      func(*CloseError) // closes the stream, or its connection
	timeout   time.Duration     // without progress in writing
	published <-chan frames     // from Spoke.Publish; nil in a hub
	gate      *gate             // before published
	ready     chan struct{}     // closed by a spoke's router once published may be written; nil in a hub

	out outbox[frames] // from the router

	// Counted by the reader and the writer, each its own.
	bytesIn, bytesOut atomic.Uint64

	taken      atomic.Int64 // events that the writer has taken out of published
	ended      atomic.Bool  // the peer has closed its half, behind all that it had to say
	handedOver atomic.Bool  // the peer has acknowledged all that was for it, up to the end

	// closed: closed by the writer's goroutine when the stream is.
	closed chan struct{}
}

func newLink(ctx context.Context, stream Stream, maxQueue int, timeout time.Duration) *link {
	l := &link{
		stream:  stream,
		timeout: timeout,
		out:     newOutbox[frames](maxQueue, &frameBatches),
		closed:  make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	return l
}

// err says why the link has ended.
func (l *link) err() error {
	err := context.Cause(l.ctx)
	if remote, ok := err.(*remoteEnd); ok {
		return remote.error
	}
	return err
}

// end is how to close what has ended so.
func (l *link) end() *CloseError { return endOf(context.Cause(l.ctx)) }

// A remoteEnd is an error that the transport brought: what it may say of codes, the peer
// has said, and nobody else is to be told so.
type remoteEnd struct{ error }

func (e *remoteEnd) Unwrap() error { return e.error }

// readLoop reads frames until the stream ends, and gives each to take. Before it waits
// for more bytes, it calls flush.
func (l *link) readLoop(frames *framing.Reader, take func(frame []byte) error, flush func() error) error {
	defer frames.GiveBack()
	frames.Read = func(p []byte) (int, error) {
		n, err := l.stream.Read(l.ctx, p)
		l.bytesIn.Add(uint64(n))
		if err != nil && err != io.EOF {
			err = &remoteEnd{err}
		}
		return n, err
	}
	for {
		if frames.Waits() {
			if err := flush(); err != nil {
				return err
			}
		}
		frame, err := frames.Next()
		if err != nil {
			return frameError(err)
		}
		if err := take(frame); err != nil {
			return err
		}
	}
}

// What a reader hands to the router at once at most: enough for the channel to cost
// little for each frame, few enough to hold little memory. A single frame may be more.
const (
	maxOps     = 64
	maxOpsSize = 64 << 10 // bytes of their frames
)

// frameError makes of an error in reading frames what it is to the peer.
func frameError(err error) error {
	if size, ok := err.(*framing.SizeError); ok {
		return protocolError("%v", size)
	}
	if err == io.ErrUnexpectedEOF {
		return protocolError("the stream ends inside a frame")
	}
	return err
}

// A handover is how a reader gives to its router what it has made of frames: it has two
// pieces of work, and fills one while the router has the other.
type handover[T any] struct {
	link *link
	to   chan<- *T
	free chan *T // from the router, which is done with it; capacity 2: all there are
	next *T      // being filled; nil: none
}

func newHandover[T any](l *link, to chan<- *T, one, other *T) handover[T] {
	h := handover[T]{link: l, to: to, free: make(chan *T, 2)}
	h.free <- one
	h.free <- other
	return h
}

// open returns what is being filled.
func (h *handover[T]) open() (*T, error) {
	if h.next == nil {
		select {
		case h.next = <-h.free:
		case <-h.link.ctx.Done():
			return nil, h.link.err()
		}
	}
	return h.next, nil
}

// flush hands over what there is.
func (h *handover[T]) flush() error {
	if h.next == nil {
		return nil
	}
	select {
	case h.to <- h.next:
		h.next = nil
		return nil
	case <-h.link.ctx.Done():
		return h.link.err()
	}
}

// write is the writer's goroutine: the loop, and the end of the stream. It calls
// nothing of the application, so nothing of the application can hold it up.
func (l *link) write() {
	l.cancel(l.writeLoop())
	l.shut(l.end())
}

// endOf is how to close what has ended for a reason.
func endOf(err error) *CloseError {
	_, remote := errors.AsType[*remoteEnd](err)
	switch end := closeError(err); {
	case remote:
		return &CloseError{}
	case end != nil:
		return end
	case err == io.EOF, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &CloseError{}
	default:
		return &CloseError{Code: CodeProtocol, Reason: err.Error()}
	}
}

// writeLoop writes what the router, or Spoke.Publish, hands over, as much as is
// there in one call, until the router says that this was the last or the link ends.
func (l *link) writeLoop() error {
	w := writer{link: l, stalled: time.AfterFunc(l.timeout, func() {
		l.cancel(&CloseError{Code: CodeTimeout, Reason: fmt.Sprintf("what was sent was not taken within %v", l.timeout)})
	})}
	w.stalled.Stop()
	defer w.stop()
	ready := l.ready
	for w.last == nil {
		select {
		case b := <-l.out.box:
			w.batch(b)
		case f := <-w.published:
			w.take(f)
		case <-ready:
			w.published, ready = l.published, nil
		case <-l.ctx.Done():
			return l.err()
		}
		if w.last != nil { // ready may have been passed over, and events wait for it
			select {
			case <-ready:
				w.published, ready = l.published, nil
			default:
			}
			if w.published != nil {
				drain(l.gate, w.published, w.take)
			}
		}
		w.others()
		w.flush()
		w.out.done(0, w.extra) // not before: until here their batch had a place for each
		w.extra = 0
	}
	return w.finish()
}

// A writer gathers what there is to write, in a buffer if that is more than one piece.
//
// A write that fails does not end the link: what the peer sent before it closed is
// there to be read, and the reader ends the link behind that. Until then the writer
// drops what it gets.
type writer struct {
	*link
	published <-chan frames // the link's, once that is ready, and until a write fails
	stalled   *time.Timer   // cuts the link off; runs while a write does
	failed    error
	lame      *time.Timer // ends the link where the reader does not; set with failed
	only      frames      // all that waits, while buf is nil
	buf       *[]byte     // has it otherwise; held only then
	events    int         // that wait
	extra     int         // what these, and others of their batch, cost beside their bytes
	last      *CloseError // the batch's
}

var writeBuffers = sync.Pool{New: func() any {
	buf := make([]byte, 0, gatherSize)
	return &buf
}}

// batch gathers a batch.
func (w *writer) batch(b *batch[frames]) {
	for i, f := range b.items {
		b.items[i] = frames{} // once it is written it does not count, and so must not be kept
		w.add(f)
	}
	w.last = b.last
	b.recycle()
}

// others gathers what Publish has left besides.
func (w *writer) others() {
	for n := len(w.published); n > 0 && w.failed == nil; n-- {
		w.take(<-w.published)
	}
}

// take gathers what was published.
func (w *writer) take(f frames) {
	w.link.taken.Add(int64(f.count))
	w.add(f)
}

// waiting is all that is gathered.
func (w *writer) waiting() []byte {
	if w.buf != nil {
		return *w.buf
	}
	return w.only.bytes
}

// add gathers frames. Where what waits is enough for a write by itself, or this is, it is
// written first: to copy both together would cost more than it saves.
func (w *writer) add(f frames) {
	if n := len(w.waiting()); n > 0 && n+len(f.bytes) > gatherSize {
		w.flush()
	}
	w.events += f.count
	w.extra += f.cost() - len(f.bytes)
	if len(w.waiting()) == 0 {
		w.only = f
		return
	}
	if w.buf == nil {
		w.buf = writeBuffers.Get().(*[]byte)
		*w.buf = append(*w.buf, w.only.bytes...)
	}
	*w.buf = append(*w.buf, f.bytes...)
}

// flush writes what waits.
func (w *writer) flush() {
	for rest := w.waiting(); len(rest) > 0; {
		n := min(len(rest), writeSize)
		w.write(rest[:n])
		w.out.done(0, n)
		rest = rest[n:]
	}
	w.out.done(w.events, 0)
	w.only, w.events = frames{}, 0
	if w.buf != nil {
		*w.buf = (*w.buf)[:0]
		writeBuffers.Put(w.buf)
		w.buf = nil
	}
}

func (w *writer) write(p []byte) {
	if w.failed != nil {
		return
	}
	w.stalled.Reset(w.timeout)
	n, err := w.stream.Write(w.ctx, p)
	w.bytesOut.Add(uint64(n))
	w.stalled.Stop()
	if err != nil {
		w.fail(err)
	}
}

// fail leaves the link to the reader, for a moment.
func (w *writer) fail(err error) {
	w.failed, w.published = &remoteEnd{err}, nil
	w.lame = time.AfterFunc(min(w.timeout, lameTime), func() { w.cancel(w.failed) })
}

// lameTime is how long a link goes on whose peer takes nothing any more. What has arrived is
// read in less, where the application does not hold that up.
const lameTime = time.Second

func (w *writer) stop() {
	w.stalled.Stop()
	if w.lame != nil {
		w.lame.Stop()
	}
}

// finish ends the stream with nothing lost: it waits until the peer has
// acknowledged all of it, since closing drops what is on the way.
func (w *writer) finish() error {
	if w.failed != nil {
		return w.failed
	}
	w.stalled.Reset(w.timeout)
	if err := w.stream.CloseWrite(w.ctx); err != nil {
		// What the peer said before its end the reader finds, and knows better why.
		w.fail(err)
		<-w.ctx.Done()
		return w.failed
	}
	w.handedOver.Store(true)
	return w.last
}
