package irohub

import (
	"context"
	"encoding/binary"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newTestAttachment makes an attachment to a link without reader and writer.
func newTestAttachment() *attachment {
	l := newLink(context.Background(), nil, 1<<20, time.Second)
	l.ready = make(chan struct{})
	return newAttachment(l)
}

// newTestSpokeRouter makes a router whose hub has answered the greeting.
func newTestSpokeRouter() (*spokeRouter, *attachment) {
	r := newSpokeRouter(newSpokeInbox(), time.Second, func(error) {})
	a := newTestAttachment()
	r.attached(a)
	r.answered("1", nil)
	return r, a
}

// The events that the writer took are lost with the link, even if Publish has not counted them
// yet. Events that are still queued are not lost.
func TestSpokeRouter_LossIsWhatTheWriterTook(t *testing.T) {
	for _, taken := range []int64{0, 1} {
		r, a := newTestSpokeRouter()
		a.link.taken.Store(taken)
		r.published <- frames{[]byte("event"), 1}
		r.count.Store(1 - taken)
		a.link.cancel(errors.New("lost"))
		r.detached(a)
		if lost := r.loss != nil; lost != (taken > 0) || r.refusal != r.loss {
			t.Errorf("%d taken: the loss is %v, the refusal %v", taken, r.loss, r.refusal)
		}
	}
}

// A batch from an earlier link's reader, or that link's end, has no effect on the current link.
func TestSpokeRouter_ForgetsTheFormerLink(t *testing.T) {
	r, old := newTestSpokeRouter()
	sub := newSubscription([]string{"a"}, 1000, r.unlisten, r.done)
	reply := make(chan error, 1)
	r.listened(sub, reply)
	r.on.ask(r.newID)
	late := func(from *attachment) *arrivals {
		reader := &spokeReader{on: from}
		reader.work.free = make(chan *arrivals, 2)
		in := &arrivals{from: reader}
		for id := range r.lastID + 3 {
			in.items = append(in.items, arrival{id: string(rune('0' + id))})
		}
		return in
	}
	old.link.cancel(errors.New("lost"))
	r.detached(old)
	r.work(late(old)) // while there is none
	next := newTestAttachment()
	r.work(late(next)) // before the router has heard of it
	r.attached(next)
	r.work(late(old))
	r.detached(old)
	if r.on != next || next.begun || len(next.askings) != 1 || len(reply) != 0 {
		t.Errorf("on %p, want %p; begun: %v, answered: %d, and %d requests wait", r.on, next, next.begun, len(reply), len(next.askings))
	}
	r.on.ask(r.newID)
	r.work(late(next))
	r.work(late(next))
	if !next.begun || len(reply) != 1 || len(next.askings) != 0 {
		t.Errorf("begun: %v, answered: %d, %d askings", next.begun, len(reply), len(next.askings))
	}
}

// The writer's last write has an event that Publish was about to queue when the Spoke was closed.
func TestWriter_WaitsForThoseWhoHaveEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &sink{}
		l := newLink(t.Context(), stream, 1<<20, time.Second)
		g, published := newGate(), make(chan frames, 1)
		l.published, l.gate, l.ready = published, &g, make(chan struct{})
		close(l.ready)
		g.enter()
		g.shut(errSpokeClosed)
		l.out.finish(&CloseError{})
		written := make(chan error, 1)
		go func() { written <- l.writeLoop() }()
		synctest.Wait()
		published <- frames{[]byte("event"), 1}
		g.leave()
		<-written
		if stream.n == 0 {
			t.Error("an event was accepted, and is not written")
		}
	})
}

// Without a connection, Close reports such an event as not written.
func TestSpokeRouter_CloseWaitsForThoseWhoHaveEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSpokeRouter(newSpokeInbox(), time.Second, func(error) {})
		r.enter()
		go r.finish()
		synctest.Wait()
		r.published <- frames{[]byte("event"), 1}
		r.leave()
		synctest.Wait()
		if r.err == nil {
			t.Error("an event was accepted, and nothing said of it")
		}
	})
}

