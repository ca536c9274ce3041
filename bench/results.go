package main

import (
	"slices"
	"time"
)

// The metrics and their units.
const (
	metricRate   = "deliveries per second"
	metricCPU    = "CPU seconds per million deliveries"
	metricServer = "deliveries per second of the server's CPU time, its subscribers apart"
	metricP50    = "latency p50, milliseconds"
	metricP99    = "latency p99, milliseconds"
	metricMemory = "resident KiB per idle subscriber"
)

// results are the measurements of one run of this command.
type results struct {
	Date    string
	Machine machine
	Length  time.Duration // approximate length of a measurement; nanoseconds in JSON
	Rounds  int
	Systems []string
	Numbers []int // numbers of subscribers
	Series  []*series
}

// A series has one value per round.
type series struct {
	System      string
	Metric      string
	Subscribers int
	Values      []float64
}

func (r *results) add(system, metric string, n int, value float64) {
	s := r.find(system, metric, n)
	if s == nil {
		s = &series{System: system, Metric: metric, Subscribers: n}
		r.Series = append(r.Series, s)
	}
	s.Values = append(s.Values, value)
}

func (r *results) find(system, metric string, n int) *series {
	for _, s := range r.Series {
		if s.System == system && s.Metric == metric && s.Subscribers == n {
			return s
		}
	}
	return nil
}

func (r *results) values(system, metric string, n int) []float64 {
	if s := r.find(system, metric, n); s != nil {
		return s.Values
	}
	return nil
}

// bestPeer returns the peer with the highest median; ok is false if none was measured.
func (r *results) bestPeer(metric string, n int) (best contestant, ok bool) {
	var highest float64
	for _, c := range contestants {
		values := r.values(c.name, metric, n)
		if c.role != peer || len(values) == 0 {
			continue
		}
		if m := summarize(values).median; !ok || m > highest {
			best, highest, ok = c, m, true
		}
	}
	return best, ok
}

// A summary summarizes a series.
type summary struct{ min, median, max float64 }

// summarize needs at least one value.
func summarize(values []float64) summary {
	v := slices.Sorted(slices.Values(values))
	half := len(v) / 2
	median := v[half]
	if len(v)%2 == 0 {
		median = (v[half-1] + v[half]) / 2
	}
	return summary{v[0], median, v[len(v)-1]}
}

// ratios divides round by round. So a disturbance that slows down a whole round cancels out.
func ratios(a, b []float64) []float64 {
	var quotients []float64
	for i := range min(len(a), len(b)) {
		quotients = append(quotients, a[i]/b[i])
	}
	return quotients
}
