package main

import (
	"bufio"
	"encoding/json"
	"io"

	"irohub"
)

// printAhead is how many events may wait beside the Subscription's own queue.
const printAhead = 64

// printEvents writes each event as a line of JSON, until the Subscription ends or
// limit events are written; 0: no limit. It returns how many there were. The error
// is one of writing alone.
func printEvents(out io.Writer, sub *irohub.Subscription, limit int) (printed int, err error) {
	// Iterating does not tell whether another event is waiting, but the length of a
	// channel does: lines are flushed when none is, so that each is seen at once and
	// a burst costs few writes.
	waiting := make(chan irohub.Event, printAhead)
	go func() { // until the Subscription ends, which the next function waits for
		defer close(waiting)
		for ev := range sub.Events() {
			waiting <- ev
		}
	}()
	defer func() {
		sub.Close()
		for range waiting {
		}
	}()

	w := bufio.NewWriterSize(out, 64<<10)
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false) // payloads pass as they are, but for their spaces
	for ev := range waiting {
		if err := lines.Encode(ev); err != nil {
			return printed, err
		}
		printed++
		done := printed == limit
		if done || len(waiting) == 0 {
			if err := w.Flush(); err != nil {
				return printed, err
			}
		}
		if done {
			break
		}
	}
	return printed, w.Flush()
}
