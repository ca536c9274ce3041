package irohub

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"irohub/internal/logging"
)

// These tests call the router's methods without goroutines and check its state after each step.

// check compares the router's tables with each other.
func (r *router) check(t *testing.T) {
	t.Helper()
	lists := 0
	for i, top := range append(slices.Clone(r.table.list), &r.table.all) {
		if top != &r.table.all && (top.place != i || len(top.subs) == 0 || r.table.find(top.name) != top) {
			t.Errorf("topic %q is not as it should be", top.name)
		}
		for at, sub := range top.subs {
			lists++
			if got, ok := sub.at[top]; !ok || got != at {
				t.Errorf("a subscriber of %q does not know where it stands", top.name)
			}
			if sub.link != nil && !sub.retired && (sub.place < 0 || &r.members[sub.place].subscriber != sub) {
				t.Errorf("topic %q has a subscriber that is no spoke", top.name)
			}
		}
	}
	for i, m := range r.members {
		if m.place != i {
			t.Errorf("spoke %d is not at its place", i)
		}
		lists -= len(m.subscriber.at)
	}
	for _, sub := range r.leaving {
		lists -= len(sub.at)
	}
	for sub := range r.listeners {
		lists -= len(sub.subscriber.at)
	}
	if lists != 0 {
		t.Errorf("the topics list %d subscribers more than there are", lists)
	}
}

// sends hands over ops as a spoke's reader does.
func (r *router) sends(m *member, ops ...op) {
	if m.work.free == nil {
		m.work.free = make(chan *inbound, 2)
	}
	select {
	case <-m.work.free: // as a reader takes it back
	default:
	}
	r.arrived(&inbound{from: m, ops: ops})
}

func topicsOf(prefix string, n int) []string {
	topics := make([]string, n)
	for i := range topics {
		topics[i] = fmt.Sprintf("%s:%d", prefix, i)
	}
	return topics
}

// The router may cut off a spoke by events that come before the spoke's request. The request
// then does not subscribe it.
func TestRouter_WhoIsCutOffIsNotSubscribed(t *testing.T) {
	for _, kind := range []opKind{opSubscribe, opUnsubscribe, opRefuse} {
		r, members := newBenchRouter(2)
		r.opts.MaxQueue = 1000
		slow, other := members[0], members[1]
		for _, m := range members {
			m.peer = &peer{}
			m.link.cancel = func(error) {}
			m.link.out.limit = 1000
		}
		r.table.add(&slow.subscriber, "a")
		r.table.add(&other.subscriber, "b")
		big := Event{Type: "a", Payload: []byte(`"` + strings.Repeat("x", 700) + `"`)}
		for range 2 { // the second is too much; it is in hand when the request comes
			one, _ := big.encode(maxFrame)
			m := message{run: one, forward: true}
			r.route(&m)
			r.sends(slow, op{kind: kind, topics: []string{"b", "c"}, id: "1", reply: []byte("no")})
			r.turns()
			r.check(t)
		}
		r.flush()
		if bytes, events := slow.link.out.waiting(); bytes != slow.cut.WaitingBytes || events != slow.cut.WaitingEvents {
			t.Errorf("request of kind %d: the slow spoke is answered", kind)
		}
		if n := r.counts.Refused; n != 0 && kind != opRefuse || n > 1 { // the first was before
			t.Errorf("request of kind %d: %d are refused", kind, n)
		}
		if slow.place >= 0 || len(slow.subscriber.at) != 0 || slow.cut.ID != slow.id {
			t.Errorf("request of kind %d: the slow spoke is subscribed to %d topics", kind, len(slow.subscriber.at))
		}
		if got := r.table.counts(); len(got) != 1 || got["b"] != 1 {
			t.Errorf("topics %v", got)
		}
		if len(r.ready) != 0 {
			t.Errorf("request of kind %d: the router goes on with it for ever", kind)
		}
	}
}