// Notifications are bounded, those about connections alternate, and the last one stays.
func TestNotifications_DropsTheOldest(t *testing.T) {
	var q notifications
	for range 1000 {
		q.add(notification{kind: reconnected})
		q.add(notification{kind: eventRefused})
		q.add(notification{kind: disconnected})
		q.add(notification{kind: reconnected})
		for _, n := range q.waiting {
			if n.kind == disconnected {
				t.Fatal("the first that is left is not the one whose turn it is")
			} else if n.kind == reconnected {
				break
			}
		}
		q.add(notification{kind: disconnected})
	}
	counts := make(map[notificationKind]int)
	missed := make(map[notificationKind]int)
	var last notificationKind
	for i, n := range q.waiting {
		counts[n.kind]++
		missed[n.kind] += n.missed
		if n.kind == eventRefused {
			continue
		}
		if i > 0 && n.kind == last {
			t.Errorf("%d follows %d", n.kind, last)
		}
		last = n.kind
	}
	if last != disconnected {
		t.Errorf("the last is %d", last)
	}
	for kind, want := range []int{8, 8, 16} {
		if counts[notificationKind(kind)] != want {
			t.Errorf("%d of kind %d wait, want %d", counts[notificationKind(kind)], kind, want)
		}
	}
	for kind, want := range map[notificationKind]int{reconnected: 4000 - 16, eventRefused: 984} {
		if missed[kind] != want {
			t.Errorf("of kind %d, %d were missed, want %d", kind, missed[kind], want)
		}
	}
}

// A slow listener of rare small events between frequent large ones keeps only the memory that
// its queue counts.
func TestSpokeRouter_EventsKeepNothingElseAlive(t *testing.T) {
	r, _ := newTestSpokeRouter()
	sub := newSubscription([]string{"rare"}, 1<<20, r.unlisten, r.done)
	r.table.add(&sub.subscriber, "rare")
	r.listeners[sub] = &call{}
	reader := &spokeReader{on: r.on}
	reader.work.free = make(chan *arrivals, 2)
	in := &arrivals{from: reader}
	large := make([]byte, 8000)
	for i := range large {
		large[i] = '1'
	}
	for range 100 {
		for _, ev := range []Event{{Type: "rare", Payload: []byte("1")}, {Type: "often", Payload: large}} {
			_, m := appendRun(nil, topicName{ev.Type, len(ev.Type)}, ev.Payload, NodeID{})
			in.event(&m, slices.Clone(m.bytes))
		}
		r.work(in)
		<-reader.work.free
	}
	r.fanout.flush()
	kept := 0
	for _, run := range (<-sub.queue.box).items {
		kept += cap(run.bytes) + cap([]byte(run.topic.text))
	}
	if counted, events := sub.queue.waiting(); kept > counted || events != 100 {
		t.Errorf("%d events keep %d bytes, and %d are counted", events, kept, counted)
	}
}

// The queue counts a run until its last event is yielded, since its memory is not freed earlier.
func TestSubscription_CountsAsLongAsTheMemoryIsThere(t *testing.T) {
	sub := newSubscription([]string{"t"}, 1<<20, nil, nil)
	f := fanout{table: newTable()}
	all := testRun("t", 4)
	f.tell(&sub.subscriber, all)
	f.flush()
	n := 0
	for range sub.Events() {
		n++
		want := all.cost()
		if n == 4 {
			want = 0
		}
		if bytes, _ := sub.queue.waiting(); bytes != want {
			t.Errorf("after event %d, %d bytes are counted, want %d", n, bytes, want)
		}
		if kept := sub.rest.items[0].bytes != nil; kept && n == 4 {
			t.Error("what does not count any more is kept")
		}
		if n == 4 {
			break
		}
	}
}

// A second answer to a Flush does not settle the refusals that came between the two.
func TestSpokeRouter_SecondAnswerToAFlushCountsForNothing(t *testing.T) {
	r, _ := newTestSpokeRouter()
	frame, reply := make(chan frames, 1), make(chan error, 1)
	r.flushing(flushing{frame: frame, reply: reply, taken: new(atomic.Bool)})
	id := strconv.FormatUint(r.lastID, 10)
	r.answered(id, nil)
	if err := <-reply; err != nil {
		t.Fatal(err)
	}
	r.answered("", &refusal{err: ErrForbidden})
	r.answered(id, nil)
	if r.refusal != ErrForbidden || len(reply) != 0 {
		t.Errorf("the refusal is %v, and %d answers more have come", r.refusal, len(reply))
	}
}

