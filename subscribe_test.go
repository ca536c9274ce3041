package irohub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"irohub/internal/framing"
)

// A tableModel is a simple model of a table: the subscriptions of each subscriber.
type tableModel struct {
	table table
	subs  []*subscriber
	has   []map[string]bool // by subscriber; allTopics among them
}

func newTableModel(subscribers int) *tableModel {
	m := &tableModel{table: newTable()}
	for range subscribers {
		m.subs = append(m.subs, &subscriber{listener: &Subscription{}})
		m.has = append(m.has, make(map[string]bool))
	}
	return m
}

func (m *tableModel) add(t *testing.T, who int, name string) {
	t.Helper()
	if got, want := m.table.add(m.subs[who], name), !m.has[who][name]; got != want {
		t.Fatalf("add(%d, %q) is %v, want %v", who, name, got, want)
	}
	m.has[who][name] = true
}

func (m *tableModel) remove(t *testing.T, who int, name string) {
	t.Helper()
	if got, want := m.table.remove(m.subs[who], name), m.has[who][name]; got != want {
		t.Fatalf("remove(%d, %q) is %v, want %v", who, name, got, want)
	}
	delete(m.has[who], name)
}

func (m *tableModel) drop(who int) {
	m.table.drop(m.subs[who], math.MaxInt)
	clear(m.has[who])
}

// wants reports, by docs/protocol.md, whether a subscription matches an event's topic.
func wants(subscription, topic string) bool {
	if subscription == allTopics || subscription == topic {
		return true
	}
	typ, pattern := strings.CutSuffix(subscription, ":*")
	return pattern && !strings.Contains(typ, ":") && (topic == typ || strings.HasPrefix(topic, typ+":"))
}

// check compares the table with the model and checks the table's invariants.
func (m *tableModel) check(t *testing.T, names ...string) {
	t.Helper()
	counts := make(map[string]int)
	for who, has := range m.has {
		if len(m.subs[who].at) != len(has) {
			t.Fatalf("subscriber %d stands in %d topics, want %d", who, len(m.subs[who].at), len(has))
		}
		for name := range has {
			if name != allTopics {
				counts[name]++
			}
		}
		for _, name := range names {
			if got := m.table.has(m.subs[who], name); got != has[name] {
				t.Fatalf("has(%d, %q) is %v, want %v", who, name, got, has[name])
			}
		}
	}
	if got := m.table.counts(); !maps.Equal(got, counts) {
		t.Fatalf("topics are %v, want %v", got, counts)
	}
	if m.table.len() != len(counts) {
		t.Fatalf("len is %d, want %d", m.table.len(), len(counts))
	}

	// Topics and subscribers agree on each index. The spare part of a list's array keeps no
	// former subscriber alive.
	lists := []*topic{&m.table.all}
	lists = slices.AppendSeq(lists, maps.Values(m.table.exact))
	lists = slices.AppendSeq(lists, maps.Values(m.table.types))
	for _, top := range lists {
		if len(top.subs) == 0 && top != &m.table.all {
			t.Fatalf("topic %q is left empty", top.name)
		}
		for i, sub := range top.subs {
			if at, ok := sub.at[top]; !ok || at != i {
				t.Fatalf("topic %q: the subscriber at %d says it stands at %d, %v", top.name, i, at, ok)
			}
		}
		for _, sub := range top.subs[len(top.subs):cap(top.subs)] {
			if sub != nil {
				t.Fatalf("topic %q keeps one who has left", top.name)
			}
		}
	}

	for _, name := range names {
		if name == allTopics {
			continue
		}
		got := make(map[*subscriber]int)
		for _, list := range m.table.match(name) {
			once := make(map[*subscriber]bool)
			for _, sub := range list {
				if once[sub] {
					t.Fatalf("topic %q: a subscriber stands in one list twice", name)
				}
				once[sub] = true
				got[sub]++
			}
		}
		for who, sub := range m.subs {
			n := 0
			for subscription := range m.has[who] {
				if wants(subscription, name) {
					n++
				}
			}
			if got[sub] != n {
				t.Fatalf("topic %q: subscriber %d with %v stands in %d lists, want %d", name, who, m.has[who], got[sub], n)
			}
		}
	}
}

