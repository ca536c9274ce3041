package irohub

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"irohub/internal/jsonscan"
)

// This file is how a Spoke comes by its links, and what its router has of one.

// keep is the keeper's goroutine: it sees to it that there is a link.
func (s *Spoke) keep(ctx context.Context, l *link) {
	pause := s.opts.MinBackoff
	for {
		since := time.Now()
		<-l.closed
		if isClosed(s.inbox.closing) {
			return // it was closed on purpose, or has ended; the router sees to the rest
		}
		err := l.err()
		s.logs.Add(slog.LevelInfo, "disconnected", append([]any{"hub", s.addr.ID}, reasonOf(err)...)...)
		if s.opts.NoReconnect || turnedAway(err) {
			send(s.inbox, s.inbox.failed, err)
			return
		}
		if time.Since(since) >= s.opts.MaxBackoff {
			pause = s.opts.MinBackoff // it held; a link that never does is not to hammer
		}
		if l, pause, err = s.redial(ctx, pause); err != nil {
			send(s.inbox, s.inbox.failed, err)
			return
		}
		s.logs.Add(slog.LevelInfo, "reconnected", "hub", s.addr.ID)
	}
}

// turnedAway says whether the hub has ended an established link for good.
func turnedAway(err error) bool {
	if end := closeError(err); end != nil {
		switch end.Code {
		case CodeProtocol, CodeForbidden, CodeTooMany:
			return true
		}
	}
	return false
}

// redial dials until there is a link. It returns the pause that the next loss begins
// with, and an error only where it is of no use to go on.
func (s *Spoke) redial(ctx context.Context, pause time.Duration) (*link, time.Duration, error) {
	for {
		select {
		case <-time.After(pause - time.Duration(rand.Int64N(int64(pause)/2+1))):
		case <-s.inbox.done:
			return nil, 0, s.inbox.cause
		}
		l, err := s.connect(ctx, ctx, s.opts.HandshakeTimeout)
		pause = min(2*pause, s.opts.MaxBackoff)
		if err == nil {
			return l, pause, nil
		}
		if errors.Is(err, errEndpointClosed) {
			return nil, 0, err
		}
		s.logs.Add(slog.LevelDebug, "dialing failed", "hub", s.addr.ID, "err", err)
		if end := closeError(err); end != nil {
			switch end.Code {
			case CodeProtocol, CodeForbidden:
				return nil, 0, err
			case CodeTooMany:
				pause = s.opts.MaxBackoff
			}
		}
	}
}

var errEndpointClosed = errors.New("irohub: the endpoint of the spoke is closed")

// dial makes a connection with a stream, within the limit if that is not 0.
func (s *Spoke) dial(ctx context.Context, limit time.Duration) (Conn, Stream, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	conn, err := s.endpoint.Dial(ctx, s.addr)
	if err != nil {
		// A peer that closes has a code; what a context ends may close anything.
		if errors.Is(err, net.ErrClosed) && closeError(err) == nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errEndpointClosed, err)
		}
		return nil, nil, err
	}
	stream, err := conn.OpenStream(ctx)
	if err != nil {
		conn.Close(0, "")
		return nil, nil, err
	}
	return conn, stream, nil
}

// connect makes a link and returns it once the hub has acknowledged all subscriptions.
// base bounds the link's life, and ctx the call; so does a limit that is not 0, while
// nothing moves.
func (s *Spoke) connect(ctx, base context.Context, limit time.Duration) (*link, error) {
	conn, stream, err := s.dial(ctx, limit)
	if err != nil {
		return nil, err
	}
	// The outbox carries the Spoke's own requests alone, and needs no limit.
	l := newLink(base, stream, math.MaxInt, s.opts.WriteTimeout)
	l.published, l.gate, l.ready = s.inbox.published, &s.inbox.gate, make(chan struct{})
	l.shut = func(end *CloseError) { conn.Close(end.Code, end.Reason) }
	a := newAttachment(l)
	if limit > 0 {
		a.idle = time.AfterFunc(limit, func() {
			l.cancel(&CloseError{Code: CodeTimeout, Reason: "the hub does not answer"})
		})
		defer a.idle.Stop()
	}
	if !send(s.inbox, s.inbox.up, a) {
		conn.Close(0, "")
		stream.Abort(0)
		l.cancel(s.inbox.cause)
		return nil, s.inbox.cause
	}

	// The reader, and the writer, which waits for it: not before the router has the
	// attachment. Both are ended by the link's context, and nothing of the application is
	// called on them; the router waits for the writer's down, the keeper for closed.
	read := make(chan struct{})
	go func() {
		s.read(a, conn)
		close(read)
	}()
	go func() {
		l.write()
		<-read
		stream.Abort(0) // whatever can be read of it yet, nobody will
		send(s.inbox, s.inbox.down, a)
		close(l.closed)
	}()
	select {
	case <-l.ready:
		return l, nil
	case <-ctx.Done():
		if !isClosed(l.ready) {
			l.cancel(ctx.Err())
		}
	case <-l.ctx.Done():
	}
	if !isClosed(l.ready) {
		<-l.closed
	}
	if isClosed(l.ready) {
		return l, nil // it was made, and if it has ended, that is to be told of
	}
	return nil, l.err()
}

