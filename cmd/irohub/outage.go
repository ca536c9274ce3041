package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"irohub"
)

// An outage tells, less and less often, that a spoke does not come back, and why its last
// attempt failed, which the library logs as a detail alone.
type outage struct {
	slog.Handler // the program's
	log          *slog.Logger

	mu    sync.Mutex
	since time.Time   // when the connection was lost
	timer *time.Timer // for telling; nil: there is a connection
	why   string      // the last attempt's error
}

// An outage is first told of after outageFirst, and then each time after as long again.
const outageFirst = 10 * time.Second

// watchOutages has a spoke's options tell. What it returns ends it.
func watchOutages(opts *irohub.SpokeOptions, log *slog.Logger) (stop func()) {
	o := &outage{Handler: log.Handler(), log: log}
	opts.Logger = slog.New(o)
	opts.OnDisconnect = func(error) { o.begin() }
	opts.OnReconnect = o.end
	return o.end
}

// Enabled implements slog.Handler: details are looked at too.
func (o *outage) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (o *outage) Handle(ctx context.Context, line slog.Record) error {
	if line.Level < slog.LevelInfo {
		line.Attrs(func(a slog.Attr) bool {
			if a.Key == "err" {
				o.mu.Lock()
				o.why = a.Value.String()
				o.mu.Unlock()
			}
			return true
		})
	}
	if !o.Handler.Enabled(ctx, line.Level) {
		return nil
	}
	return o.Handler.Handle(ctx, line)
}

func (o *outage) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop()
	o.since, o.why = time.Now(), ""
	o.timer = time.AfterFunc(outageFirst, o.tell)
}

func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stop()
}

func (o *outage) stop() {
	if o.timer != nil {
		o.timer.Stop()
		o.timer = nil
	}
}

func (o *outage) tell() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer == nil {
		return // it has just ended
	}
	passed := time.Since(o.since)
	o.log.Warn("still not connected; trying on", "for", passed.Round(time.Second), "err", o.why)
	o.timer = time.AfterFunc(passed, o.tell)
}