// The router does a request for many topics in turns. Other spokes wait for one turn, not for
// the whole request.
func TestRouter_RequestsAreChargedByTheirTopics(t *testing.T) {
	const most = 1024
	r, members := newBenchRouter(65)
	r.opts.MaxSubscriptions = most
	r.opts.MaxQueue = 1 << 30
	good := members[64]
	flood := make([][]string, 64)
	for i := range flood {
		flood[i] = topicsOf(fmt.Sprint("f", i), most)
		var ops []op
		for range 2 {
			ops = append(ops, op{kind: opSubscribe, topics: flood[i]}, op{kind: opUnsubscribe, topics: flood[i]})
		}
		r.sends(members[i], ops...)
	}
	r.sends(good, op{kind: opSubscribe, id: "1", topics: []string{"good"}})
	before := r.worked
	for answers := 0; answers == 0; answers = good.collect() {
		round := r.worked
		r.turns()
		if did := r.worked - round; did > roundSize+turnSize+changeWork+2 {
			t.Fatalf("one round was %d units of work", did)
		}
		if r.changes > roundSize/changeWork+1 {
			t.Fatalf("%d changes of the table without a flush", r.changes)
		}
		if did := r.worked - before; did > 65*(turnSize+changeWork+2)+roundSize {
			t.Fatalf("the good spoke has waited for %d units of work", did)
		}
		r.check(t)
		if len(r.ready) == 0 || r.ready[0] == members[0] {
			r.flush()
		}
	}
	for len(r.ready) > 0 {
		r.turns()
	}
	r.check(t)
	if n := r.table.len(); n != 1 {
		t.Errorf("%d topics at the end", n)
	}
}

// The router does the requests of one spoke in order, even if one takes many turns. It does each
// as a whole or not at all.
func TestRouter_RequestsKeepTheirOrder(t *testing.T) {
	r, members := newBenchRouter(1)
	m := members[0]
	r.opts.MaxSubscriptions, r.opts.MaxQueue = 1000, 1<<30
	many := topicsOf("t", 1000)
	r.sends(m, op{kind: opSubscribe, id: "1", topics: many}, op{kind: opSubscribe, id: "2", topics: append([]string{"t:0", "t:0"}, many...)}) // nothing new
	r.sends(m, op{kind: opSubscribe, id: "3", topics: append(slices.Clone(many[:500]), "new", "newer")},
		op{kind: opUnsubscribe, id: "4", topics: many[:1]}, op{kind: opSubscribe, id: "5", topics: []string{"new", "t:1"}})
	for len(r.ready) > 0 {
		r.turns()
		r.check(t)
	}
	r.flush()
	var answers []byte
	for _, f := range (<-m.link.out.box).items {
		answers = append(answers, f.bytes...)
	}
	want := slices.Concat(ackFrame("1"), ackFrame("2"), errorFrame("3", refusedTooMany, "new", "the limit is 1000 topics"), ackFrame("4"), ackFrame("5"))
	if !bytes.Equal(answers, want) {
		t.Errorf("answers %s, want %s", answers, want)
	}
	if n := len(m.subscriber.at); n != 1000 {
		t.Errorf("%d subscriptions", n)
	}
}

// The router removes a spoke with many topics in turns. The spoke gets nothing meanwhile.
func TestRouter_LeavingWithManyTopicsHoldsUpNobody(t *testing.T) {
	r, members := newBenchRouter(2)
	for _, topic := range topicsOf("t", 10_000) {
		r.table.add(&members[0].subscriber, topic)
	}
	r.remove(members[0], nil)
	turns := 0
	for ; len(r.leaving) > 0; turns++ {
		left := len(members[0].subscriber.at)
		m := benchMessage(t, "t:1")
		r.route(&m)
		r.turns()
		if did := left - len(members[0].subscriber.at); did > roundSize/changeWork {
			t.Fatalf("a round took %d topics", did)
		}
		r.check(t)
	}
	r.flush()
	if turns < 5 || r.table.len() != 0 || members[0].collect() != 0 {
		t.Errorf("%d turns, %d topics are left", turns, r.table.len())
	}
}

