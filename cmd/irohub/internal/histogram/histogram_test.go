package histogram

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBuckets_AreContiguousAndNarrow(t *testing.T) {
	low := int64(0) // the lowest value of bucket i
	for i := range buckets {
		high := highest(i)
		if bucket(low) != i || bucket(high) != i {
			t.Fatalf("bucket %d is from %d to %d, which belong to %d and %d", i, low, high, bucket(low), bucket(high))
		}
		if (high-low)*split > low {
			t.Fatalf("bucket %d is from %d to %d", i, low, high)
		}
		low = high + 1
	}
	if bucket(math.MaxInt64) != buckets-1 || highest(buckets-1) != math.MaxInt64 {
		t.Errorf("the longest duration belongs to bucket %d of %d", bucket(math.MaxInt64), buckets)
	}
}

var quantiles = []float64{0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1}

// wantNear compares a histogram with the exact quantiles of the recorded durations.
func wantNear(t *testing.T, h *Histogram, recorded []time.Duration) {
	t.Helper()
	slices.Sort(recorded)
	if n := h.Count(); n != uint64(len(recorded)) {
		t.Errorf("it counts %d, want %d", n, len(recorded))
	}
	for _, q := range quantiles {
		exact := recorded[max(int(math.Ceil(q*float64(len(recorded)))), 1)-1]
		if got := h.Quantile(q); got < exact || (got-exact)*split > exact {
			t.Errorf("quantile %v is said to be %v, and is %v", q, got, exact)
		}
	}
	if longest := recorded[len(recorded)-1]; h.Max() != longest || h.Quantile(1) != longest {
		t.Errorf("the longest is said to be %v and %v, and is %v", h.Max(), h.Quantile(1), longest)
	}
}

func TestQuantile_AgainstTheExactOnes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, next := range map[string]func() time.Duration{
		"even":        func() time.Duration { return time.Duration(random.Int64N(1e9)) },
		"exponential": func() time.Duration { return time.Duration(random.ExpFloat64() * 1e6) },
		"all scales":  func() time.Duration { return time.Duration(math.Exp(random.Float64() * 40)) },
		"alike":       func() time.Duration { return 12_345_678 },
		"tiny":        func() time.Duration { return time.Duration(random.Int64N(4)) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 10, 100_000} {
				var h Histogram
				recorded := make([]time.Duration, n)
				for i := range recorded {
					recorded[i] = next()
					h.Record(recorded[i])
				}
				wantNear(t, &h, recorded)
			}
		})
	}
}

func TestMerge_IsAsIfOneHadRecordedAll(t *testing.T) {
	var one, other, whole Histogram
	var recorded []time.Duration
	for i := range 3000 {
		d := time.Duration(rand.Int64N(int64(time.Second)))
		recorded = append(recorded, d)
		if i%3 == 0 {
			one.Record(d)
		} else {
			other.Record(d)
		}
	}
	text, err := json.Marshal(&other)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &whole); err != nil { // as from another process
		t.Fatal(err)
	}
	whole.Merge(&one)
	whole.Merge(&Histogram{})
	wantNear(t, &whole, recorded)
}

func TestEmpty(t *testing.T) {
	var h Histogram
	text, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	var again Histogram
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	for _, q := range quantiles {
		if d := again.Quantile(q); d != 0 {
			t.Errorf("quantile %v of nothing is %v", q, d)
		}
	}
	if again.Count() != 0 || again.Max() != 0 {
		t.Errorf("nothing is counted as %d, of up to %v", again.Count(), again.Max())
	}
}

func TestRecord_NegativeIsNothing(t *testing.T) {
	var h Histogram
	h.Record(-time.Second)
	if h.Count() != 1 || h.Max() != 0 || h.Quantile(1) != 0 {
		t.Errorf("count %d, longest %v", h.Count(), h.Max())
	}
}

func TestUnmarshalJSON_RefusesAnUnknownBucket(t *testing.T) {
	var h Histogram
	if err := json.Unmarshal([]byte(`{"counts":[[7296,1]]}`), &h); err == nil {
		t.Error("no error")
	}
}