// Either a Flush returns the answer, or the router learns that nobody got it.
func TestFlush_AnsweredAsItGivesUp(t *testing.T) {
	refused := errors.New("refused")
	for range 500 { // in each, the answer and the end of ctx come at the same time
		s := &Spoke{inbox: newSpokeInbox()}
		ctx, cancel := context.WithCancel(t.Context())
		answered := make(chan bool, 1)
		go func() { // stands for the router
			f := <-s.inbox.flush
			f.frame <- frames{}
			<-s.inbox.published
			go cancel()
			runtime.Gosched()
			told := f.take()
			if told {
				f.reply <- refused
			}
			answered <- told
		}()
		err := s.Flush(ctx)
		if told := <-answered; told != (err == refused) {
			t.Fatalf("Flush returned %v; the router has told: %v", err, told)
		}
		cancel()
	}
}

// What a Flush that has given up does not report is reported by the next call.
func TestSpokeRouter_KeepsWhatAFlushDoesNotReport(t *testing.T) {
	for _, gaveUp := range []bool{false, true} {
		r, a := newTestSpokeRouter()
		r.count.Store(1)
		a.link.taken.Store(1)
		f := flushing{frame: make(chan frames, 1), reply: make(chan error, 1), taken: new(atomic.Bool)}
		r.flushing(f)
		if gaveUp && !f.take() {
			t.Fatal("it is taken")
		}
		a.link.cancel(errors.New("no network"))
		r.detached(a)
		if (r.loss != nil) != gaveUp {
			t.Errorf("a Flush gave up: %v; the loss that is left is %v", gaveUp, r.loss)
		}
	}
}

// A Spoke that is being closed has lost nothing if the hub ends its half and then closes with
// code 0.
func TestSpokeRouter_CloseIsTheHubsLastWord(t *testing.T) {
	for _, tc := range []struct {
		end   error
		ended bool
		fine  bool
	}{
		{&CloseError{}, true, true},
		{&CloseError{}, false, false},
		{&CloseError{Code: CodeShutdown}, true, false},
		{errors.New("no network"), true, false},
		{errSpokeClosed, false, true},
	} {
		r, a := newTestSpokeRouter()
		r.finish()
		a.link.ended.Store(tc.ended)
		a.link.cancel(tc.end)
		r.detached(a)
		if !r.ended || (r.err == nil) != tc.fine || r.err != nil && !errors.Is(r.err, tc.end) {
			t.Errorf("%v, ended: %v: ended is %v, Close returns %v", tc.end, tc.ended, r.ended, r.err)
		}
	}
}

// Calls after Close return an error that says so.
func TestSpokeRouter_NothingBeginsBehindClose(t *testing.T) {
	r, a := newTestSpokeRouter()
	r.finish()
	sub, reply := newSubscription([]string{"a"}, 1000, r.unlisten, r.done), make(chan error, 2)
	r.listened(sub, reply)
	r.flushing(flushing{reply: reply, taken: new(atomic.Bool)})
	if len(reply) != 2 || <-reply != error(errSpokeClosed) || <-reply != error(errSpokeClosed) {
		t.Error("Subscribe and Flush are not answered")
	}
	if sub.Err() != error(errSpokeClosed) || len(r.listeners) != 0 || len(r.interests) != 0 {
		t.Errorf("the subscription ended with %v; %d are left", sub.Err(), len(r.listeners))
	}
	r.detached(a)
	next := newTestAttachment()
	r.attached(next)
	if next.link.err() != error(errSpokeClosed) {
		t.Errorf("a link that comes late ends with %v", next.link.err())
	}
}

// The end of a Spoke ends all its Subscriptions and calls, with the same error.
func TestSpokeRouter_EndsAll(t *testing.T) {
	var dialling error
	r := newSpokeRouter(newSpokeInbox(), time.Second, func(err error) { dialling = err })
	a := newTestAttachment()
	r.attached(a)
	r.answered("1", nil)
	sub := newSubscription([]string{"a"}, 1000, r.unlisten, r.done)
	reply := make(chan error, 2)
	r.listened(sub, reply)
	r.flushing(flushing{frame: make(chan frames, 1), reply: reply, taken: new(atomic.Bool)})
	why := errors.New("no hub")
	r.end(why)
	if len(reply) != 2 || <-reply != why || <-reply != why {
		t.Error("Subscribe and Flush are not answered")
	}
	if sub.Err() != why || dialling != why || r.cause != why || r.err != why || !r.ended || r.enter() {
		t.Errorf("subscription %v, dialling %v, cause %v, err %v, ended %v", sub.Err(), dialling, r.cause, r.err, r.ended)
	}
	if a.link.err() != error(errSpokeClosed) {
		t.Errorf("the link ended with %v", a.link.err())
	}
}