// Items may come and go between two pages. The pages have every item that stays.
func TestPages_FindWhatStays(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		table := newTable()
		s := &subscriber{}
		stay := map[string]bool{}
		for i := range 5000 {
			name := fmt.Sprint("t", i)
			table.add(s, name)
			stay[name] = true
		}
		q := query[topicCount]{-1, make(chan page[topicCount], 1)}
		found := map[string]bool{}
		for n := 0; q.below != 0; n++ {
			answer(q, table.list, countOf)
			p := <-q.reply
			if len(p.items) > pageSize {
				t.Fatalf("a page of %d", len(p.items))
			}
			for _, item := range p.items {
				found[item.name] = true
			}
			q.below = p.below
			for range rnd.IntN(2000) {
				if name := fmt.Sprint("t", rnd.IntN(5000)); rnd.IntN(2) == 0 {
					table.remove(s, name)
					delete(stay, name)
				} else {
					table.add(s, fmt.Sprint("new", rnd.IntN(5000)))
				}
			}
		}
		for name := range stay {
			if !found[name] {
				t.Fatalf("topic %s was there all the time, and is not found", name)
			}
		}
	}
}

// Every answer fits into the smallest MaxFrame of a spoke.
func TestErrorFrame_IsSmall(t *testing.T) {
	for _, unit := range []string{"x", `"`, "\x00", "\u20ac", "\U0001F600", "\xff", "a\u0301"} {
		long := strings.Repeat(unit, 1<<20)
		for _, cut := range []int{0, 1, 2, 3} {
			frame := errorFrame("1", refusedTopic, long[cut%len(unit):], long[cut%len(unit):])
			if len(frame) > maxAnswer {
				t.Errorf("of %q: %d bytes", unit, len(frame))
			}
			env, err := parseEnvelope(frame[headerSize:])
			if err != nil || string(env.typ) != typeError {
				t.Errorf("of %q: %v", unit, err)
			}
			if unit == "x" && !bytes.Contains(frame, []byte(strings.Repeat("x", maxTopic))) {
				t.Error("a topic that is not too long is cut")
			}
		}
	}
	short := errorFrame("1", refusedForbidden, "a:b", "no")
	if string(short[headerSize:]) != `{"type":"__error","id":"1","payload":{"code":"forbidden","topic":"a:b","message":"no"}}` {
		t.Errorf("%s", short)
	}
}

// The peer of a stoppedStream has stopped reading, and sends nothing.
type stoppedStream struct{ Stream }

var errStopped = &CloseError{Code: CodeForbidden, Reason: "the peer's words"}

func (stoppedStream) Write(context.Context, []byte) (int, error) { return 0, errStopped }
func (stoppedStream) Read(ctx context.Context, _ []byte) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// A link ends soon after its peer stops reading. The peer's own code is not sent back to it.
func TestLink_EndsSoonAfterItsPeerStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t.Context(), stoppedStream{}, 1000, time.Hour)
		var shut *CloseError
		l.shut = func(end *CloseError) { shut = end }
		done := make(chan struct{})
		go func() {
			l.write()
			close(done)
		}()
		start := time.Now()
		l.out.push(frames{[]byte("x"), 1}, 65, 1)
		l.out.flush()
		<-done
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("the link ended after %v", d)
		}
		if l.err() != error(errStopped) {
			t.Errorf("it ended with %v", l.err())
		}
		if shut == nil || shut.Code != 0 || shut.Reason != "" {
			t.Errorf("the peer is told %v", shut)
		}
	})
}

// A link whose last batch cannot be written ends with the error of that write.
func TestLink_EndsWithWhatStoppedTheLastWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t.Context(), stoppedStream{}, 1000, time.Hour)
		l.shut = func(*CloseError) {}
		l.out.push(frames{[]byte("x"), 1}, 65, 1)
		l.out.finish(&CloseError{})
		l.write()
		if l.err() != error(errStopped) || l.handedOver.Load() {
			t.Errorf("it ended with %v, handed over: %v", l.err(), l.handedOver.Load())
		}
	})
}