func TestTable_Match(t *testing.T) {
	for _, tc := range []struct {
		subscription, topic string
		match               bool
	}{
		{"t", "t", true},
		{"t", "u", false},
		{"t", "t:i", false},
		{"t:i", "t:i", true},
		{"t:i", "t", false},
		{"t:i", "t:i:j", false},
		{"t:i", "t:j", false},
		{"T", "t", false},
		{"t:*", "t", true},
		{"t:*", "t:i", true},
		{"t:*", "t:i:j", true},
		{"t:*", "t:*", true},
		{"t:*", "t:", true},
		{"t:*", "tt", false},
		{"t:*", "tt:i", false},
		{"t:*", "u:t", false},
		{"t:*", "T:i", false},
		{"t", "t:*", false},
		{"a:b:*", "a:b:*", true}, // a name like any other, as its type part has a colon
		{"a:b:*", "a:b", false},
		{"a:b:*", "a:b:c", false},
		{"a:*", "a:b:*", true},
		{"*", "*", true},
		{"*", "t", false},
		{"*:*", "*", true},
		{"*:*", "*:i", true},
		{"*:*", "t:i", false},
		{"t*", "t1", false},
		{"t:i*", "t:i1", false},
		{":*", ":i", true}, // the type part before a first colon may be empty
		{":*", ":", true},
		{":*", "t", false},
		{":*", "t:i", false},
		{":", ":", true},
		{"t:", "t", false},
		{"direct:*", "direct:00", true},
		{allTopics, "t", true},
		{allTopics, "a:b:c", true},
		{allTopics, "*", true},
	} {
		if wants(tc.subscription, tc.topic) != tc.match {
			t.Errorf("the model is wrong about %q and %q", tc.subscription, tc.topic)
		}
		m := newTableModel(2)
		m.add(t, 0, tc.subscription)
		m.add(t, 1, "another")
		got := slices.Concat(expand(m.table.match(tc.topic))...)
		if want := []*subscriber{m.subs[0]}; tc.match && !slices.Equal(got, want) || !tc.match && len(got) != 0 {
			t.Errorf("subscription %q, event %q: goes to %d, want %v", tc.subscription, tc.topic, len(got), tc.match)
		}
		m.check(t, tc.subscription, tc.topic)
		m.remove(t, 0, tc.subscription)
		m.check(t, tc.subscription, tc.topic)
	}
}

func expand(lists [3][]*subscriber) [][]*subscriber { return lists[:] }

// A subscriber with three matching subscriptions is in three lists. The router ensures that it
// gets an event once.
func TestTable_ExactTypeAndAllAreDifferentLists(t *testing.T) {
	m := newTableModel(1)
	for _, name := range []string{"t:i", "t:*", allTopics} {
		m.add(t, 0, name)
		m.add(t, 0, name)
	}
	for i, list := range m.table.match("t:i") {
		if len(list) != 1 {
			t.Errorf("list %d has %d", i, len(list))
		}
	}
	m.check(t, "t:i", "t:*", allTopics, "t")
}

func TestTable_AllTopicsIsNoTopic(t *testing.T) {
	m := newTableModel(2)
	m.remove(t, 0, allTopics)
	m.add(t, 0, allTopics)
	m.add(t, 1, allTopics)
	if m.table.len() != 0 {
		t.Errorf("len is %d", m.table.len())
	}
	m.check(t, allTopics, "t")
	m.remove(t, 0, allTopics)
	m.remove(t, 0, allTopics)
	m.check(t, allTopics, "t")
	m.drop(1)
	m.add(t, 0, allTopics) // the list itself remains
	m.check(t, allTopics, "t")
}

// Dropping an unknown subscriber, or removing an unknown topic, changes nothing.
func TestTable_Unknown(t *testing.T) {
	m := newTableModel(2)
	m.drop(0)
	m.remove(t, 0, "t")
	m.remove(t, 0, "t:*")
	m.add(t, 1, "t")
	m.remove(t, 0, "t")
	m.check(t, "t", "t:*")
}

