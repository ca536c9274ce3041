// Package yield interrupts goroutines where a seed says so. The simulation puts a call of
// [Point] before every statement of package irohub that could matter (see its command
// run); nothing else imports this package, and no build but the simulation's.
//
// It knows no locks, and so is for one thread alone.
package yield

import (
	"math"
	"math/rand/v2"
	"runtime"
	"time"
)

var (
	left   int // points that are passed before the next interruption
	mean   int // between two of them
	random *rand.Rand

	// Count is how many interruptions there have been.
	Count int
)

// Start interrupts a goroutine about every so many points; 0: never.
func Start(every int, r *rand.Rand) {
	mean, random = every, r
	next()
}

func next() {
	left = math.MaxInt
	if mean > 0 {
		left = 1 + random.IntN(2*mean)
	}
}

// Point is a place where a goroutine may be interrupted.
func Point() {
	if left--; left <= 0 {
		interrupt()
	}
}

// interrupt lets others run: mostly for as long as all of them once, sometimes for much
// longer, and now and then for a while by the clock, as where a machine is busy.
func interrupt() {
	if mean == 0 {
		next()
		return
	}
	Count++
	next()
	switch n := random.IntN(64); {
	case n < 40:
		runtime.Gosched()
	case n < 60:
		for range 2 + random.IntN(30) {
			runtime.Gosched()
		}
	default:
		time.Sleep(time.Duration(random.IntN(1 << (10 + random.IntN(15))))) // up to 16 ms
	}
}