func TestPeer_Host(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.1:5": "192.0.2.1", "[2001:db8::1]:5": "2001:db8::1", "memory": "memory"} {
		if got := (&peer{addr: addr}).host(); got != want {
			t.Errorf("the host of %q is %q", addr, got)
		}
	}
}

// The deliveries of others' events are not charged to a spoke: its request goes on, even if
// many spokes get the events.
func TestRouter_RequestsGoOnBesideEvents(t *testing.T) {
	r, members := newBenchRouter(2001)
	for _, m := range members[1:] {
		r.table.add(&m.subscriber, "a")
		m.link.out.limit = 1 << 40
	}
	r.sends(members[0], op{kind: opSubscribe, id: "1", topics: []string{"b"}})
	m := benchMessage(t, "a")
	for range 3 {
		r.route(&m)
		r.turns()
	}
	if len(r.ready) != 0 || !r.table.has(&members[0].subscriber, "b") {
		t.Error("after three rounds the request is not done")
	}
}

// The router hands over gathered events after a while, even if it always has other work.
func TestRouter_FlushesBesideCheapRequests(t *testing.T) {
	r, members := newBenchRouter(9)
	good := members[8]
	r.table.add(&good.subscriber, "a")
	m := benchMessage(t, "a")
	r.route(&m)
	r.spread()
	flood := slices.Repeat([]op{{kind: opIgnore}}, maxOps)
	rounds := 0
	for ; good.collect() == 0; rounds++ {
		for _, m := range members[:8] {
			r.sends(m, flood...)
		}
		r.turns()
		if rounds > roundSize {
			t.Fatal("the event is never handed over")
		}
	}
}

// If many spokes are cut off or leave at once, the router removes them over several rounds.
func TestRouter_ManyThatLeaveHoldUpNobody(t *testing.T) {
	for name, leave := range map[string]func(r *router){
		"cut off": func(r *router) {
			m := benchMessage(t, "a")
			for range 2 {
				r.route(&m)
				r.spread()
			}
		},
		"end": (*router).end,
	} {
		r, members := newBenchRouter(300)
		for _, m := range members {
			m.peer = &peer{}
			m.link.out.limit = 1
			m.link.cancel = func(error) {}
			r.table.add(&m.subscriber, "a")
			for i := range 64 {
				r.table.add(&m.subscriber, fmt.Sprint("t", i))
			}
		}
		r.changes = 0
		leave(r)
		if r.changes != 0 || len(r.leaving) != len(members) || len(r.members) != 0 {
			t.Errorf("%s: %d changes of the table at once; %d leave, %d are there", name, r.changes, len(r.leaving), len(r.members))
		}
		for len(r.leaving) > 0 {
			before := r.worked
			r.turns()
			if did := r.worked - before; did > roundSize+changeWork*forgetTurn {
				t.Fatalf("%s: a round was %d units of work", name, did)
			}
			r.check(t)
		}
		if r.table.len() != 0 {
			t.Errorf("%s: %d topics are left", name, r.table.len())
		}
	}
}

// The array of a list does not keep removed items alive.
func TestShift_KeepsNothing(t *testing.T) {
	list := []*int{new(1), new(2), new(3)}
	rest := shift(shift(list, 0), 2)
	if len(rest) != 1 || *rest[0] != 3 || &rest[0] != &list[0] || list[1] != nil || list[2] != nil {
		t.Errorf("%d are left, and the array has %v", len(rest), list)
	}
}