// The cost of a change does not grow with the table: only the list's last subscriber
// moves.
func TestTable_LeavingMovesOnlyTheLast(t *testing.T) {
	const n = 100
	for _, leaver := range []int{0, 1, n / 2, n - 2, n - 1} {
		m := newTableModel(n)
		for who := range n {
			m.add(t, who, "t")
		}
		want := slices.Clone(m.table.match("t")[0])
		want[leaver] = want[n-1]
		want = want[:n-1]
		m.remove(t, leaver, "t")
		if got := m.table.match("t")[0]; !slices.Equal(got, want) {
			t.Errorf("after %d has left, others than the last have moved", leaver)
		}
		m.check(t, "t")
	}
}

func TestTable_RandomOperations(t *testing.T) {
	names := []string{allTopics, "t", "t:i", "t:j", "t:*", "u", "u:*", "a:b", "a:b:*", "a:*", "*", ":*", ":x"}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		m := newTableModel(1 + rnd.IntN(12))
		for range 400 {
			who, name := rnd.IntN(len(m.subs)), names[rnd.IntN(len(names))]
			switch rnd.IntN(10) {
			case 0:
				m.drop(who)
			case 1, 2, 3, 4:
				m.remove(t, who, name)
			default:
				m.add(t, who, name)
			}
			m.check(t, names...)
		}
		for who := range m.subs {
			m.drop(who)
		}
		m.check(t, names...)
		if n := len(m.table.exact) + len(m.table.types) + len(m.table.all.subs); n != 0 {
			t.Errorf("%d topics are left when all have gone", n)
		}
	}
}

// FuzzTable reads each three bytes as an operation, a subscriber and a topic.
func FuzzTable(f *testing.F) {
	f.Add([]byte("\x00\x00\x01\x00\x01\x01\x00\x02\x01\x01\x00\x01\x02\x02\x00"), "t", "i")
	f.Add([]byte("\x00\x00\x04\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x01\x04"), "a:b", "*")
	f.Add([]byte("\x00\x00\x05\x00\x01\x05\x01\x00\x05\x00\x00\x06\x02\x01\x00"), "", ":*")
	f.Fuzz(func(t *testing.T, ops []byte, typ, id string) {
		// All critical names that can be made of two parts.
		names := []string{allTopics, "t", "t:i", "t:*", typ, typ + ":" + id, typ + ":*", typ + ":" + id + ":*", id, id + ":*", "*", ":*"}
		m := newTableModel(5)
		for ; len(ops) >= 3; ops = ops[3:] {
			who, name := int(ops[1])%len(m.subs), names[int(ops[2])%len(names)]
			switch ops[0] % 8 {
			case 0, 3, 4, 5:
				m.add(t, who, name)
			case 1, 6, 7:
				m.remove(t, who, name)
			case 2:
				m.drop(who)
			}
			m.check(t, names...)
		}
	})
}

// takes checks that the receiver finds these items in an outbox, and returns their batch.
func takes[T any](t *testing.T, o *outbox[T], want ...T) *batch[T] {
	t.Helper()
	select {
	case b := <-o.box:
		if !slices.EqualFunc(b.items, want, func(a, b T) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("got %v, want %v", b.items, want)
		}
		return b
	default:
		if len(want) > 0 {
			t.Fatalf("nothing is there, want %v", want)
		}
		return nil
	}
}

func wantWaiting[T any](t *testing.T, o *outbox[T], bytes, items int) {
	t.Helper()
	if b, n := o.waiting(); b != bytes || n != items {
		t.Errorf("%d bytes and %d items wait, want %d and %d", b, n, bytes, items)
	}
}

func TestOutbox_Limit(t *testing.T) {
	const limit = 100
	for _, tc := range []struct {
		name  string
		sizes []int
		ok    bool // the last of them
	}{
		{"one below", []int{limit - 1}, true},
		{"one of the limit", []int{limit}, true},
		{"one above, alone", []int{limit + 1}, true},
		{"far above, alone", []int{1000 * limit}, true},
		{"just the limit in two", []int{60, 40}, true},
		{"a byte above in two", []int{60, 41}, false},
		{"above, behind one byte", []int{1, limit + 1}, false},
		{"a byte behind the limit", []int{limit, 1}, false},
		{"a byte behind a large one", []int{limit + 1, 1}, false},
		{"just the limit in many", []int{10, 10, 10, 10, 10, 10, 10, 10, 10, 10}, true},
		{"a byte above in many", []int{10, 10, 10, 10, 10, 10, 10, 10, 10, 11}, false},
	} {
		for _, flush := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/flush=%v", tc.name, flush), func(t *testing.T) {
				o := newOutbox[int](limit, new(sync.Pool))
				bytes, items := 0, 0
				for i, size := range tc.sizes {
					last := i == len(tc.sizes)-1
					ok := o.push(i, size, 1)
					if want := !last || tc.ok; ok != want {
						t.Fatalf("push %d of %d bytes is %v, want %v", i, size, ok, want)
					}
					if ok {
						bytes, items = bytes+size, items+1
					}
					if flush {
						o.flush() // what is flushed and not taken waits too
					}
				}
				wantWaiting(t, &o, bytes, items) // and what was refused does not
			})
		}
	}
}

