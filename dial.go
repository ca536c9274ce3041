package irohub

import (
	"container/list"
	"slices"
	"time"

	"irohub/internal/jsonscan"
)

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
