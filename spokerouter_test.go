package irohub

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// newTestAttachment is an attachment to a link that nobody reads or writes.
func newTestAttachment() *attachment {
	l := newLink(context.Background(), nil, 1<<20, time.Second)
	l.ready = make(chan struct{})
	return newAttachment(l)
}

// newTestSpokeRouter is a router whose hub has answered the greeting.
func newTestSpokeRouter() (*spokeRouter, *attachment) {
	r := newSpokeRouter(newSpokeInbox(), time.Second, func(error) {})
	a := newTestAttachment()
	r.attached(a)
	r.answered("1", nil)
	return r, a
}

// What the writer took is lost with the link, whether Publish has counted it yet or not; what is
// still queued is not.
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

// Nothing of one link means anything to another: not what its reader brings, nor its end.
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

// An event that Publish was about to queue as the Spoke was closed is written with the last.
func TestWriter_WaitsForThoseWhoHaveEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := &sink{}
		l := newLink(t.Context(), stream, 1<<20, time.Second)
		g, published := newGate(), make(chan frames, 1)
		l.published, l.gate, l.ready = published, &g, make(chan struct{})
		close(l.ready)
		g.enter()
		g.shut()
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

// Without a connection, it is counted among what Close could not write.
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

// Notifications are bounded, connections take turns, and the last one stays.
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

// A slow listener of rare small events between frequent large ones keeps no more than is counted.
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
			_, m := appendMessage(nil, topicName{ev.Type, len(ev.Type)}, ev.Payload, NodeID{})
			in.event(&m.run, slices.Clone(m.bytes))
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

// What a run costs is given back when its last event is out, since its memory goes no earlier.
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
		if n == 4 {
			break
		}
	}
}