// The queue's count drops when the receiver has completed items, not when it has taken them.
func TestOutbox_RoomComesWithDone(t *testing.T) {
	o := newOutbox[string](100, new(sync.Pool))
	for range 3 {
		o.push("a", 60, 1)
		o.push("b", 40, 1)
		o.flush()
		takes(t, &o, "a", "b")
		if o.push("c", 1, 1) {
			t.Fatal("there is room, though the receiver still holds all it took")
		}
		wantWaiting(t, &o, 100, 2)
		o.done(1, 60)
		wantWaiting(t, &o, 40, 1)
		if o.push("c", 61, 1) {
			t.Fatal("there is room for one byte too many")
		}
		if !o.push("c", 60, 1) {
			t.Fatal("there is no room for just what was done")
		}
		o.done(1, 40)
		o.flush()
		takes(t, &o, "c")
		o.done(1, 60)
		wantWaiting(t, &o, 0, 0)
		if !o.push("large", 101, 1) {
			t.Fatal("a large one does not go, though nothing waits")
		}
		o.flush()
		takes(t, &o, "large")
		o.done(1, 101)
	}
}

func TestOutbox_TakesBackInOrder(t *testing.T) {
	o := newOutbox[int](1000, new(sync.Pool))
	o.flush() // nothing
	takes(t, &o)
	for round := range 3 {
		for i := range 4 {
			o.push(2*i, 1, 1)
			o.push(2*i+1, 1, 1)
			o.flush()
			o.flush() // changes nothing
		}
		b := takes(t, &o, 0, 1, 2, 3, 4, 5, 6, 7)
		takes(t, &o)
		if b.last != nil {
			t.Error("the batch is said to be the last")
		}
		b.recycle()
		wantWaiting(t, &o, 8*(round+1), 8*(round+1))
	}
}

func TestOutbox_LastSurvivesTheMerge(t *testing.T) {
	first, second := &CloseError{Code: CodeShutdown}, &CloseError{Code: CodeSlow}
	t.Run("alone", func(t *testing.T) {
		o := newOutbox[int](10, new(sync.Pool))
		o.finish(first)
		if b := <-o.box; b.last != first || len(b.items) != 0 {
			t.Errorf("got %v, %v", b.items, b.last)
		}
	})
	t.Run("behind items", func(t *testing.T) {
		o := newOutbox[int](10, new(sync.Pool))
		o.push(1, 1, 1)
		o.flush()
		o.push(2, 1, 1)
		o.finish(first)
		if b := takes(t, &o, 1, 2); b.last != first {
			t.Errorf("last is %v", b.last)
		}
	})
	t.Run("the first of two", func(t *testing.T) {
		o := newOutbox[int](10, new(sync.Pool))
		o.push(1, 1, 1)
		o.finish(first)
		o.push(2, 1, 1)
		o.flush()
		o.finish(second)
		if b := takes(t, &o, 1, 2); b.last != first {
			t.Errorf("last is %v", b.last)
		}
	})
}

func TestBatch_RecycleClears(t *testing.T) {
	var pool sync.Pool
	b := &batch[*int]{items: append(make([]*int, 0, 8), new(int), new(int)), last: &CloseError{}, pool: &pool}
	b.recycle()
	if len(b.items) != 0 || b.last != nil {
		t.Errorf("%d items, last %v", len(b.items), b.last)
	}
	for i, item := range b.items[:cap(b.items)] {
		if item != nil {
			t.Errorf("item %d is kept alive", i)
		}
	}

	// A batch that has become large is not kept for ever.
	large := &batch[*int]{items: make([]*int, 1, keepItems+1), pool: &pool}
	large.items[0] = new(int)
	large.recycle()
	if len(large.items) != 1 {
		t.Error("a large batch is recycled")
	}
}

