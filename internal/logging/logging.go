// Package logging is how irohub logs and calls the application. Nothing waits for a log
// handler, a panic of the application is caught, and frequent events are summed up in one
// line.
package logging

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A Log is the log of a hub or a spoke, which never wait for the application's handler. Lines
// go into a bounded queue. If it is full, they are dropped and counted. A goroutine passes the
// lines to the handler. It exists only while there are lines.
type Log struct {
	logger  *slog.Logger     // nil: nothing is logged
	queue   chan slog.Record // capacity logQueue; never closed
	writing atomic.Bool      // the goroutine exists
	dropped atomic.Uint64    // lines dropped since a line last reported them
}

// logQueue is how many lines may wait for a slow handler.
const logQueue = 256

// New makes a Log that writes to the application's logger. Nil: nothing is logged.
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
		// The writing goroutine. It ends when the queue is empty. If the handler never
		// returns, it never ends. Nobody waits for it.
		go l.write()
	}
}

func (l *Log) write() {
	for {
		for len(l.queue) > 0 { // this goroutine is the only receiver
			line := <-l.queue
			if n := l.dropped.Swap(0); n > 0 {
				dropped := slog.NewRecord(line.Time, slog.LevelWarn, "log lines dropped: the handler is too slow", 0)
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

// handle passes a line to the application's handler. If the handler panics, the line counts
// as dropped.
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

// Guard calls the application. If the call panics, Guard logs the panic and returns an error.
func (l *Log) Guard(name string, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.Add(slog.LevelError, "callback panicked", "callback", name, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("internal error")
		}
	}()
	return call()
}

// noticePause is the minimal time between two warnings of one kind.
const noticePause = time.Minute

// A Notice limits the rate of a warning about frequent events.
type Notice struct {
	again time.Time // when the next warning is allowed
	count int       // events since the last warning
}

// Due counts an event. If a warning is allowed now, it returns the number of events since the
// last warning, otherwise 0.
func (n *Notice) Due() (count int) {
	n.count++
	if now := time.Now(); now.After(n.again) {
		n.again = now.Add(noticePause)
		count, n.count = n.count, 0
	}
	return count
}

// A Tally sums up the connections that were turned away since the last log line. It takes
// little memory for any number of connections and hosts.
type Tally struct {
	Count int
	Last  error

	hosts map[string]int // candidates for the most frequent host
}

// tallyHosts is how many hosts a Tally counts. By the algorithm of Misra and Gries, each host
// of more than one connection in tallyHosts is among them.
const tallyHosts = 64

// Add counts a connection from host that was turned away because of why.
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

// Most returns the most frequent host, as far as the Tally can tell.
func (t *Tally) Most() (host string) {
	for other, n := range t.hosts {
		if best := t.hosts[host]; n > best || n == best && other < host {
			host = other
		}
	}
	return host
}
