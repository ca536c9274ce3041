package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBenchPlan_SpokesGetTheEventsOfTheirTopics(t *testing.T) {
	for spokes := 1; spokes <= 4; spokes++ {
		for topics := 1; topics <= 7; topics++ {
			for subscriptions := 1; subscriptions <= topics; subscriptions++ {
				p := &benchPlan{Run: "r", Spokes: spokes, Topics: topics, Subscriptions: subscriptions}
				checkPlan(t, p)
			}
		}
	}
}

// checkPlan compares the results of next and due with the topics of the events and spokes.
func checkPlan(t *testing.T, p *benchPlan) {
	const events = 30
	ids := p.ids()
	subscribed := make(map[string]bool)
	for spoke := range p.Spokes {
		topics := p.topics(spoke)
		if slices.Sort(topics); len(slices.Compact(topics)) != p.Subscriptions {
			t.Fatalf("%+v: spoke %d has the topics %q", p, spoke, topics)
		}
		due, next := 0, p.next(spoke, 0)
		for i := range events {
			if got := p.due(spoke, i); got != due {
				t.Fatalf("%+v: of %d events spoke %d is to get %d, want %d", p, i, spoke, got, due)
			}
			ev := p.event(i, 0, newPayload(minPayload), ids)
			if !slices.Contains(topics, ev.Topic()) {
				continue
			}
			if i != next {
				t.Fatalf("%+v: spoke %d gets event %d, want %d", p, spoke, next, i)
			}
			due, next = due+1, p.next(spoke, i+1)
			subscribed[ev.Topic()] = true
		}
	}
	if want := min(p.Topics, p.Spokes*p.Subscriptions); len(subscribed) != want {
		t.Errorf("%+v: %d topics have subscribers, want %d", p, len(subscribed), want)
	}
}

func TestBenchPlan_PaceBoundsWhatIsUndelivered(t *testing.T) {
	for size := minPayload; size <= maxBenchPayload; size += size/10 + 1 {
		p := &benchPlan{Size: size}
		p.pace()
		events := p.Block * p.Blocks
		if events < 1 || events > maxUndelivered || events > 1 && events*size > maxUndeliveredBytes {
			t.Errorf("%d bytes: %d blocks of %d events", size, p.Blocks, p.Block)
		}
	}
	p := &benchPlan{Size: 256}
	if p.pace(); p.Block*p.Blocks != 1024 {
		t.Errorf("256 bytes: %d blocks of %d events", p.Blocks, p.Block)
	}
}

// Spokes receive events independently of each other, as far as these are published.
func TestWorker_CountsTheBlocksThatAllSpokesAreThroughWith(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, plan := range []benchPlan{
		{Topics: 1, Subscriptions: 1, Block: 1, Blocks: 1},
		{Topics: 1, Subscriptions: 1, Block: 16, Blocks: 8},
		{Topics: 7, Subscriptions: 3, Block: 4, Blocks: 3},
		{Topics: 100, Subscriptions: 20, Block: 2, Blocks: 8}, // one spoke may be far ahead of another
	} {
		w := &worker{work: &work{Plan: plan, Spokes: [2]int{2, 7}}, wake: make(chan struct{}, 1)}
		w.prepare()
		for _, s := range w.spokes {
			s.pass(s.next)
		}
		for published := 0; published < 5000; {
			if published/plan.Block < int(w.blocks.Load())+plan.Blocks {
				published++
			}
			s := w.spokes[random.IntN(len(w.spokes))]
			if s.next >= published {
				continue
			}
			s.next = plan.next(s.number, s.next+1)
			s.pass(s.next)

			through := s.next
			for _, s := range w.spokes {
				through = min(through, s.next)
			}
			if got := int(w.blocks.Load()); got != through/plan.Block {
				t.Fatalf("%+v: through with %d blocks, but all spokes only with the events before %d", plan, got, through)
			}
		}
	}
}

func TestBenchPlan_PayloadIsJSONOfItsSize(t *testing.T) {
	for _, size := range []int{minPayload, minPayload + 1, 256, 100_000} {
		p := &benchPlan{Topics: 1, Size: size}
		payload := newPayload(size)
		for _, n := range []int{0, 1, math.MaxInt / 4} {
			due := time.Duration(n) * 3 / 4
			setPayload(payload, n, due)
			var object struct{ N, Due, Pad string }
			if err := json.Unmarshal(payload, &object); err != nil || len(payload) != size {
				t.Fatalf("%d bytes, not %d: %s (%v)", len(payload), size, payload, err)
			}
			if want := fmt.Sprintf("%016x", n); object.N != want {
				t.Errorf("the number is %s, want %s", object.N, want)
			}
			gotN, gotDue, err := p.readPayload(payload)
			if gotN != n || gotDue != due || err != nil {
				t.Errorf("read %d and %v, want %d and %v (%v)", gotN, gotDue, n, due, err)
			}
		}
		if _, _, err := p.readPayload(payload[1:]); err == nil {
			t.Error("a payload of another size is read")
		}
		payload[payloadAt] = 'x'
		if _, _, err := p.readPayload(payload); err == nil {
			t.Error("a payload without a number is read")
		}
	}
}