// A batch that was merged into another one is reused without its old items.
func TestOutbox_BatchesAreUsedAgain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var pool sync.Pool
	boxes := []outbox[int]{newOutbox[int](1<<20, &pool), newOutbox[int](1<<20, &pool)}
	want := make([][]int, len(boxes))
	for i := range 3000 {
		k := rnd.IntN(len(boxes))
		o := &boxes[k]
		switch rnd.IntN(4) {
		case 0:
			if o.next == nil && len(want[k]) > 0 {
				takes(t, o, want[k]...).recycle()
				want[k] = nil
			}
		case 1:
			o.flush()
		default:
			o.push(i, 1, 1)
			want[k] = append(want[k], i)
		}
	}
}

// The test compares an outbox with a model: a queue and two counts.
func TestOutbox_RandomOperations(t *testing.T) {
	const limit = 50
	type item struct{ n, size int }
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		o := newOutbox[item](limit, new(sync.Pool))
		var next, box, held []item // gathered, flushed, taken by the receiver
		waiting := func() (bytes int) {
			for _, it := range slices.Concat(next, box, held) {
				bytes += it.size
			}
			return bytes
		}
		for n := range 2000 {
			switch rnd.IntN(5) {
			case 0, 1:
				it := item{n, 1 + rnd.IntN(1<<rnd.IntN(8))}
				before := waiting()
				want := before == 0 || before+it.size <= limit
				if got := o.push(it, it.size, 1); got != want {
					t.Fatalf("push of %d bytes with %d waiting is %v, want %v", it.size, before, got, want)
				}
				if want {
					next = append(next, it)
				}
			case 2:
				o.flush()
				box, next = append(box, next...), nil
			case 3:
				if b := takes(t, &o, box...); b != nil {
					held, box = append(held, b.items...), nil
					b.recycle()
				}
			case 4:
				if k := rnd.IntN(len(held) + 1); k > 0 {
					bytes := 0
					for _, it := range held[:k] {
						bytes += it.size
					}
					o.done(k, bytes)
					held = held[k:]
				}
			}
			wantWaiting(t, &o, waiting(), len(next)+len(box)+len(held))
		}
	}
}

// A fanout notes each subscriber with something to flush once, and hands over all of it.
func TestFanout(t *testing.T) {
	f := fanout{table: newTable()}
	spoke := &subscriber{link: &link{out: newOutbox[frames](2*67, &frameBatches)}} // two of three bytes
	listener := &subscriber{listener: &Subscription{queue: newOutbox[run](1000, &runBatches)}}
	one, two, much := frames{[]byte("one"), 1}, frames{[]byte("two"), 2}, frames{[]byte("much too much"), 1}
	f.give(spoke, one)
	first, second := testRun("t", 1), testRun("u", 1)
	f.tell(listener, first)
	f.give(spoke, two)
	f.give(spoke, much)
	if f.gathered() != 4 || !slices.Equal(f.dirty, []*subscriber{spoke, listener}) {
		t.Errorf("%d gathered, %d to flush", f.gathered(), len(f.dirty))
	}
	full := f.takeFull()
	if len(full) != 1 || full[0].subscriber != spoke {
		t.Fatalf("%d are over their limit", len(full))
	}
	if want := "the next event of 78 bytes does not fit beside 134 bytes that wait; the limit is 134"; full[0].slow.Reason != want {
		t.Errorf("the reason is %q, want %q", full[0].slow.Reason, want)
	}
	if full := f.takeFull(); len(full) != 0 {
		t.Errorf("%d are over their limit again", len(full))
	}
	f.flush()
	takes(t, &spoke.link.out, one, two)
	takes(t, &listener.listener.queue, first)
	if f.gathered() != 0 || len(f.dirty) != 0 {
		t.Errorf("after the flush %d gathered, %d to flush", f.gathered(), len(f.dirty))
	}
	f.flush()
	takes(t, &spoke.link.out)

	f.tell(listener, second)
	f.flush()
	takes(t, &listener.listener.queue, second)
}

// testRun makes a run of count events with a payload.
func testRun(typ string, count int) run {
	messages := make([]message, max(count, 1))
	for i := range messages {
		_, messages[i].run = appendRun(nil, topicName{typ, len(typ)}, []byte("1"), someNode)
	}
	return join(messages)
}

