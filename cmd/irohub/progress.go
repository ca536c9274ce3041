package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A progress is a line at the bottom of a terminal that says how far something is. Without a
// terminal it says nothing. Its methods are for one goroutine.
type progress struct {
	screen io.Writer // nil: there is none
	shown  bool
}

// What a terminal obeys: the cursor goes to the line's beginning, and the line is cleared.
const clearLine = "\r\x1b[K"

// show puts a text in the place of the last.
func (p *progress) show(text string) {
	if p.screen != nil {
		io.WriteString(p.screen, clearLine+text)
		p.shown = true
	}
}

// clear makes room for what is printed next.
func (p *progress) clear() {
	if p.shown {
		io.WriteString(p.screen, clearLine)
		p.shown = false
	}
}

// barWidth is how many characters a bar has; a line with it fits into 80.
const barWidth = 20

// bar draws how much of a time has passed.
func bar(passed, whole time.Duration) string {
	full := barWidth
	if passed < whole {
		full = int(int64(barWidth) * int64(max(passed, 0)) / int64(whole))
	}
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// running is the line while events are published.
func running(passed, whole time.Duration, eventsPerS, deliveriesPerS int) string {
	return fmt.Sprintf("%s %v of %v  %s events/s  %s deliveries/s",
		bar(passed, whole), passed.Round(time.Second), whole, thousands(eventsPerS), thousands(deliveriesPerS))
}

// thousands writes a number with commas.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
