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

// This file makes a Spoke's links, and holds the router's state of one link.

// keep is the keeper's goroutine. It makes a new link when one is lost.
func (s *Spoke) keep(ctx context.Context, l *link) {
	pause := s.opts.MinBackoff
	for {
		since := time.Now()
		<-l.closed
		if isClosed(s.inbox.closing) {
			return // the Spoke was closed or has ended; the router does the rest
		}
		err := l.err()
		s.logs.Add(slog.LevelInfo, "disconnected", append([]any{"hub", s.addr.ID}, reasonOf(err)...)...)
		if s.opts.NoReconnect || turnedAway(err) {
			send(s.inbox, s.inbox.failed, err)
			return
		}
		if time.Since(since) >= s.opts.MaxBackoff {
			pause = s.opts.MinBackoff // the link was stable; after a short one the pause keeps growing
		}
		if l, pause, err = s.redial(ctx, pause); err != nil {
			send(s.inbox, s.inbox.failed, err)
			return
		}
		s.logs.Add(slog.LevelInfo, "reconnected", "hub", s.addr.ID)
	}
}

// turnedAway reports whether the hub has ended an established link for good.
func turnedAway(err error) bool {
	if end := closeError(err); end != nil {
		switch end.Code {
		case CodeProtocol, CodeForbidden, CodeTooMany:
			return true
		}
	}
	return false
}

// redial dials until there is a link. It returns the link and the first pause after its loss.
// It returns an error only if further attempts are useless.
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

// dial opens a connection and a stream. A limit other than 0 bounds the time for both.
func (s *Spoke) dial(ctx context.Context, limit time.Duration) (Conn, Stream, error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	conn, err := s.endpoint.Dial(ctx, s.addr)
	if err != nil {
		// Only a closed endpoint gives net.ErrClosed without a code. But once ctx has ended,
		// a transport may return any such error.
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

// connect makes a link and returns it once the hub has acknowledged or refused all subscriptions.
// base bounds the link's life. ctx bounds the call. A limit other than 0 bounds the time to
// connect and then the wait for each answer of the hub.
func (s *Spoke) connect(ctx, base context.Context, limit time.Duration) (*link, error) {
	conn, stream, err := s.dial(ctx, limit)
	if err != nil {
		return nil, err
	}
	// The outbox carries only the Spoke's own requests, which are limited. It needs no limit.
	l := newLink(base, stream, math.MaxInt, s.opts.WriteTimeout)
	l.published, l.gate, l.ready = s.inbox.published, &s.inbox.gate, make(chan struct{})
	l.shut = func(end *CloseError) { conn.Close(end.Code, end.Reason) }
	a := newAttachment(l)
	if limit > 0 {
		a.idle = cancelAfter(limit, l.cancel, &CloseError{Code: CodeTimeout, Reason: "the hub does not answer"})
		defer a.idle.Stop()
	}
	if !send(s.inbox, s.inbox.up, a) {
		conn.Close(0, "")
		stream.Abort(0)
		l.cancel(s.inbox.cause)
		return nil, s.inbox.cause
	}

	// The reader and the writer start after the router has the attachment. Each ends the link's
	// context at its end, and with the context the other. The reader ends with an error, a bad
	// frame or the connection's close; the writer with its queue, once the hub has ended its half
	// or the WriteTimeout is over. The writer's goroutine waits for the reader. They call no
	// code of the application. The router waits for down, and the keeper for closed.
	read := make(chan struct{})
	go func() {
		s.read(a, conn)
		close(read)
	}()
	go func() {
		l.write()
		<-read
		stream.Abort(0) // nobody reads the rest
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
		return l, nil // the link was made; if it has ended since, the keeper reports that
	}
	return nil, l.err()
}

// An attachment is all state that a Spoke's router keeps for one link. It is created and
// dropped as a whole together with the link. So the state of one link is never mistaken for
// that of another.
type attachment struct {
	// Immutable.
	link *link
	idle *time.Timer // ends the link if the hub does not answer; the router or connect stops it; nil: Dial's ctx ends the link

	// Owned by the router.
	begun   bool                     // the hub has answered everything in first
	first   map[string]struct{}      // not settled yet: the greeting, and the topics from before the link
	todo    list.List                // topics to subscribe to, in this order
	place   map[string]*list.Element // the elements of todo
	asked   map[string]*asking       // topics in sent requests; nil value: acknowledged
	given   []string                 // topics to unsubscribe from
	askings map[string]*asking       // requests without an answer, by id
	most    int                      // limit of topics in the next request
}

// An asking is a __subscribe request that the hub has not answered yet.
type asking struct {
	topics []string
	sent   time.Time
}

const (
	greeting = "" // in first: the first request of a link, which has no topics

	maxRequests      = 4  // requests without an answer
	maxRequestTopics = 64 // topics in one request

	// maxRequest is how many bytes the topics of one request may have, so that the request fits
	// even a small MaxFrame of a hub. A single topic may exceed it.
	maxRequest = 4 << 10
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

// want notes a topic to subscribe to.
func (a *attachment) want(topic string) { a.place[topic] = a.todo.PushBack(topic) }

// drop notes that no Subscription has a topic any more.
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

// acked reports whether the hub has acknowledged a topic.
func (a *attachment) acked(topic string) bool {
	q, ok := a.asked[topic]
	return ok && q == nil
}

// ask puts the due requests into the outbox, up to maxRequests without an answer.
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

// fitting returns how many of the topics fit into one request that may have most topics.
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

// request sends a __subscribe. The greeting has no topics.
func (a *attachment) request(id string, topics []string) {
	q := &asking{topics, time.Now()}
	for _, topic := range topics {
		a.asked[topic] = q
	}
	a.askings[id] = q
	a.put(subscribeFrame(typeSubscribe, id, topics...))
}

// put queues a frame for the hub. The queue needs no limit, because the requests are limited.
func (a *attachment) put(frame []byte) {
	f := frames{frame, 1}
	a.link.out.push(f, f.cost(), 1)
}

// answered removes and returns the request that the hub has answered, or nil if none has this
// id.
func (a *attachment) answered(id string, limit time.Duration) *asking {
	q := a.askings[id]
	if q == nil {
		return nil
	}
	delete(a.askings, id)
	if a.idle != nil && !a.begun {
		a.idle.Reset(limit)
	}
	// A hub may take a while for each topic and answer all topics at once. So requests are
	// small until the hub is known to be fast.
	if took := time.Since(q.sent); len(q.topics) < a.most {
		// a smaller request says nothing about larger ones
	} else if took < limit/8 {
		a.most = min(a.most*2, maxRequestTopics)
	} else if took > limit/4 {
		a.most = max(a.most/2, 1)
	}
	return q
}

// begin reports, once, that the hub has answered everything in first.
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