// If only a part of a run fits into a queue, that part is delivered in order. It takes and
// counts only the memory of its own events.
func TestFanout_TellsWhatHasRoom(t *testing.T) {
	one := testRun("t", 1)
	event := one.event()
	for room := range 6 {
		f := fanout{table: newTable()}
		exact := testRun("t", room)
		limit := exact.cost()
		listener := &subscriber{listener: &Subscription{queue: newOutbox[run](limit, &runBatches)}}
		want := max(1, min(4, room)) // an event by itself has no limit
		if told := f.tell(listener, testRun("t", 4)); told != want {
			t.Fatalf("with room for %d, %d were told", room, told)
		}
		exact = testRun("t", want)
		full := f.takeFull()
		if (len(full) == 1) != (want < 4) {
			t.Errorf("with room for %d, over its limit: %v", room, full)
		}
		for _, sub := range full {
			reason := fmt.Sprintf("the next event of %d bytes does not fit beside %d bytes that wait; the limit is %d", one.cost(), exact.cost(), limit)
			if sub.slow.Reason != reason {
				t.Errorf("with room for %d, the reason is %q, want %q", room, sub.slow.Reason, reason)
			}
		}
		if bytes, events := listener.listener.queue.waiting(); bytes != exact.cost() || events != want {
			t.Errorf("with room for %d, %d bytes and %d events are waiting", room, bytes, events)
		}
		f.flush()
		listener.listener.queue.flush()
		got := 0
		for _, r := range (<-listener.listener.queue.box).items {
			if cap(r.bytes) > len(exact.bytes)+len(exact.bytes)/8 {
				t.Errorf("with room for %d, %d bytes are kept, want %d", room, cap(r.bytes), len(exact.bytes))
			}
			for ; r.count > 0; got++ {
				if one := r.shift(); !reflect.DeepEqual(one.event(), event) {
					t.Errorf("got %+v", one.event())
				}
			}
		}
		if got != want {
			t.Errorf("with room for %d, %d came", room, got)
		}
	}
}

// Spokes and listeners get copies of a reader's events, because the reader reuses its memory. A
// listener that changes a payload, which is forbidden, changes nothing for spokes.
func TestRouter_RunsAreCopied(t *testing.T) {
	r, members := newBenchRouter(2)
	from, to := members[0], members[1]
	sub := newSubscription([]string{"t"}, 10_000, nil, nil)
	r.table.add(&to.subscriber, "t")
	r.table.add(&sub.subscriber, "t")
	r.listeners[sub] = struct{}{}
	for _, count := range []int{1, 2, 3} {
		in := &inbound{from: from}
		from.work.free = make(chan *inbound, 2)
		var want []byte
		for i := range count {
			m := in.encode(topicName{"t", 1}, []byte{'0' + byte(i)}, someNode)
			m.sender, m.forward = &from.subscriber, true
			in.ops = append(in.ops, op{kind: opPublish, event: m})
			want = append(want, m.bytes...)
		}
		text := *in.text
		r.arrived(in)
		r.turns()
		for i := range text {
			text[i] = '?'
		}
		r.flush()
		heard := (<-sub.queue.box).items
		if len(heard) != 1 || string(heard[0].bytes) != string(want) {
			t.Fatalf("the listener gets %v, want %q", heard, want)
		}
		for i := range heard[0].bytes {
			heard[0].bytes[i] = '!'
		}
		if written := (<-to.link.out.box).items; len(written) != 1 || string(written[0].bytes) != string(want) {
			t.Errorf("the spoke gets %v, want %q", written, want)
		}
	}
}

// A reader does not keep the buffer of a hostile spoke's largest frames.
func TestInbound_LargeTextIsNotKept(t *testing.T) {
	for range 100 {
		in := &inbound{}
		in.encode(topicName{"t", 1}, make([]byte, 2*framing.MaxBuffer), someNode)
		in.recycle()
		if text := *encodeBuffers.Get().(*[]byte); cap(text) > 2*framing.MaxBuffer {
			t.Fatalf("%d bytes are kept, want %d at most", cap(text), 2*framing.MaxBuffer)
		}
	}
}

