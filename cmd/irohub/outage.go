package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"irohub"
)

// An outage is a slog.Handler. While a spoke is not connected, it logs that at growing intervals,
// with the error of the last attempt. The library logs that error only on the debug level.
type outage struct {
	slog.Handler // the handler of log
	log          *slog.Logger

	mu    sync.Mutex
	since time.Time   // when the connection was lost
	timer *time.Timer // calls tell; nil while the spoke is connected
	why   string      // the error of the last attempt
}

// outageFirst is when an outage is logged first. From then on it is logged whenever its length
// has doubled.
const outageFirst = 10 * time.Second

// watchOutages sets the Logger and the callbacks of a spoke's options. Call stop at the end.
func watchOutages(opts *irohub.SpokeOptions, log *slog.Logger) (stop func()) {
	o := &outage{Handler: log.Handler(), log: log}
	opts.Logger = slog.New(o)
	opts.OnDisconnect = func(error) { o.begin() }
	opts.OnReconnect = o.end
	return o.end
}

// Enabled implements slog.Handler. All levels are enabled, because Handle looks at debug lines.
func (o *outage) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler. It notes the error of a debug line.
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
		return // the outage has just ended
	}
	passed := time.Since(o.since)
	o.log.Warn("still not connected; the spoke keeps trying", "for", passed.Round(time.Second), "err", o.why)
	o.timer = time.AfterFunc(passed, o.tell)
}