// newTestReader makes a reader whose router receives nothing.
func newTestReader(to chan *arrivals) *spokeReader {
	a := newTestAttachment()
	r := &spokeReader{on: a}
	r.work = newHandover(a.link, to, &arrivals{from: r}, &arrivals{from: r})
	return r
}

// What the reader remembers of the last event does not affect a different event.
func TestSpokeReader_EachEventIsItself(t *testing.T) {
	a := `{"type":"a","payload":1}`
	for _, between := range []string{`{"type":"b"}`, `{"type":"b", "payload":2}`, `{"type":"b","payload":2}`, `{"type":"` + strings.Repeat("b", 2*maxPrefix) + `","payload":2}`} {
		r := newTestReader(nil)
		for _, body := range []string{a, a, between, a, between, between, a} {
			if err := r.take(appendBody(body)); err != nil {
				t.Fatal(err)
			}
		}
		got := 0
		for _, item := range r.work.next.items {
			for all := item.run; all.count > 0; got++ {
				one := all.shift()
				ev := one.event()
				env, _ := parseEnvelope(one.bytes[headerSize:])
				if string(env.typ) != ev.Type || string(env.payload) != string(ev.Payload) {
					t.Errorf("frame %s is taken for %+v", one.bytes[headerSize:], ev)
				}
			}
		}
		if got != 7 || r.work.next.count != 7 {
			t.Errorf("%d events, %d counted, want 7", got, r.work.next.count)
		}
	}
}