// counts returns how many subscribers each topic has.
func (t *table) counts() map[string]int {
	counts := make(map[string]int)
	for i, top := range t.list {
		if top.place != i {
			panic("a topic is not at its place")
		}
		counts[top.name] = len(top.subs)
	}
	return counts
}

// Completed batches are reused.
func TestOutbox_UsesBatchesAgain(t *testing.T) {
	o := newOutbox[frames](1<<30, new(sync.Pool))
	wantAllocs(t, 2, func() { // none, but for what the race detector has pools forget
		o.push(frames{nil, 1}, 1, 1)
		o.flush()
		o.push(frames{nil, 1}, 1, 1)
		o.flush()
		(<-o.box).recycle()
	})
}

func TestRun_ShiftTakesOne(t *testing.T) {
	all := testRun("t", 3)
	for left := 2; left >= 0; left-- {
		before := all.bytes
		one := all.shift()
		if one.count != 1 || all.count != left || string(before) != string(one.bytes)+string(all.bytes) {
			t.Errorf("%d are taken and %d left, want one and %d", one.count, all.count, left)
		}
	}
}

// A sink is a stream that counts the written bytes.
type sink struct {
	Stream
	n int
}

func (s *sink) Write(_ context.Context, p []byte) (int, error) { s.n += len(p); return len(p), nil }
func (s *sink) CloseWrite(context.Context) error               { return nil }

// A Spoke is closed as soon as it is connected. The writer then finds its last batch and the
// closed ready channel at the same time. Its select picks at random, so the test repeats.
func TestWriter_WritesWhatWasPublishedBeforeTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			stream := &sink{}
			l := newLink(context.Background(), stream, 1<<20, time.Second)
			published := make(chan frames, 1)
			g := newGate()
			g.shut(errSpokeClosed)
			l.published, l.gate, l.ready = published, &g, make(chan struct{})
			close(l.ready)
			published <- frames{[]byte("event"), 1}
			l.out.finish(&CloseError{})
			l.writeLoop()
			if stream.n == 0 {
				t.Fatal("an event was not written")
			}
		}
	})
}

// A tape is a stream that notes the size of each write.
type tape struct {
	sink
	writes []int
}

func (s *tape) Write(_ context.Context, p []byte) (int, error) {
	s.writes = append(s.writes, len(p))
	return len(p), nil
}

// The WriteTimeout is for 64 KiB. So the writer writes a larger frame in pieces.
func TestWriter_WritesPiecesOf64KiB(t *testing.T) {
	stream := &tape{}
	l := newLink(t.Context(), stream, 1<<20, time.Second)
	f := frames{make([]byte, 150_000), 1}
	l.out.push(f, f.cost(), 1)
	l.out.finish(&CloseError{})
	l.writeLoop()
	if want := []int{64 << 10, 64 << 10, 150_000 - 128<<10}; !slices.Equal(stream.writes, want) {
		t.Errorf("the writes have %v bytes, want %v", stream.writes, want)
	}
}

// A stuck is a stream that takes a number of writes and then blocks.
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

// Written items do not count in the queue any more, so the writer must not keep them. Otherwise a
// peer that reads a batch except for its end could make the hub hold the memory of a second queue.
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

// An item's place in a batch takes memory until the batch is written, so it counts until then.
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

// The memory of a reader's batch at the router is bounded by the frames that it has gathered,
// one more frame, and the rounding of an allocation.
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

// A link does not send its peer's code back, and a normal end is not a protocol error.
func TestEndOf(t *testing.T) {
	slow := &CloseError{Code: CodeSlow, Reason: "slow"}
	for _, tc := range []struct {
		err    error
		code   uint64
		reason string
	}{
		{slow, CodeSlow, "slow"},
		{fmt.Errorf("wrapped: %w", slow), CodeSlow, "slow"},
		{&remoteEnd{slow}, 0, ""},
		{&remoteEnd{errors.New("no network")}, 0, ""},
		{io.EOF, 0, ""},
		{context.Canceled, 0, ""},
		{context.DeadlineExceeded, 0, ""},
		{io.ErrNoProgress, CodeProtocol, io.ErrNoProgress.Error()},
	} {
		if end := endOf(tc.err); end.Code != tc.code || end.Reason != tc.reason {
			t.Errorf("%v is closed with %d %q", tc.err, end.Code, end.Reason)
		}
	}
}
