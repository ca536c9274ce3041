// Package histogram counts durations and computes their percentiles. Its memory does not grow
// with their number.
//
// Its buckets are log-linear. Below 256 ns, each bucket is 1 ns wide. Above, each doubling is
// divided into 128 buckets of equal width. So a percentile is never too low, and too high by less
// than 1/128 (0.8%).
package histogram

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	splitBits = 7
	split     = 1 << splitBits // buckets of each doubling
	buckets   = (63-splitBits)*split + split
)

// A Histogram counts durations. The zero value is ready to use. Any goroutine may call Record.
// The other methods give exact results once no goroutine calls Record any more.
type Histogram struct {
	counts [buckets]atomic.Uint64
	max    atomic.Int64
}

// bucket returns the index of the bucket that counts v. v must not be negative.
func bucket(v int64) int {
	shift := max(bits.Len64(uint64(v))-splitBits-1, 0)
	return shift<<splitBits + int(v>>shift)
}

// highest returns the largest value that bucket i counts.
func highest(i int) int64 {
	shift := max(i>>splitBits-1, 0)
	return int64(i-shift<<splitBits+1)<<shift - 1
}

// Record counts d. A negative duration counts as 0.
func (h *Histogram) Record(d time.Duration) {
	v := max(int64(d), 0)
	h.counts[bucket(v)].Add(1)
	h.raise(v)
}

func (h *Histogram) raise(v int64) {
	for {
		old := h.max.Load()
		if v <= old || h.max.CompareAndSwap(old, v) {
			return
		}
	}
}

// Merge adds the counts of other.
func (h *Histogram) Merge(other *Histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.raise(other.max.Load())
}

// Count returns the number of recorded durations.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Max returns the longest recorded duration, exactly. It is 0 if there is none.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile returns the duration that a share q of all durations, for example 0.99, does not
// exceed. It is 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(uint64(math.Ceil(q*float64(h.Count()))), 1)
	var n uint64
	for i := range h.counts {
		if n += h.counts[i].Load(); n >= rank {
			return min(time.Duration(highest(i)), h.Max())
		}
	}
	return h.Max()
}

// A form is a Histogram as JSON.
type form struct {
	Counts [][2]uint64 `json:"counts"` // index and count of each bucket that is not empty
	Max    int64       `json:"max_ns"`
}

// MarshalJSON implements json.Marshaler. It omits empty buckets.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	f := form{Max: h.max.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			f.Counts = append(f.Counts, [2]uint64{uint64(i), n})
		}
	}
	return json.Marshal(f)
}

// UnmarshalJSON implements json.Unmarshaler. It adds to the counts of h.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var f form
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	for _, c := range f.Counts {
		if c[0] >= buckets {
			return fmt.Errorf("histogram: there is no bucket %d", c[0])
		}
		h.counts[c[0]].Add(c[1])
	}
	h.raise(f.Max)
	return nil
}