func appendBody(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// A reader holds at most maxOps frames, counting events and answers.
func TestSpokeReader_HandsOverWhatIsMuch(t *testing.T) {
	for name, frame := range map[string][]byte{
		"answers":       ackFrame("1"),
		"of no request": ackFrame(strings.Repeat("1", maxID+1)),
		"events":        appendBody(`{"type":"a","payload":1}`),
	} {
		to := make(chan *arrivals, 1)
		r := newTestReader(to)
		for range maxOps {
			if len(to) != 0 {
				t.Errorf("%s: handed over early", name)
			}
			if err := r.take(frame); err != nil {
				t.Fatal(err)
			}
		}
		if len(to) != 1 {
			t.Errorf("%s: %d are not handed over", name, maxOps)
		}
	}
}

// A reader that cannot pass on a frame ends there: after it, the following frames would have a
// gap.
func TestSpokeReader_EndsWithTheFirstFrameThatItDrops(t *testing.T) {
	r := newTestReader(nil)
	<-r.work.free
	<-r.work.free // the router has both
	why := errors.New("no network")
	r.on.link.cancel(why)
	if err := r.take(ackFrame("1")); err != why {
		t.Errorf("got %v, want %v", err, why)
	}
}

// A hub that breaks the protocol ends its link.
func TestSpokeReader_RefusesWhatIsBroken(t *testing.T) {
	for _, body := range []string{`{"type":"a"`, `{"type":""}`, `{"type":"a","from":"x"}`, `{"type":"a","from":1,"payload":1}`, `[]`} {
		if err := newTestReader(nil).take(appendBody(body)); closeError(err) == nil || closeError(err).Code != CodeProtocol {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// The defaults are those in the comments. Values out of bounds are clamped.
func TestSpokeOptions_Defaults(t *testing.T) {
	want := SpokeOptions{
		MaxFrame: 1 << 20, MaxQueue: 1 << 20, HandshakeTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MinBackoff: 250 * time.Millisecond, MaxBackoff: 30 * time.Second,
	}
	negative := SpokeOptions{-1, -1, -1, -1, false, -1, -1, nil, nil, nil, nil}
	for _, o := range []SpokeOptions{{}, negative, want} {
		if got := o.withDefaults(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	own := SpokeOptions{MaxFrame: 4160, MaxQueue: 1, HandshakeTimeout: 2, WriteTimeout: 3, MinBackoff: 4, MaxBackoff: 5}
	if got := own.withDefaults(); !reflect.DeepEqual(got, own) {
		t.Errorf("got %+v, want %+v", got, own)
	}
	o := SpokeOptions{MaxFrame: 4095, MinBackoff: 5, MaxBackoff: 4}.withDefaults()
	if most := (SpokeOptions{MaxFrame: 1<<30 + 1}).withDefaults().MaxFrame; o.MaxFrame != minSpokeFrame || o.MaxBackoff != 5 || most != 1<<30 {
		t.Errorf("MaxFrame is brought to %d and %d, MaxBackoff to %v", o.MaxFrame, most, o.MaxBackoff)
	}
}

// Requests grow if the hub answers fast, and shrink if it answers slowly.
func TestAttachment_RequestsFollowTheHub(t *testing.T) {
	const limit = 8 * time.Second
	for _, tc := range []struct {
		most, topics int
		took         time.Duration
		want         int
	}{
		{1, 1, 0, 2},
		{1, 0, 0, 1}, // the greeting tells nothing
		{8, 7, 0, 8},
		{8, 8, limit/8 - 1, 16},
		{8, 8, limit / 8, 8},
		{8, 8, limit / 4, 8},
		{8, 8, limit/4 + 1, 4},
		{8, 7, limit, 8},
		{1, 1, limit, 1},
		{40, 40, 0, 64},
		{64, 64, 0, 64},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := newTestAttachment()
			a.most = tc.most
			a.request("1", make([]string, tc.topics))
			time.Sleep(tc.took)
			if a.answered("2", limit) != nil || a.answered("1", limit) == nil || a.answered("1", limit) != nil {
				t.Error("an answer is taken for another's")
			}
			if a.most != tc.want {
				t.Errorf("behind %d of %d topics in %v, the next request may have %d, want %d", tc.topics, tc.most, tc.took, a.most, tc.want)
			}
		})
	}
}

// A request has a limited number of topics and bytes, but at least one topic.
func TestAttachment_RequestsFit(t *testing.T) {
	half := strings.Repeat("x", maxRequest/2-3) // with its quotes and a comma
	for _, tc := range []struct {
		topics []string
		most   int
		want   int
	}{
		{nil, 5, 0},
		{topicsOf("t", 5), 5, 5},
		{topicsOf("t", 7), 5, 5},
		{[]string{half, half, "a", "b"}, 5, 2},
		{[]string{half, half + "x", "a"}, 5, 1},
		{[]string{half + half + half, "a"}, 5, 1},
	} {
		looked := 0 // fitting looks at no topic after the first that does not fit
		got := fitting(func(yield func(string) bool) {
			for _, topic := range tc.topics {
				if looked++; !yield(topic) {
					return
				}
			}
		}, tc.most)
		if got != tc.want || looked > got+1 {
			t.Errorf("%d of %d topics fit, want %d; %d were looked at", got, len(tc.topics), tc.want, looked)
		}
	}
}

// A topic that no Subscription has any more is not requested. If it has been requested, the
// Spoke unsubscribes, and the hub's answer is ignored.
func TestAttachment_Drop(t *testing.T) {
	a := newTestAttachment()
	for _, topic := range []string{"a", "b", "c"} {
		a.first[topic] = struct{}{}
		a.want(topic)
	}
	a.drop("b") // before it is asked for
	id := 0
	newID := func() string { id++; return strconv.Itoa(id) }
	a.most = 2
	a.ask(newID)
	a.drop("c") // behind
	a.drop("d") // never wanted
	a.ask(newID)
	var got []byte
	for _, f := range (<-a.link.out.box).items {
		got = append(got, f.bytes...)
	}
	want := slices.Concat(subscribeFrame(typeSubscribe, "1", "a", "c"), subscribeFrame(typeUnsubscribe, "", "c"))
	if string(got) != string(want) {
		t.Errorf("the hub is asked %q, want %q", got, want)
	}
	if len(a.first) != 1 || len(a.asked) != 1 || len(a.place) != 0 || a.todo.Len() != 0 || a.given != nil {
		t.Errorf("left are %d, %d, %d, %d and %d", len(a.first), len(a.asked), len(a.place), a.todo.Len(), len(a.given))
	}
}
