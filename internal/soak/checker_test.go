package main

import (
	"fmt"
	"strings"
	"testing"

	"irohub"
)

// A checker that finds nothing would pass every soak.
func TestWatch_CatchesWhatIsWrong(t *testing.T) {
	const topics = 3
	publisher := irohub.NodeID{1}
	for name, test := range map[string]struct {
		published int // events on each topic after the acknowledgement; 5 come before it
		order     []uint64
		change    func(*irohub.Event)
		losses    []int // losses before each event; nil: 0
		want      string
		missing   bool
	}{
		"all":                     {published: 3, order: []uint64{5, 6, 7}},
		"on the way at the time":  {published: 2, order: []uint64{3, 4, 5, 6}},
		"gap":                     {published: 3, order: []uint64{5, 7}, want: "a gap"},
		"gap at the beginning":    {published: 3, order: []uint64{6, 7}, want: "behind the acknowledgement"},
		"gap at the end":          {published: 3, order: []uint64{5, 6}, missing: true},
		"nothing":                 {published: 1, missing: true},
		"nothing published":       {},
		"duplicate":               {published: 2, order: []uint64{5, 5, 6}, want: "is a duplicate"},
		"reordering":              {published: 3, order: []uint64{5, 6, 7, 6}, want: "out of order"},
		"swapped":                 {published: 2, order: []uint64{4, 6, 5}, want: "a gap"},
		"from the future":         {published: 1, order: []uint64{5, 6}, want: "never published"},
		"gap of a loss":           {published: 3, order: []uint64{5, 7}, losses: []int{0, 1}},
		"two gaps of one loss":    {published: 5, order: []uint64{5, 7, 9}, losses: []int{0, 1, 1}, want: "a gap"},
		"two gaps of two losses":  {published: 5, order: []uint64{5, 7, 9}, losses: []int{0, 1, 2}},
		"duplicate after a loss":  {published: 1, order: []uint64{5, 5}, losses: []int{0, 1}, want: "is a duplicate"},
		"reordering after a loss": {published: 2, order: []uint64{5, 6, 5}, losses: []int{0, 0, 1}, want: "out of order"},
		"end lost after a loss":   {published: 2, order: []uint64{5}, losses: []int{1}, missing: true},
		"wrong from": {published: 1, order: []uint64{5}, want: "is from",
			change: func(ev *irohub.Event) { ev.From = irohub.NodeID{3} }},
		"no from": {published: 1, order: []uint64{5}, want: "is from",
			change: func(ev *irohub.Event) { ev.From = irohub.NodeID{} }},
		"topic not subscribed to": {published: 1, order: []uint64{5}, want: "no subscription",
			change: func(ev *irohub.Event) { ev.ID = "2" }},
		"no such topic": {published: 1, order: []uint64{5}, want: "no subscription",
			change: func(ev *irohub.Event) { ev.ID = "1:" }},
		"no such source": {published: 1, order: []uint64{5}, want: "no source 9",
			change: func(ev *irohub.Event) { ev.Payload = []byte(`{"source":9,"n":5}`) }},
		"no payload of ours": {published: 1, order: []uint64{5}, want: "payload",
			change: func(ev *irohub.Event) { ev.Payload = []byte(`[]`) }},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := &ledger{topics: topics}
			ledger.open(irohub.NodeID{})
			src := ledger.open(publisher)
			publish := func(n int) {
				for range n {
					src.event(1, 0)
				}
			}
			losses := 0
			w := ledger.newWatch(nil, func() int { return losses }, 0, 1)
			publish(5)
			w.begin()
			publish(test.published)
			var got []string
			for i, n := range test.order {
				ev := irohub.Event{Type: "t", ID: "1", From: publisher}
				ev.Payload = fmt.Appendf(nil, `{"source":%d,"n":%d}`, src.number, n)
				if test.change != nil {
					test.change(&ev)
				}
				if test.losses != nil {
					losses = test.losses[i]
				}
				if err := w.see(ev); err != nil {
					got = append(got, err.Error())
				}
			}
			faults := strings.Join(got, "; ")
			if !strings.Contains(faults, test.want) || (faults == "") != (test.want == "") {
				t.Errorf("faults %q, want %q", faults, test.want)
			}
			if test.want != "" {
				return
			}
			src.state.Store(final)
			if missing := w.missing(); (missing != "") != test.missing {
				t.Errorf("missing %q, want some: %v", missing, test.missing)
			}
		})
	}
}

func TestWatch_OwnEventIsAFault(t *testing.T) {
	for _, node := range []irohub.NodeID{{1}, {}} { // a spoke and the hub
		ledger := &ledger{topics: 1}
		former, own := ledger.open(node), ledger.open(node)
		w := ledger.newWatch(own, nil, 0)
		w.begin()
		see := func(ev irohub.Event) error {
			ev.From = node
			return w.see(ev)
		}
		// Events of the same node on an earlier connection belong to another source.
		if err := see(former.event(0, 0)); err != nil {
			t.Error(err)
		}
		if err := see(own.event(0, 0)); err == nil || !strings.Contains(err.Error(), "its own") {
			t.Errorf("%v", err)
		}
		own.event(0, 0)
		own.state.Store(final)
		if missing := w.missing(); missing != "" {
			t.Errorf("its own are said to be missing: %s", missing)
		}
	}
}

// A source has ended before. Its events in flight may still arrive, in order.
func TestWatch_FormerSource(t *testing.T) {
	ledger := &ledger{topics: 1}
	former := ledger.open(irohub.NodeID{1})
	var sent []irohub.Event
	for range 5 {
		ev := former.event(0, 0)
		ev.From = former.from
		sent = append(sent, ev)
	}
	former.state.Store(complete)
	w := ledger.newWatch(nil, nil, 0)
	w.begin()
	if missing := w.missing(); missing != "" {
		t.Errorf("missing %s", missing)
	}
	if err := w.see(sent[2]); err != nil {
		t.Error(err)
	}
	if missing := w.missing(); missing == "" {
		t.Error("nothing is missing, of what follows")
	}
	if err := w.see(sent[4]); err == nil {
		t.Error("a gap is not seen")
	}
}

// Events in flight when a source breaks may be lost; they do not count as missing.
func TestWatch_MissesWhatTheHubHasTaken(t *testing.T) {
	ledger := &ledger{topics: 1}
	losses := 0
	kept := ledger.newWatch(nil, nil, 0)
	lost := ledger.newWatch(nil, func() int { return losses }, 0)
	kept.begin()
	lost.begin()
	src := ledger.open(irohub.NodeID{1})
	src.event(0, 0)
	losses++
	for state, want := range map[int32][2]bool{open: {false, false}, broken: {false, false}, complete: {true, false}, final: {true, true}} {
		src.state.Store(state)
		if got := [2]bool{kept.missing() != "", lost.missing() != ""}; got != want {
			t.Errorf("state %d: missing %v, want %v", state, got, want)
		}
	}
}
