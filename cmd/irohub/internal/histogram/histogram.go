// Package histogram counts durations so that their percentiles can be told, in memory
// that does not grow with their number.
//
// Its buckets are log-linear: below 256 ns each has 1 ns, and from there on each doubling
// is divided into 128 of the same width. So what a percentile is said to be is never below
// what it is, and above it by less than 1/128 (0.8%).
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

// A Histogram is ready as its zero value. Any goroutine may record; what the other
// methods say is of use once none does.
type Histogram struct {
	counts [buckets]atomic.Uint64
	max    atomic.Int64
}

// bucket is where v, which is not negative, is counted.
func bucket(v int64) int {
	shift := max(bits.Len64(uint64(v))-splitBits-1, 0)
	return shift<<splitBits + int(v>>shift)
}

// highest is the largest value that bucket i counts.
func highest(i int) int64 {
	shift := max(i>>splitBits-1, 0)
	return int64(i-shift<<splitBits+1)<<shift - 1
}

// Record counts d; less than nothing counts as nothing.
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

// Merge adds what other has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.raise(other.max.Load())
}

// Count is how many durations were recorded.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Max is the longest, exactly; 0: there is none.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile is the shortest duration than which a share q of all, 0.99 for instance, are no
// longer; 0: there is none.
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

// The JSON form has what one process tells another.
type form struct {
	Counts [][2]uint64 `json:"counts"` // the bucket, and how many it has
	Max    int64       `json:"max_ns"`
}

// MarshalJSON leaves empty buckets out.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	f := form{Max: h.max.Load()}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			f.Counts = append(f.Counts, [2]uint64{uint64(i), n})
		}
	}
	return json.Marshal(f)
}

// UnmarshalJSON adds what MarshalJSON wrote to what is there.
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
