package irohub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"irohub/internal/framing"
	"irohub/internal/words"
)

// arrivals are a batch of events and answers that a reader sends to the router.
type arrivals struct {
	from  *spokeReader
	items []arrival
	count int     // frames in items
	text  *[]byte // the pooled buffer of their events; nil: none
}

// An arrival is a run of events or the hub's answer to a request.
type arrival struct {
	run     run      // valid until recycle; empty: an answer
	id      string   // the answer's id
	refusal *refusal // nil: an acknowledgement
}

// event adds the frame of an event whose topic, sender and payload offset are those of like.
// It appends the frame to the last run, if it goes with that run and the run stays within
// MaxBuffer.
func (a *arrivals) event(like *run, frame []byte) {
	a.count++
	if a.text == nil {
		a.text = encodeBuffers.Get().(*[]byte)
	}
	start := len(*a.text)
	*a.text = append(*a.text, frame...)
	own := (*a.text)[start:]
	if n := len(a.items); n > 0 {
		last := &a.items[n-1].run
		if len(last.bytes)+len(own) <= framing.MaxBuffer && last.goesWith(like) && last.follows(own) { // an answer has no topic
			last.bytes = last.bytes[:len(last.bytes)+len(own)]
			last.count++
			return
		}
	}
	next := arrival{run: *like}
	next.run.frames = frames{own, 1}
	a.items = append(a.items, next)
}

func (a *arrivals) recycle() {
	clear(a.items) // or the array would keep their contents alive
	a.items, a.count = a.items[:0], 0
	if a.text != nil {
		recycleText(a.text)
		a.text = nil
	}
}

// maxID is the maximal length of a request's id: a uint64 in decimal.
const maxID = 20

// answer adds the answer to a request.
func (a *arrivals) answer(id []byte, refusal *refusal) {
	a.count++
	if len(id) > maxID {
		return // none of our requests has this id
	}
	a.items = append(a.items, arrival{id: string(id), refusal: refusal})
}

// read is the reader's goroutine. It passes the hub's frames to the router.
func (s *Spoke) read(a *attachment, conn Conn) {
	l, r := a.link, &spokeReader{on: a}
	r.work = newHandover(l, s.inbox.inbound, &arrivals{from: r}, &arrivals{from: r})
	err := l.readLoop(&framing.Reader{Max: s.opts.MaxFrame}, r.take, r.work.flush)
	if err == io.EOF {
		l.ended.Store(true)
		// The hub has ended the stream. It will say why when it closes the connection.
		ctx, cancel := context.WithTimeoutCause(l.ctx, s.opts.WriteTimeout, &CloseError{Code: CodeTimeout, Reason: "the hub ended its stream but did not close the connection"})
		if err = conn.Wait(ctx); ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		cancel()
	}
	l.cancel(err)
}

// A spokeReader turns frames into arrivals.
type spokeReader struct {
	on     *attachment
	work   handover[arrivals]
	topics namer
	last   run    // the last event, without its frame
	prefix []byte // the part of its frame's body before the payload; empty: not remembered
}

// maxPrefix is the maximal size of prefix. The frames of a well-behaved hub need less.
const maxPrefix = maxTopic + 256

// take adds one frame to the arrivals.
func (r *spokeReader) take(frame []byte) error {
	next, err := r.work.open()
	if err != nil {
		return err
	}
	if body := frame[headerSize:]; r.again(body) {
		next.event(&r.last, frame)
	} else {
		env, plain := parsePlain(body)
		if !plain {
			if env, err = parseAny(body); err != nil {
				return err
			}
		}
		switch {
		case !env.isControl():
			if frame, err = r.event(&env, frame, plain); err != nil {
				return err
			}
			next.event(&r.last, frame)
		case string(env.typ) == typeAck:
			next.answer(env.id, nil)
		case string(env.typ) == typeError:
			next.answer(env.id, parseRefusal(env.payload))
		}
		// Other control events belong to later versions of the protocol. Ignore them.
	}
	if next.count >= maxOps {
		return r.work.flush()
	}
	return nil
}

// again reports whether a frame is valid and equal to the last event's frame up to the
// payload. Successive events often are. Then only the payload must be checked.
func (r *spokeReader) again(body []byte) bool {
	n := len(r.prefix)
	if n == 0 || len(body) < n || string(body[:n]) != string(r.prefix) {
		return false
	}
	_, ok := lastPayload(body, n)
	return ok
}

// event notes an envelope as the last event and returns its frame. If the hub has not written
// the frame in the form of appendFrame, event returns a new frame in that form.
func (r *spokeReader) event(env *envelope, frame []byte, plain bool) ([]byte, error) {
	from, err := env.sender()
	if err != nil {
		return nil, err
	}
	topic := r.topics.name(env.typ, env.id)
	r.prefix = r.prefix[:0]
	if !plain {
		frame, r.last = appendRun(nil, topic, env.payload, from)
		r.last.frames = frames{}
		return frame, nil
	}
	r.last = run{topic: topic, from: from}
	if n := len(frame) - 1 - len(env.payload); len(env.payload) > 0 {
		r.last.payload = n
		if prefix := frame[headerSize:n]; len(prefix) <= maxPrefix {
			r.prefix = append(r.prefix, prefix...)
		}
	}
	return frame, nil
}

// A refusal is a hub's __error.
type refusal struct {
	topic string
	err   error
}

func (r *refusal) error() error {
	if r == nil {
		return nil
	}
	return r.err
}

// parseRefusal parses the payload of an __error.
func parseRefusal(payload []byte) *refusal {
	var said struct{ Code, Topic, Message string }
	if json.Unmarshal(payload, &said) != nil {
		return &refusal{err: fmt.Errorf("%w: the hub sent a refusal that cannot be read", ErrInvalid)}
	}
	kind := ErrInvalid
	switch said.Code {
	case refusedForbidden:
		kind = ErrForbidden
	case refusedTooMany:
		kind = ErrTooMany
	}
	topic := said.Topic[:min(len(said.Topic), maxTopic)]
	return &refusal{strings.Clone(topic), fmt.Errorf("%w: topic %q: %s", kind, topic, words.Printable(said.Message))}
}
