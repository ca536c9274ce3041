package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"text/tabwriter"

	"irohub"
)

// A subscriber is a process that prints events, with the events that it should print.
type subscriber struct {
	name       string
	flags      []string
	topics     []string
	process    *process
	publishers map[irohub.NodeID]int
	want       *plan

	arrived  atomic.Int64
	complete chan struct{} // closed when the expected number of events has arrived

	// Written by take, and read when the process has exited.
	got     plan
	strange []string // lines that are not an event of any publisher
}

func (s *subscriber) prepare(p *plan, publishers map[irohub.NodeID]int) {
	s.publishers = publishers
	s.complete = make(chan struct{})
	if s.want = p.pick(s.topics); s.topics == nil { // the hub receives the spokes' events
		*s.want = *p
		s.want[0] = nil
	}
}

// take is called with each line that the process prints.
func (s *subscriber) take(line string) {
	var ev irohub.Event
	err := json.Unmarshal([]byte(line), &ev)
	if publisher, ok := s.publishers[ev.From]; err == nil && ok {
		ev.From = irohub.NodeID{}
		s.got[publisher] = append(s.got[publisher], ev)
	} else {
		s.strange = append(s.strange, line)
	}
	if s.arrived.Add(1) == int64(s.want.len()) {
		close(s.complete)
	}
}

// verdict compares the expected events with those that arrived.
func (s *subscriber) verdict() string {
	var faults []string
	for p := range s.want {
		want, got := texts(s.want[p]), texts(s.got[p])
		if strings.Join(want, "\n") == strings.Join(got, "\n") {
			continue
		}
		balance := make(map[string]int) // expected minus received
		for _, text := range want {
			balance[text]++
		}
		for _, text := range got {
			balance[text]--
		}
		missing, extra := 0, 0
		for _, n := range balance {
			missing, extra = missing+max(n, 0), extra+max(-n, 0)
		}
		who := fmt.Sprint("of spoke ", p)
		if p == 0 {
			who = "of the hub"
		}
		if missing+extra == 0 {
			faults = append(faults, who+": out of order")
		} else {
			faults = append(faults, fmt.Sprintf("%s: %d missing, %d too many", who, missing, extra))
		}
	}
	if len(s.strange) > 0 {
		faults = append(faults, fmt.Sprintf("%d strange lines, such as %.200q", len(s.strange), s.strange[0]))
	}
	return strings.Join(faults, "; ")
}

func texts(events []irohub.Event) []string {
	list := make([]string, len(events))
	for i, ev := range events {
		list[i] = ev.Topic() + " " + string(ev.Payload)
	}
	return list
}

// report prints the table. It returns an error if a subscriber's result is wrong.
func report(subscribers []*subscriber) (err error) {
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "SUBSCRIBER\tTOPICS\tEXPECTED\tRECEIVED\tRESULT")
	for _, s := range subscribers {
		result := s.verdict()
		if result == "" {
			result = "all, once, in order"
		} else {
			err = errors.New("not all subscribers received what they should")
		}
		topics := strings.Join(s.topics, " ")
		if s.topics == nil {
			topics = "(what spokes publish)"
		} else if len(topics) > 40 {
			topics = topics[:20] + "…"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", s.name, topics, s.want.len(), s.arrived.Load(), result)
	}
	table.Flush()
	return err
}
