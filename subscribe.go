package irohub

import (
	"iter"
	"strings"
)

// A table knows who is subscribed to what. It is a plain value that its router
// alone touches.
//
// Every change costs the same however large the table is: a topic lists its
// subscribers, and a subscriber knows where it stands in each list, so that
// leaving means to put the list's last one in its place.
type table struct {
	exact map[string]*topic
	types map[string]*topic // T:* under T
	list  []*topic          // those of both, each of which knows its place
	all   topic             // local listeners of everything
}

// A topic is what somebody is subscribed to; it is gone when nobody is.
type topic struct {
	name  string
	place int // in the table's list
	subs  []*subscriber
}

// A subscriber is one side of the table: a spoke's link, or a listener of this process.
type subscriber struct {
	// Immutable. Exactly one of the two is set.
	link     *link
	listener *Subscription

	// Owned by the router.
	place   int            // a spoke's, among those of its hub; negative: it is not there
	at      map[*topic]int // where it stands in each of its topics' subs
	seen    uint64         // number of the last events it was given, so that two topics give them once
	retired bool           // it gets nothing any more, and is to be taken out of the table
}

func newTable() table {
	return table{exact: make(map[string]*topic), types: make(map[string]*topic)}
}

const allTopics = "" // names no topic of the protocol

// home is the map that holds a topic, and its key there.
func (t *table) home(name string) (map[string]*topic, string) {
	if typ, ok := strings.CutSuffix(name, ":*"); ok && !strings.Contains(typ, ":") {
		return t.types, typ
	}
	return t.exact, name
}

func (t *table) find(name string) *topic {
	if name == allTopics {
		return &t.all
	}
	topics, key := t.home(name)
	return topics[key]
}

// has says whether s is subscribed to a topic.
func (t *table) has(s *subscriber, name string) bool {
	_, ok := s.at[t.find(name)] // where nobody has the topic, nil is in no map
	return ok
}

// add subscribes s; it says whether the topic was a new one to s. Nobody is added who is
// not there any more.
func (t *table) add(s *subscriber, name string) bool {
	if s.retired {
		return false
	}
	top := t.find(name)
	if top == nil {
		top = &topic{name: name, place: len(t.list)}
		t.list = append(t.list, top)
		topics, key := t.home(name)
		topics[key] = top
	}
	if _, ok := s.at[top]; ok {
		return false
	}
	if s.at == nil {
		s.at = make(map[*topic]int)
	}
	s.at[top] = len(top.subs)
	top.subs = append(top.subs, s)
	return true
}

// remove ends the subscription of s to a topic; it says whether there was one.
func (t *table) remove(s *subscriber, name string) bool {
	top := t.find(name)
	if _, ok := s.at[top]; !ok {
		return false
	}
	t.take(s, top)
	return true
}

// drop ends subscriptions of s, so many at most, and returns how many.
func (t *table) drop(s *subscriber, most int) (dropped int) {
	for top := range s.at {
		if dropped == most {
			break
		}
		t.take(s, top)
		dropped++
	}
	return dropped
}

func (t *table) take(s *subscriber, top *topic) {
	i, last := s.at[top], len(top.subs)-1
	moved := top.subs[last]
	top.subs[i], moved.at[top] = moved, i
	top.subs[last] = nil
	top.subs = top.subs[:last]
	delete(s.at, top)
	if last == 0 && top != &t.all {
		topics, key := t.home(top.name)
		delete(topics, key)
		last := len(t.list) - 1
		moved := t.list[last]
		t.list[top.place], moved.place = moved, top.place
		t.list[last] = nil
		t.list = t.list[:last]
	}
}

// len counts the topics that somebody is subscribed to by name.
func (t *table) len() int { return len(t.list) }

// match returns the lists of those who are to get an event: no list twice, but a
// subscriber may stand in several. The lists are the table's own.
func (t *table) match(name string) [3][]*subscriber {
	lists := [3][]*subscriber{2: t.all.subs}
	if top := t.exact[name]; top != nil {
		lists[0] = top.subs
	}
	typ, _, _ := strings.Cut(name, ":")
	if top := t.types[typ]; top != nil {
		lists[1] = top.subs
	}
	return lists
}

// A fanout is a table, and what its router has gathered for the subscribers since it
// flushed their outboxes.
type fanout struct {
	table   table
	event   uint64        // number of the events in hand
	dirty   []*subscriber // have something to flush
	full    []*subscriber // are over their limit
	worked  uint64        // done ever: items given, changes of the table, and what else was asked for
	flushed uint64        // of it, up to the last flush
	changes int           // of the table since then
}

// changeWork is what a change of the table costs, in items given.
const changeWork = 8

// changed counts changes of the table.
func (f *fanout) changed(n int) {
	f.worked += changeWork * uint64(n)
	f.changes += n
}

// gathered is the work since the last flush.
func (f *fanout) gathered() uint64 { return f.worked - f.flushed }