// The defaults are those in the comments. Values out of bounds are clamped.
func TestHubOptions_Defaults(t *testing.T) {
	want := HubOptions{
		MaxFrame: 1 << 20, MaxQueue: 1 << 20, MaxSpokes: 4096, MaxSpokesPerNode: 8, MaxStreamsPerConn: 16,
		MaxSubscriptions: 1024, MaxPending: 1024, HandshakeTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
	}
	negative := HubOptions{
		MaxFrame: -1, MaxQueue: -1, MaxSpokes: -1, MaxSpokesPerNode: -1, MaxStreamsPerConn: -1,
		MaxSubscriptions: -1, MaxPending: -1, HandshakeTimeout: -1, WriteTimeout: -1,
	}
	for _, o := range []HubOptions{{}, negative, want} {
		if got := o.withDefaults(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	own := HubOptions{
		MaxFrame: 1, MaxQueue: 2, MaxSpokes: 3, MaxSpokesPerNode: 4, MaxStreamsPerConn: 5,
		MaxSubscriptions: 6, MaxPending: 7, HandshakeTimeout: 8, WriteTimeout: 9,
	}
	if got := own.withDefaults(); !reflect.DeepEqual(got, own) {
		t.Errorf("got %+v, want %+v", got, own)
	}
	if most := (HubOptions{MaxFrame: 1<<30 + 1}).withDefaults().MaxFrame; most != 1<<30 {
		t.Errorf("MaxFrame is brought to %d", most)
	}
}

// A spoke may send one second's allowance at once. After that, the stricter limit applies.
func TestPace(t *testing.T) {
	now := time.Now()
	b := newBucket(10)
	for i := range 10 {
		if d := b.spend(1, now); d != 0 {
			t.Errorf("frame %d waits %v", i, d)
		}
	}
	for i := range 3 {
		if d := b.spend(1, now); d != time.Duration(i+1)*time.Second/10 {
			t.Errorf("frame %d too many waits %v", i, d)
		}
	}
	if d := b.spend(1, now.Add(time.Second/2)); d != 0 { // three were owed
		t.Errorf("after half a second it waits %v", d)
	}
	if d := b.spend(11, now.Add(time.Hour)); d != time.Second/10 { // no more than ten are saved
		t.Errorf("after an hour it waits %v", d)
	}
	for _, rate := range []int{0, -1} {
		none := newBucket(rate)
		if d := none.spend(1e9, now); d != 0 {
			t.Errorf("without a limit it waits %v", d)
		}
	}
	p := newPace(0, 1000)
	if d := p.spend(1500); d != time.Second/2 {
		t.Errorf("500 bytes too many wait %v", d)
	}
	p = newPace(1, 1000)
	if d := p.spend(1500); d != time.Second/2 {
		t.Errorf("500 bytes too many wait %v", d)
	}
	p = newPace(1, 0)
	p.spend(1)
	if d := p.spend(1); d < time.Second-time.Second/10 || d > time.Second {
		t.Errorf("a frame too many waits %v", d)
	}
}

// A round has at most roundBytes of events, which cost at most a quarter of a queue.
func TestRouter_RoundsAreBounded(t *testing.T) {
	for name, tc := range map[string]struct{ size, queue, fit int }{
		"bytes": {roundBytes / 4, 1 << 30, 4},
		"queue": {1000, 4 * 3 * (1000 + 125 + 64 + 1 + 192), 3},
	} {
		r, members := newBenchRouter(1)
		r.opts.MaxQueue = tc.queue
		r.table.add(&members[0].subscriber, "a")
		for round := range 3 {
			for i := range tc.fit {
				ev := Event{Type: "a", Payload: []byte(strings.Repeat("1", tc.size-27))}
				one, err := ev.encode(maxFrame)
				if err != nil || len(one.bytes) != tc.size {
					t.Fatalf("%d bytes, %v", len(one.bytes), err)
				}
				m := message{run: one, forward: true}
				r.route(&m)
				want := 0
				if round > 0 && i == 0 {
					want = tc.fit
				}
				if got := members[0].collect(); got != want {
					t.Fatalf("%s: %d of round %d have been handed over at its event %d, want %d", name, got, round, i, want)
				}
			}
		}
	}
}

// Each change of the table counts once as work.
func TestRouter_ChangesAreCounted(t *testing.T) {
	r, members := newBenchRouter(1)
	m := members[0]
	step := func(kind opKind, topics ...string) {
		changes, worked := r.changes, r.worked
		r.sends(m, op{kind: kind, topics: topics, id: "1"})
		r.turns()
		n := len(topics)
		// The request, one check for each new topic, and the answer.
		if r.changes-changes != n || r.worked-worked > uint64(2+n+n*changeWork) || r.worked-worked < uint64(2+n*changeWork) {
			t.Errorf("%d topics are %d changes and %d units of work", n, r.changes-changes, r.worked-worked)
		}
	}
	step(opSubscribe, "a", "b", "c")
	step(opSubscribe, "d")
	step(opUnsubscribe, "a", "b")
	r.flush()
	if r.changes != 0 || r.gathered() != 0 {
		t.Errorf("after the flush, %d changes and %d units of work", r.changes, r.gathered())
	}
}

// newTestMember makes a spoke whose router receives nothing.
func newTestMember(to chan *inbound, opts HubOptions) *member {
	hub := &Hub{opts: opts.withDefaults(), logs: logging.New(nil)}
	m := &member{hub: hub, peer: &peer{hub: hub}, subscriber: subscriber{link: newLink(context.Background(), nil, 1000, time.Second)}, joined: true}
	m.pace = newPace(opts.MaxEventRate, opts.MaxByteRate)
	m.work = newHandover(m.link, to, &inbound{from: m}, &inbound{from: m})
	return m
}

// A reader gathers frames up to limits on their number, their bytes and their topics.
func TestMember_GathersFrames(t *testing.T) {
	many := `{"type":"__subscribe","payload":{"topics":["a"` + strings.Repeat(`,"a"`, 999) + `]}}`
	for name, tc := range map[string]struct {
		body string
		most int
	}{
		"frames": {`{"type":"a","payload":1}`, maxOps},
		"bytes":  {`{"type":"a","payload":"` + strings.Repeat("x", maxOpsSize/4-25-headerSize) + `"}`, 4},
		"less":   {`{"type":"a","payload":"` + strings.Repeat("x", maxOpsSize/4-26-headerSize) + `"}`, 5},
		"topics": {many, 2},
	} {
		to := make(chan *inbound, 1)
		m := newTestMember(to, HubOptions{})
		for i := range tc.most {
			if len(to) != 0 {
				t.Errorf("%s: handed over after %d frames", name, i)
				break
			}
			if err := m.take(appendBody(tc.body)); err != nil {
				t.Fatal(err)
			}
		}
		if len(to) != 1 {
			t.Errorf("%s: %d are not handed over", name, tc.most)
		}
	}
}

// A reader borrows the memory for the frames that it gathers, and gives all of it back.
func TestInbound_Lends(t *testing.T) {
	var in inbound
	for range 2 {
		in.add(op{kind: opIgnore, topics: []string{"a"}, reply: []byte("12")})
		if cap(in.ops) != maxOps || in.size != topicSize+2 {
			t.Errorf("room for %d, a size of %d", cap(in.ops), in.size)
		}
		in.encode(topicName{"a", 1}, nil, NodeID{})
		ops, text := in.ops, in.text
		in.next = 1
		in.recycle()
		if len(*text) != 0 {
			t.Errorf("%d bytes are left for the next one", len(*text))
		}
		if ops[0].topics != nil || in.lent != nil || in.ops != nil || in.size != 0 || in.next != 0 || in.text != nil {
			t.Errorf("something is kept: %+v", in)
		}
	}
	wantAllocs(t, 1, func() { // none, but for what the race detector has pools forget
		in.add(op{kind: opIgnore})
		in.encode(topicName{"a", 1}, nil, NodeID{})
		in.recycle()
	})
}

var errSlow = &CloseError{Code: CodeSlow, Reason: "slow"}

// A listener gets the events from before its end, and then the end.
func TestRouters_ListenersGetWhatTheyWereToldBeforeTheEnd(t *testing.T) {
	hub, _ := newBenchRouter(0)
	spoke, _ := newTestSpokeRouter()
	for name, end := range map[string]func(*Subscription){
		"hub": func(sub *Subscription) { hub.tell(&sub.subscriber, testRun("a", 1)); hub.unlistened(sub, errSlow) },
		"spoke": func(sub *Subscription) {
			spoke.listeners[sub] = &call{}
			spoke.tell(&sub.subscriber, testRun("a", 1))
			spoke.unlistened(sub, errSlow)
		},
	} {
		sub := newSubscription([]string{"a"}, 1000, nil, nil)
		end(sub)
		n := 0
		for range sub.Events() {
			n++
		}
		if n != 1 || sub.Err() != error(errSlow) {
			t.Errorf("%s: %d events, then %v", name, n, sub.Err())
		}
	}
}

// A listener that has ended gets no more topics. A request for them returns the reason.
func TestRouter_ListenersEndBetweenTheirTopics(t *testing.T) {
	r, _ := newBenchRouter(0)
	sub := newSubscription([]string{"a", "b"}, 1000, nil, nil)
	if err := r.listened(listening{sub, []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	r.unlistened(sub, errSlow)
	if err := r.listened(listening{sub, []string{"b"}}); err != error(errSlow) {
		t.Errorf("behind its end, got %v", err)
	}
	r.drain()
	if err := r.listened(listening{newSubscription([]string{"a"}, 1000, nil, nil), []string{"a"}}); err != ErrHubClosed {
		t.Errorf("during a shutdown, got %v", err)
	}
	if len(r.listeners) != 0 || r.table.find("b") != nil {
		t.Errorf("%d listeners are left", len(r.listeners))
	}
}

// An answer counts as one event. So an empty queue takes an answer of any size.
func TestRouter_AnswersCountAsOne(t *testing.T) {
	r, members := newBenchRouter(1)
	out := &members[0].link.out
	out.limit = 1
	r.sends(members[0], op{kind: opSubscribe, id: "1", topics: []string{"a"}})
	r.turns()
	if _, events := out.waiting(); events != 1 || r.counts.CutOff != 0 {
		t.Errorf("%d answers wait, and %d spokes are cut off", events, r.counts.CutOff)
	}
}

// If a node has all its spokes on newer connections, a spoke of an older one is rejected and
// counted.
func TestRouter_OlderConnectionsAreRejected(t *testing.T) {
	r, members := newBenchRouter(1)
	r.opts.MaxSpokesPerNode = 1
	members[0].peer = &peer{number: 2}
	r.byNode[members[0].id] = members
	late := newTestMember(nil, HubOptions{})
	late.peer.number, late.peer.pending = 1, true
	if err := r.joined(late); err != error(errReplaced) || r.counts.Rejected != 1 {
		t.Errorf("got %v, and %d are rejected", err, r.counts.Rejected)
	}
}

// An abortable stream says nothing, and notes with what it was aborted.
type abortable struct {
	Stream
	codes []uint64
}

func (s *abortable) Read(context.Context, []byte) (int, error) { return 0, io.EOF }
func (s *abortable) Abort(code uint64)                         { s.codes = append(s.codes, code) }

// What a transport keeps for a stream can go at its end, whether its connection has others or
// not.
func TestMember_AbortsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, stream := newTestMember(nil, HubOptions{}), &abortable{}
		m.joined = false
		m.link = newLink(t.Context(), stream, 1000, time.Second)
		m.link.shut = func(*CloseError) { close(m.link.closed) }
		go m.link.write()
		m.frames.Max = 1
		m.read()
		if len(stream.codes) != 1 || stream.codes[0] != 0 {
			t.Errorf("it is aborted with %v, want once, with 0", stream.codes)
		}
	})
}

// Subscribe returns the router's error.
func TestHub_SubscribeHearsTheRouter(t *testing.T) {
	h := &Hub{inbox: newInbox()}
	go func() {
		q := <-h.inbox.listen
		close(h.inbox.done)
		q.reply <- errSlow
	}()
	if sub, err := h.Subscribe(t.Context(), "a"); sub != nil || err != error(errSlow) {
		t.Errorf("Subscribe returns %v, %v", sub, err)
	}
}
