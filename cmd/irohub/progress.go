package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A progress is a line at the bottom of a terminal that shows the progress of something. Without
// a terminal, its methods do nothing. Only one goroutine may call them.
type progress struct {
	screen io.Writer // nil: there is no terminal
	shown  bool
}

// clearLine moves a terminal's cursor to the start of the line and clears the line.
const clearLine = "\r\x1b[K"

// show replaces the text of the line.
func (p *progress) show(text string) {
	if p.screen != nil {
		io.WriteString(p.screen, clearLine+text)
		p.shown = true
	}
}

// clear removes the line, before something else is printed.
func (p *progress) clear() {
	if p.shown {
		io.WriteString(p.screen, clearLine)
		p.shown = false
	}
}

// barWidth is the number of characters of a bar. With it, a line fits into 80 columns.
const barWidth = 20

// bar returns a progress bar.
func bar(passed, whole time.Duration) string {
	full := barWidth
	if passed < whole {
		full = int(int64(barWidth) * int64(max(passed, 0)) / int64(whole))
	}
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// running returns the text of the line while events are published.
func running(passed, whole time.Duration, eventsPerS, deliveriesPerS int) string {
	return fmt.Sprintf("%s %v of %v  %s events/s  %s deliveries/s",
		bar(passed, whole), passed.Round(time.Second), whole, thousands(eventsPerS), thousands(deliveriesPerS))
}

// thousands returns a number with a comma after every third digit from the right.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