// give puts frames into a spoke's outbox; false: that is over its limit. No frames are for one
// that has retired.
func (f *fanout) give(sub *subscriber, what frames) bool {
	out := &sub.link.out
	fresh := out.next == nil
	return f.mark(sub, fresh, out.push(what, what.cost(), what.count))
}

// tell puts a run into a listener's queue, and returns how many of its events: fewer than all,
// if the queue is over its limit then.
func (f *fanout) tell(sub *subscriber, what run) (told int) {
	queue := &sub.listener.queue
	fresh, all := queue.next == nil, what.count
	if !queue.push(what, what.cost(), all) {
		room, least := queue.room() // what still has room, or an event by itself
		if what = what.within(room, least); what.count > 0 {
			queue.push(what, what.cost(), what.count)
		}
	}
	f.mark(sub, fresh, what.count == all)
	return what.count
}

// mark notes who has something to flush, and who was over its limit.
func (f *fanout) mark(sub *subscriber, fresh, ok bool) bool {
	f.worked++
	switch {
	case !ok:
		f.full = append(f.full, sub)
	case fresh:
		f.dirty = append(f.dirty, sub)
	}
	return ok
}

// takeFull returns those who are over their limit, once. The list is good until the
// next one is noted.
func (f *fanout) takeFull() []*subscriber {
	full := f.full
	f.full = f.full[:0]
	return full
}

// flush hands over what has been gathered.
func (f *fanout) flush() {
	for _, sub := range f.dirty {
		if sub.link != nil {
			sub.link.out.flush()
		} else {
			sub.listener.queue.flush()
		}
	}
	clear(f.dirty)
	f.dirty, f.flushed, f.changes = f.dirty[:0], f.worked, 0
}

// A Subscription is a listener in this process: a subscriber like any other, with
// a bounded queue of its own.
type Subscription struct {
	// Immutable.
	topics []string
	cancel chan<- *Subscription // to the router
	over   <-chan struct{}      // closed when the router is gone
	queue  outbox[run]

	// Owned by the router.
	subscriber subscriber

	// Written by the router before it closes done, once.
	err  error
	done chan struct{}

	// Owned by the goroutine that ranges over Events.
	rest *batch[run] // what it has collected
	next int         // of these, the run in hand
	hand run         // what has not come out of that; empty: none is
}

func newSubscription(topics []string, limit int, cancel chan<- *Subscription, over <-chan struct{}) *Subscription {
	s := &Subscription{
		topics: topics,
		cancel: cancel,
		over:   over,
		queue:  newOutbox[run](limit, &runBatches),
		done:   make(chan struct{}),
	}
	s.subscriber.listener = s
	return s
}

// Events iterates over the events as they come, and waits for more until the
// subscription ends; [Subscription.Err] then says why. What was queued before that
// end still comes, unless the end is Close.
//
// One goroutine at a time may range over Events. A break leaves the subscription
// open and its queue filling: range again to go on behind the last event.
func (s *Subscription) Events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for s.rest != nil || s.collect() {
			for s.next < len(s.rest.items) {
				if s.hand.count == 0 {
					s.hand = s.rest.items[s.next]
				}
				one := s.hand.shift()
				if s.hand.count == 0 { // not before: the memory is there until the last is out
					used := &s.rest.items[s.next]
					s.queue.done(used.count, used.cost())
					*used, s.hand = run{}, run{}
					s.next++
				}
				if s.closed() || !yield(one.event()) {
					return
				}
			}
			s.rest.recycle()
			s.rest, s.next = nil, 0
		}
	}
}

// collect waits for a batch; false: the subscription has ended and its queue is empty.
func (s *Subscription) collect() bool {
	select {
	case s.rest = <-s.queue.box:
	case <-s.done:
		select {
		case s.rest = <-s.queue.box:
		default:
		}
	}
	return s.rest != nil
}

// closed says whether Close ended the subscription.
func (s *Subscription) closed() bool { return isClosed(s.done) && s.err == nil }

// end is the router's: it makes Events end.
func (s *Subscription) end(err error) {
	s.err = err
	close(s.done)
}

// Close ends the subscription and drops what is queued. It may be called by any
// goroutine, also more than once and while Events is being ranged over.
func (s *Subscription) Close() {
	select {
	case s.cancel <- s:
		<-s.done
	case <-s.done:
	case <-s.over:
	}
}

// Err says why the subscription has ended: nil while it is open and after Close,
// [ErrHubClosed] when its hub was closed, a *[CloseError] with [CodeSlow] when more
// than MaxQueue bytes were waiting; and for a [Spoke]'s, what ended the Spoke, or an
// error that wraps [ErrForbidden] or [ErrTooMany] if the hub refused one of its
// topics after a reconnect.
func (s *Subscription) Err() error {
	if isClosed(s.done) {
		return s.err
	}
	return nil
}
