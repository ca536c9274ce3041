package irohub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"irohub/internal/framing"
)

// Defaults that hubs and spokes share, besides maxFrame; and the maximum of MaxFrame.
const (
	maxMaxFrame      = 1 << 30
	maxQueue         = 1 << 20
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 10 * time.Second
)

// writeSize is how many bytes a writer gives the transport in one call, at most.
const writeSize = 64 << 10

// gatherSize is how many bytes a writer copies together for one write, at most.
const gatherSize = 16 << 10

// A link is one stream with its reader and its writer. Hubs and spokes use the same links.
// A link ends with its context, which anybody may cancel. The writer then closes the stream
// with the code of the context's cause.
type link struct {
	// Immutable.
	stream    Stream
	ctx       context.Context // ends with the link
	cancel    context.CancelCauseFunc
	shut      func(*CloseError) // closes the stream, or its connection
	timeout   time.Duration     // limit for a write without progress
	published <-chan frames     // from Spoke.Publish; nil in a hub
	gate      *gate             // guards published
	ready     chan struct{}     // closed by a spoke's router once published may be written; nil in a hub

	// The router puts frames in and the writer takes them out.
	out outbox[frames]

	// Atomics.
	bytesIn  atomic.Uint64 // counted by the reader
	bytesOut atomic.Uint64 // counted by the writer

	taken      atomic.Int64 // events that the writer has taken out of published
	ended      atomic.Bool  // the peer has closed its sending half, after its last frame; set by the reader
	handedOver atomic.Bool  // the peer has acknowledged everything, including the end; set by the writer

	// Immutable too. The writer's goroutine closes it after the stream.
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

// err returns why the link has ended.
func (l *link) err() error {
	err := context.Cause(l.ctx)
	if remote, ok := err.(*remoteEnd); ok {
		return remote.error
	}
	return err
}

// end returns the code and reason to close the stream with.
func (l *link) end() *CloseError { return endOf(context.Cause(l.ctx)) }

// A remoteEnd is an error of the transport. If it has a close code, the peer sent that code.
// So this side must not send the code itself.
type remoteEnd struct{ error }

func (e *remoteEnd) Unwrap() error { return e.error }

// readLoop reads frames until the stream ends and gives each frame to take. It calls flush
// before it waits for more bytes.
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

// The limits of one batch from a reader to the router. It is large enough that the channel
// costs little for each frame, and small enough to hold little memory. A single frame may
// exceed maxOpsSize.
const (
	maxOps     = 64
	maxOpsSize = 64 << 10 // bytes of their frames
)

// frameError turns an error of the frame reader into the error that ends the link.
func frameError(err error) error {
	if size, ok := err.(*framing.SizeError); ok {
		return protocolError("%v", size)
	}
	if err == io.ErrUnexpectedEOF {
		return protocolError("the stream ends inside a frame")
	}
	return err
}

// A handover passes batches from a reader to its router. There are two batches: the reader
// fills one while the router works on the other.
type handover[T any] struct {
	link *link
	to   chan<- *T
	free chan *T // batches that the router has completed; capacity 2, for all there are
	next *T      // the batch being filled; nil: none
}

func newHandover[T any](l *link, to chan<- *T, one, other *T) handover[T] {
	h := handover[T]{link: l, to: to, free: make(chan *T, 2)}
	h.free <- one
	h.free <- other
	return h
}

// open returns the batch being filled. It waits for a free one if there is none.
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

// flush sends the batch to the router, if there is one.
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

// write is the writer's goroutine: it runs the loop and then closes the stream. It calls no
// code of the application, so the application cannot block it.
func (l *link) write() {
	l.cancel(l.writeLoop())
	l.shut(l.end())
}

// endOf returns the code and reason to close with after err.
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

// writeLoop writes the frames from the router and from Spoke.Publish. One call writes as much
// as is waiting. The loop ends when the router has sent its last batch or the link ends.
func (l *link) writeLoop() error {
	w := writer{link: l, stalled: cancelAfter(l.timeout, l.cancel, &CloseError{
		Code: CodeTimeout, Reason: fmt.Sprintf("the peer took no data within %v", l.timeout),
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
		if w.last != nil { // select may have skipped ready, and events may be waiting for it
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
		w.out.done(0, w.extra) // only now: until here each item's place in its batch held memory
		w.extra = 0
	}
	return w.finish()
}

// A writer gathers the frames for one write. It copies them into a buffer if they are more
// than one piece. Only the writer's goroutine uses this struct.
//
// A failed write does not end the link. The reader first reads what the peer sent before it
// closed, and then ends the link. Until then the writer drops what it gets.
type writer struct {
	*link
	published <-chan frames // link.published from ready on, until a write fails; else nil
	stalled   *time.Timer   // ends the link; runs during each write
	failed    error         // the first write error
	lame      *time.Timer   // ends the link if the reader does not; set together with failed
	only      frames        // all that is gathered, if buf is nil
	buf       *[]byte       // all that is gathered, from writeBuffers; nil: see only
	events    int           // gathered
	extra     int           // the cost of the items since the last report, besides their bytes
	last      *CloseError   // the last field of the last batch
}

var writeBuffers = sync.Pool{New: func() any {
	buf := make([]byte, 0, gatherSize)
	return &buf
}}

// batch gathers the frames of a batch.
func (w *writer) batch(b *batch[frames]) {
	for i, f := range b.items {
		b.items[i] = frames{} // a written item does not count in the queue, so free its memory
		w.add(f)
	}
	w.last = b.last
	b.recycle()
}

// others gathers the published frames that are waiting.
func (w *writer) others() {
	for n := len(w.published); n > 0 && w.failed == nil; n-- {
		w.take(<-w.published)
	}
}

// take gathers published frames.
func (w *writer) take(f frames) {
	w.link.taken.Add(int64(f.count))
	w.add(f)
}

// waiting returns all gathered bytes.
func (w *writer) waiting() []byte {
	if w.buf != nil {
		return *w.buf
	}
	return w.only.bytes
}

// add gathers frames. If they do not fit into gatherSize with the bytes gathered so far, add
// writes those first: copying both together would cost more than it saves.
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

// flush writes what is gathered.
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

// fail stops writing, and leaves the end of the link to the reader for up to lameTime, or for
// up to the WriteTimeout if that is shorter.
func (w *writer) fail(err error) {
	w.failed, w.published = &remoteEnd{err}, nil
	w.lame = cancelAfter(min(w.timeout, lameTime), w.cancel, w.failed)
}

// cancelAfter returns a timer that cancels a context with cause after d. It holds nothing else:
// the runtime may keep a stopped timer until its time has come, and what it holds with it.
func cancelAfter(d time.Duration, cancel context.CancelCauseFunc, cause error) *time.Timer {
	return time.AfterFunc(d, func() { cancel(cause) })
}

// lameTime is how long a link goes on after its peer has stopped taking data. That is enough
// to read what has arrived, unless the application delays the reader.
const lameTime = time.Second

func (w *writer) stop() {
	w.stalled.Stop()
	if w.lame != nil {
		w.lame.Stop()
	}
}

// finish ends the stream without loss. It waits until the peer has acknowledged everything,
// since closing drops data in transit.
func (w *writer) finish() error {
	if w.failed != nil {
		return w.failed
	}
	w.stalled.Reset(w.timeout)
	if err := w.stream.CloseWrite(w.ctx); err != nil {
		// The reader finds what the peer sent before its end, and knows better why it ended.
		w.fail(err)
		<-w.ctx.Done()
		return w.failed
	}
	w.stalled.Stop()
	w.handedOver.Store(true)
	if w.ready == nil {
		return w.last
	}
	return w.lastWord()
}

// lastWord waits for the hub's answer to the end of a Spoke's stream. The transport's
// acknowledgement alone does not say that the hub has processed the events: the hub may drop
// what it has not read. The hub ends its half once it has processed everything; the reader then
// ends the link. Events that keep coming do not extend the limit, so no hub can prevent Close.
func (w *writer) lastWord() error {
	select {
	case <-w.ctx.Done():
		return w.err()
	case <-time.After(w.timeout):
		return &CloseError{Code: CodeTimeout, Reason: fmt.Sprintf("the hub did not end its stream within %v", w.timeout)}
	}
}