// An attachment is all that a Spoke's router has of one link. It is made with the link and
// dropped with it, as a whole, so that nothing of one link can be taken for another's.
type attachment struct {
	link *link
	idle *time.Timer // ends the link unless the hub answers; nil: the caller of Dial does

	// Owned by the router.
	begun   bool                     // the hub has answered all that was to be asked first
	first   map[string]struct{}      // what that is: the topics there were, and greeting, without what is settled
	todo    list.List                // topics to ask for, in this order
	place   map[string]*list.Element // theirs in todo
	asked   map[string]*asking       // topics that the hub was asked for; nil: it has acknowledged
	given   []string                 // topics to tell the hub that nobody wants them any more
	askings map[string]*asking       // what it has not answered, by id
	most    int                      // topics that the next request may have
}

// An asking is a __subscribe that waits for the hub's answer.
type asking struct {
	topics []string
	sent   time.Time
}

const (
	greeting = "" // among topics: the first request, which names none

	maxRequests      = 4       // not answered at a time
	maxRequestTopics = 64      // of one
	maxRequest       = 4 << 10 // bytes of one, but for a single topic: no more than a small MaxFrame of a hub
)

func newAttachment(l *link) *attachment {
	return &attachment{
		link:    l,
		first:   make(map[string]struct{}),
		place:   make(map[string]*list.Element),
		asked:   make(map[string]*asking),
		askings: make(map[string]*asking),
		most:    1,
	}
}

// want notes a topic to ask for.
func (a *attachment) want(topic string) { a.place[topic] = a.todo.PushBack(topic) }

// drop notes that nobody wants a topic any more.
func (a *attachment) drop(topic string) {
	delete(a.first, topic)
	if e, ok := a.place[topic]; ok {
		a.todo.Remove(e)
		delete(a.place, topic)
	} else if _, ok := a.asked[topic]; ok {
		delete(a.asked, topic)
		a.given = append(a.given, topic)
	}
}

// acked says whether the hub has acknowledged a topic.
func (a *attachment) acked(topic string) bool {
	q, ok := a.asked[topic]
	return ok && q == nil
}

// ask puts into the outbox what there is to ask for, as far as it may be now.
func (a *attachment) ask(newID func() string) {
	for len(a.given) > 0 {
		n := fitting(slices.Values(a.given), maxRequestTopics)
		a.put(subscribeFrame(typeUnsubscribe, "", a.given[:n]...))
		a.given = a.given[n:]
	}
	a.given = nil
	for a.todo.Len() > 0 && len(a.askings) < maxRequests {
		topics := make([]string, 0, fitting(a.waiting, a.most))
		for range cap(topics) {
			topic := a.todo.Remove(a.todo.Front()).(string)
			delete(a.place, topic)
			topics = append(topics, topic)
		}
		a.request(newID(), topics)
	}
	a.link.out.flush()
}

// waiting iterates over todo.
func (a *attachment) waiting(yield func(string) bool) {
	for e := a.todo.Front(); e != nil && yield(e.Value.(string)); e = e.Next() {
	}
}

// fitting says how many of the topics go into one request.
func fitting(topics func(func(string) bool), most int) int {
	n, size := 0, 0
	for topic := range topics {
		size += len(jsonscan.AppendQuoted(nil, topic)) + 1
		if n == most || n > 0 && size > maxRequest {
			break
		}
		n++
	}
	return n
}

// request asks for topics, or greets with none.
func (a *attachment) request(id string, topics []string) {
	q := &asking{topics, time.Now()}
	for _, topic := range topics {
		a.asked[topic] = q
	}
	a.askings[id] = q
	a.put(subscribeFrame(typeSubscribe, id, topics...))
}

// put queues a frame for the hub. The queue needs no limit: the requests have one.
func (a *attachment) put(frame []byte) {
	f := frames{frame, 1}
	a.link.out.push(f, f.cost(), 1)
}

// answered takes the request that the hub has answered out; nil: there is none of this id.
func (a *attachment) answered(id string, limit time.Duration) *asking {
	q := a.askings[id]
	if q == nil {
		return nil
	}
	delete(a.askings, id)
	if a.idle != nil && !a.begun {
		a.idle.Reset(limit)
	}
	// A hub may take a while for each topic, and answer all that it has at once: requests are
	// small, until it is known to be fast.
	if took := time.Since(q.sent); len(q.topics) < a.most {
		// tells nothing of larger ones
	} else if took < limit/8 {
		a.most = min(a.most*2, maxRequestTopics)
	} else if took > limit/4 {
		a.most = max(a.most/2, 1)
	}
	return q
}

// begin says that the hub has answered all that was to be asked first, if it has now.
func (a *attachment) begin() bool {
	if a.begun || len(a.first) > 0 {
		return false
	}
	a.begun = true
	if a.idle != nil {
		a.idle.Stop()
	}
	return true
}
