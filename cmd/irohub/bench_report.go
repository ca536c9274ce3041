package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"irohub/cmd/irohub/internal/histogram"
)

// figures are the results of a bench, in the form that --json prints. A pointer is nil if the
// figure is not known.
type figures struct {
	Transport     string  `json:"transport"`
	Hub           string  `json:"hub,omitempty"` // the hub of --hub
	Spokes        int     `json:"spokes"`
	Topics        int     `json:"topics"`
	Subscriptions int     `json:"subscriptions_per_spoke"`
	PayloadBytes  int     `json:"payload_bytes"`
	Rate          float64 `json:"rate_events_per_s"` // 0: full speed
	Processes     int     `json:"processes"`

	Seconds       float64 `json:"seconds"` // from the start of publishing to the last delivery
	Events        int     `json:"events"`
	EventsPerS    float64 `json:"events_per_s"`
	Deliveries    int     `json:"deliveries"`
	DeliveriesPer float64 `json:"deliveries_per_s"`
	MBPerS        float64 `json:"payload_mb_per_s"`

	P50  *float64 `json:"latency_p50_us"`
	P90  *float64 `json:"latency_p90_us"`
	P99  *float64 `json:"latency_p99_us"`
	P999 *float64 `json:"latency_p99_9_us"`
	Max  *float64 `json:"latency_max_us"`

	CPU            *float64 `json:"cpu_s"`
	CPUPerDelivery *float64 `json:"cpu_us_per_delivery"`
	Memory         *int     `json:"memory_bytes"`
	IdlePerSpoke   *int     `json:"idle_memory_bytes_per_spoke"`
	Connect        float64  `json:"connect_s"`
	ConnectsPerS   float64  `json:"connects_per_s"`

	Lost   int `json:"lost_deliveries"`
	CutOff int `json:"spokes_cut_off"`
}

// figures adds up the workers' results.
func (b *bench) figures() *figures {
	f := &figures{
		Transport:     b.transport,
		Spokes:        b.plan.Spokes,
		Topics:        b.plan.Topics,
		Subscriptions: b.plan.Subscriptions,
		PayloadBytes:  b.plan.Size,
		Rate:          b.rate,
		Processes:     b.processes,
		Events:        b.events,
		Connect:       b.connect.Seconds(),
		ConnectsPerS:  float64(b.plan.Spokes) / b.connect.Seconds(),
	}
	if b.hub != "" {
		f.Hub = b.source.addr.String()
	}
	var latency histogram.Histogram
	last, cpu, memory, idle := b.start, b.cpu, b.memory, b.idle
	for _, r := range b.results {
		latency.Merge(r.Latency)
		f.Deliveries += r.Deliveries
		f.Lost += r.Lost
		f.CutOff += r.CutOff
		last = max(last, r.Last)
		if b.processes > 0 { // otherwise b's own figures include the worker's
			cpu += r.CPU
			memory += r.Memory
			idle += r.Idle
		}
	}
	if f.Seconds = (last - b.start).Seconds(); f.Seconds > 0 {
		f.EventsPerS = float64(f.Events) / f.Seconds
		f.DeliveriesPer = float64(f.Deliveries) / f.Seconds
		f.MBPerS = f.DeliveriesPer * float64(f.PayloadBytes) / 1e6
	}
	if f.Deliveries > 0 {
		for q, to := range map[float64]**float64{0.5: &f.P50, 0.9: &f.P90, 0.99: &f.P99, 0.999: &f.P999, 1: &f.Max} {
			*to = new(micros(latency.Quantile(q)))
		}
	}
	if cpu > 0 {
		f.CPU = new(cpu.Seconds())
		if f.Deliveries > 0 {
			f.CPUPerDelivery = new(micros(cpu) / float64(f.Deliveries))
		}
	}
	if memory > 0 {
		f.Memory, f.IdlePerSpoke = &memory, new(max(idle, 0)/f.Spokes)
	}
	return f
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// shortcoming returns an error if deliveries were lost or spokes cut off.
func (f *figures) shortcoming() error {
	switch {
	case f.CutOff == 0 && f.Lost == 0:
		return nil
	case f.CutOff == 0 && f.Deliveries == 0 && f.Hub != "":
		return errNotForwarded
	}
	return fmt.Errorf("%d deliveries were lost, and %d spokes were cut off", f.Lost, f.CutOff)
}

func (f *figures) json(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(f)
}

func (f *figures) table(w io.Writer) error {
	var t strings.Builder
	row := func(name, format string, v any) {
		text := "not known"
		switch v := v.(type) {
		case *float64:
			if v != nil {
				text = fmt.Sprintf(format, *v)
			}
		default:
			text = fmt.Sprintf(format, v)
		}
		fmt.Fprintf(&t, "%-26s %14s\n", name, text)
	}
	row("transport", "%s", f.Transport)
	row("spokes", "%d", f.Spokes)
	row("topics", "%d", f.Topics)
	row("subscriptions per spoke", "%d", f.Subscriptions)
	row("payload, bytes", "%d", f.PayloadBytes)
	if f.Rate > 0 {
		row("events/s wanted", "%g", f.Rate)
	}
	row("processes for spokes", "%d", f.Processes)
	row("seconds", "%.3f", f.Seconds)
	row("events", "%d", f.Events)
	row("events/s", "%.1f", f.EventsPerS)
	row("deliveries", "%d", f.Deliveries)
	row("deliveries/s", "%.0f", f.DeliveriesPer)
	row("payload, MB/s", "%.2f", f.MBPerS)
	row("latency p50, µs", "%.0f", f.P50)
	row("latency p90, µs", "%.0f", f.P90)
	row("latency p99, µs", "%.0f", f.P99)
	row("latency p99.9, µs", "%.0f", f.P999)
	row("latency max, µs", "%.0f", f.Max)
	row("CPU, s", "%.2f", f.CPU)
	row("CPU per delivery, µs", "%.2f", f.CPUPerDelivery)
	row("memory, MiB", "%.1f", per(f.Memory, 1<<20))
	row("idle memory per spoke, KiB", "%.1f", per(f.IdlePerSpoke, 1<<10))
	row("all connected in, s", "%.3f", f.Connect)
	row("connects/s", "%.0f", f.ConnectsPerS)
	row("lost deliveries", "%d", f.Lost)
	row("spokes cut off", "%d", f.CutOff)
	_, err := io.WriteString(w, t.String())
	return err
}

func per(n *int, unit float64) *float64 {
	if n == nil {
		return nil
	}
	return new(float64(*n) / unit)
}
