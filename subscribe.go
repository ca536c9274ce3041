package irohub

import (
	"iter"
	"strings"
)

// A table maps topics to subscribers and back. It is a plain value that only its router uses.
//
// The cost of a change does not depend on the table's size. A topic lists its subscribers, and
// a subscriber knows its index in each list. When it leaves a list, the last one of the list
// moves to its place.
type table struct {
	exact map[string]*topic
	types map[string]*topic // the pattern T:* under T
	list  []*topic          // those of exact and types; each knows its index
	all   topic             // listeners of this process that subscribe to everything
}

// A topic is a topic or a pattern with at least one subscriber. It is deleted with its last
// one.
type topic struct {
	name  string
	place int // index in the table's list
	subs  []*subscriber
}

// A subscriber is an entry of the table: a spoke's link or a listener of this process.
type subscriber struct {
	// Immutable. Exactly one of the two is set.
	link     *link
	listener *Subscription

	// Owned by the router.
	place   int            // a spoke's index in router.members; negative: it is not there
	at      map[*topic]int // its topics, with its index in their subs
	seen    uint64         // number of the last run it was given; a second topic does not give it again
	retired bool           // it gets no more events; the router removes it from the table
}

func newTable() table {
	return table{exact: make(map[string]*topic), types: make(map[string]*topic)}
}

const allTopics = "" // stands for all topics; the protocol has no empty topic

// home returns the map that holds a topic, and its key there.
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

// has reports whether s is subscribed to a topic.
func (t *table) has(s *subscriber, name string) bool {
	_, ok := s.at[t.find(name)] // find may return nil, which is never a key
	return ok
}

// add subscribes s to a topic. It reports whether that is new. It does nothing if s has
// retired.
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

// remove ends the subscription of s to a topic. It reports whether there was one.
func (t *table) remove(s *subscriber, name string) bool {
	top := t.find(name)
	if _, ok := s.at[top]; !ok {
		return false
	}
	t.take(s, top)
	return true
}

// drop ends up to most subscriptions of s and returns how many it ended.
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

// len counts the topics and patterns that have a subscriber; all is not one of them.
func (t *table) len() int { return len(t.list) }

// match returns the lists of subscribers for an event with this topic. A subscriber may be in
// several of the lists. The lists belong to the table.
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

// A fanout is a table, and the state of the current round: which subscribers have items that
// are not flushed to their receivers yet, and the work done.
type fanout struct {
	table   table
	event   uint64        // number of the current run
	dirty   []*subscriber // have something to flush
	full    []overfull    // have exceeded their queue's limit
	worked  uint64        // work ever done: items given, table changes, and other requests
	flushed uint64        // worked at the last flush
	changes int           // table changes since the last flush
}

// An overfull is a subscriber whose queue would have exceeded its limit, and the error for it.
type overfull struct {
	*subscriber
	slow *CloseError
}

// changeWork is the cost of a table change, where giving an item costs 1.
const changeWork = 8

// changed counts changes of the table.
func (f *fanout) changed(n int) {
	f.worked += changeWork * uint64(n)
	f.changes += n
}

// gathered returns the work since the last flush.
func (f *fanout) gathered() uint64 { return f.worked - f.flushed }

// give puts frames into a spoke's outbox. It returns false if the outbox would exceed its
// limit. The spoke must not have retired.
func (f *fanout) give(sub *subscriber, what frames) bool {
	out := &sub.link.out
	fresh, size := out.next == nil, what.cost()
	if !out.push(what, size, what.count) {
		f.exceeded(sub, out.slow(what.count, size))
		return false
	}
	f.gave(sub, fresh)
	return true
}

// tell puts a run into a listener's queue and returns how many of its events it has put. These
// are fewer than all if the queue has reached its limit.
func (f *fanout) tell(sub *subscriber, what run) (told int) {
	queue := &sub.listener.queue
	fresh := queue.next == nil
	if queue.push(what, what.cost(), what.count) {
		f.gave(sub, fresh)
		return what.count
	}
	room, least := queue.room() // put the events that still fit
	first := what.within(room, least)
	if first.count > 0 {
		queue.push(first, first.cost(), first.count)
	}
	if first.count == what.count { // the receiver has made room meanwhile
		f.gave(sub, fresh)
		return what.count
	}
	for range first.count {
		what.shift()
	}
	next := what.shift()
	f.exceeded(sub, queue.slow(1, next.cost()))
	return first.count
}

// gave notes that a subscriber has something to flush.
func (f *fanout) gave(sub *subscriber, fresh bool) {
	f.worked++
	if fresh {
		f.dirty = append(f.dirty, sub)
	}
}

// exceeded notes that a subscriber has exceeded its limit.
func (f *fanout) exceeded(sub *subscriber, slow *CloseError) {
	f.worked++
	f.full = append(f.full, overfull{sub, slow})
}

// takeFull returns the subscribers that have exceeded their limit, and forgets them. The list
// is valid until exceeded adds the next one.
func (f *fanout) takeFull() []overfull {
	full := f.full
	f.full = f.full[:0]
	return full
}

// flush hands the gathered items over to their receivers.
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

// A Subscription receives the events of its topics in this process. It has a bounded queue:
// MaxQueue bytes.
type Subscription struct {
	// Immutable.
	topics []string
	cancel chan<- *Subscription // tells the router to end the subscription
	over   <-chan struct{}      // closed when the router has ended
	queue  outbox[run]

	// Owned by the router.
	subscriber subscriber

	// Written by the router before it closes done, once.
	err  error
	done chan struct{}

	// Owned by the goroutine that ranges over Events.
	rest *batch[run] // the collected batch; nil: none
	next int         // index of the current run in it
	hand run         // the events of the current run that were not yielded yet
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

// Events iterates over the events and waits for more until the subscription ends.
// [Subscription.Err] then says why. Events that were queued before the end are still
// yielded, unless Close was called.
//
// One goroutine at a time may range over Events. After a break, the subscription stays open
// and its queue keeps filling. A new range continues with the next event.
func (s *Subscription) Events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for s.rest != nil || s.collect() {
			for s.next < len(s.rest.items) {
				if s.hand.count == 0 {
					s.hand = s.rest.items[s.next]
				}
				one := s.hand.shift()
				if s.hand.count == 0 { // only now: the last event keeps the run's memory alive
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

// collect waits for a batch. It returns false if the subscription has ended and its queue is
// empty.
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

// closed reports whether Close ended the subscription.
func (s *Subscription) closed() bool { return isClosed(s.done) && s.err == nil }

// end makes Events end. Only the router calls it, once.
func (s *Subscription) end(err error) {
	s.err = err
	close(s.done)
}

// Close ends the subscription and drops the queued events. Any goroutine may call it, more
// than once, and during a range over Events.
func (s *Subscription) Close() {
	select {
	case s.cancel <- s:
		<-s.done
	case <-s.done:
	case <-s.over:
	}
}

// Err returns why the subscription has ended:
//   - nil while it is open and after Close,
//   - [ErrHubClosed] if its hub was closed,
//   - a *[CloseError] with [CodeSlow] if more than MaxQueue bytes were queued.
//
// For a Subscription of a [Spoke], it is also the error that ended the Spoke, or an error that
// wraps [ErrForbidden] or [ErrTooMany] if the hub refused one of its topics after a reconnect.
func (s *Subscription) Err() error {
	if isClosed(s.done) {
		return s.err
	}
	return nil
}
