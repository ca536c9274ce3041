package main

import (
	"strings"
	"testing"

	"irohub"
)

func TestVerdict(t *testing.T) {
	spoke := irohub.NodeID{1}
	publishers := map[irohub.NodeID]int{{}: 0, spoke: 1}
	a, b, c := `{"type":"file","id":"a"}`, `{"type":"file","id":"b"}`, `{"type":"file","id":"c","from":"`+spoke.String()+`"}`
	p := &plan{
		{{Type: "file", ID: "a"}, {Type: "file", ID: "b"}},
		{{Type: "file", ID: "c"}},
	}
	for _, test := range []struct {
		lines []string
		want  string // empty: correct
	}{
		{[]string{a, b, c}, ""},
		{[]string{c, a, b}, ""}, // the order between publishers does not matter
		{[]string{b, a, c}, "of the hub: out of order"},
		{[]string{a, b}, "of spoke 1: 1 missing, 0 too many"},
		{[]string{a, b, b, c}, "of the hub: 0 missing, 1 too many"},
		{[]string{a, a, c}, "of the hub: 1 missing, 1 too many"},
		{[]string{a, b, c, "rubbish"}, "strange"},
		{[]string{a, b, c, strings.Replace(c, "01", "02", 1)}, "strange"}, // of an unknown node
	} {
		s := subscriber{topics: []string{"file:*"}}
		s.prepare(p, publishers)
		for _, line := range test.lines {
			s.take(line)
		}
		if got := s.verdict(); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%q: verdict %q, want %q", test.lines, got, test.want)
		}
	}
}

func TestPick(t *testing.T) {
	p := share([]irohub.Event{{Type: "file", ID: "a"}, {Type: "file", ID: "a"}, {Type: "file", ID: "b"}}, irohub.NodeID{7})
	mailbox := "direct:" + irohub.NodeID{7}.String()
	for topic, want := range map[string]int{"file:*": 3, "file:a": 2, "file:b": 1, mailbox: 2, "file": 0} {
		if got := p.pick([]string{topic}).len(); got != want {
			t.Errorf("%s: %d events, want %d", topic, got, want)
		}
	}
	if got := p.pick([]string{"file:*", "file:a"}).len(); got != 3 {
		t.Errorf("overlapping topics: %d events, want 3", got)
	}
}
