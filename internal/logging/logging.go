// Package logging is how irohub logs and calls the application: nothing waits for a log
// handler, no panic of the application's gets further, and what may be much is summed up.
package logging

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A Log is how a hub or a spoke logs: nothing of it ever waits for the application's
// handler. Lines go into a bounded queue; what finds it full is dropped and counted. A
// goroutine that hands the lines to the handler exists only while there are any.
type Log struct {
	logger  *slog.Logger     // nil: nothing is logged
	queue   chan slog.Record // capacity logQueue; never closed
	writing atomic.Bool      // the goroutine exists
	dropped atomic.Uint64    // lines since the last one that said so
}

// logQueue is how many lines wait for a slow handler.
const logQueue = 256

// New makes a Log of the application's logger; nil: nothing is logged.
func New(logger *slog.Logger) *Log {
	return &Log{logger: logger, queue: make(chan slog.Record, logQueue)}
}

// Add logs a line. It never blocks.
func (l *Log) Add(level slog.Level, text string, attrs ...any) {
	if l.logger == nil {
		return
	}
	line := slog.NewRecord(time.Now(), level, text, 0)
	line.Add(attrs...)
	select {
	case l.queue <- line:
	default:
		l.dropped.Add(1)
	}
	if l.writing.CompareAndSwap(false, true) {
		// The handler's goroutine: it ends when the queue is empty, or never if the
		// handler never returns. Nobody waits for it.
		go l.write()
	}
}

func (l *Log) write() {
	for {
		for len(l.queue) > 0 { // nobody else receives
			line := <-l.queue
			if n := l.dropped.Swap(0); n > 0 {
				dropped := slog.NewRecord(line.Time, slog.LevelWarn, "log lines dropped: the handler is slower than they come", 0)
				dropped.Add("lines", n)
				l.handle(dropped)
			}
			l.handle(line)
		}
		l.writing.Store(false)
		if len(l.queue) == 0 || !l.writing.CompareAndSwap(false, true) {
			return
		}
	}
}

// handle gives a line to the application's handler. One that panics has lost the line.
func (l *Log) handle(line slog.Record) {
	defer func() {
		if recover() != nil {
			l.dropped.Add(1)
		}
	}()
	handler, ctx := l.logger.Handler(), context.Background()
	if handler.Enabled(ctx, line.Level) {
		handler.Handle(ctx, line)
	}
}

// Guard calls the application, and makes an error of a panic.
func (l *Log) Guard(name string, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.Add(slog.LevelError, "callback panicked", "callback", name, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("internal error")
		}
	}()
	return call()
}

// noticePause is how long a warning of one kind is not repeated.
const noticePause = time.Minute

// A Notice is a warning that would otherwise come with each of many events.
type Notice struct {
	again time.Time // when it may come again
	count int       // events since it came
}

// Due counts an event; a count other than 0 is to be told of now.
func (n *Notice) Due() (count int) {
	n.count++
	if now := time.Now(); now.After(n.again) {
		n.again = now.Add(noticePause)
		count, n.count = n.count, 0
	}
	return count
}

// A Tally sums up the connections that were turned away while nobody was told. It takes
// little memory, however many they are and wherever they come from.
type Tally struct {
	Count int
	Last  error

	hosts map[string]int // candidates for the host that most came from
}

// tallyHosts is how many hosts a Tally knows. By the algorithm of Misra and Gries, a host
// that more than one in so many came from is among them.
const tallyHosts = 64

func (t *Tally) Add(host string, why error) {
	t.Count++
	t.Last = why
	if t.hosts == nil {
		t.hosts = make(map[string]int)
	}
	if _, ok := t.hosts[host]; ok || len(t.hosts) < tallyHosts {
		t.hosts[host]++
		return
	}
	for other, n := range t.hosts {
		if n == 1 {
			delete(t.hosts, other)
		} else {
			t.hosts[other] = n - 1
		}
	}
}

// Most is a host that most came from, as far as the Tally can tell.
func (t *Tally) Most() (host string) {
	for other, n := range t.hosts {
		if best := t.hosts[host]; n > best || n == best && other < host {
			host = other
		}
	}
	return host
}
