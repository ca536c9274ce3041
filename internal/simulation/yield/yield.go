// Package yield interrupts goroutines as a seed says. The simulation inserts a call of [Point]
// before every relevant statement of package irohub (see its command run). Only the
// simulation's build imports this package.
//
// It uses no locks, so it works only in a single-threaded program.
package yield

import (
	"math"
	"math/rand/v2"
	"runtime"
	"time"
)

var (
	left   int // points to pass before the next interruption
	mean   int // mean number of points between two interruptions
	random *rand.Rand

	// Count is the number of interruptions so far.
	Count int
)

// Start sets the mean number of points between two interruptions; 0: none.
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

// interrupt lets other goroutines run: mostly about one turn each, sometimes much longer (while
// any of them passes points), and now and then for a time by the clock, as on a busy machine.
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
		idle := 0
		for range 2 + random.IntN(30) {
			before := left
			runtime.Gosched()
			if left != before {
				idle = 0
			} else if idle++; idle == 2 {
				break // nobody else has work; the rest of the turns would change nothing
			}
		}
	default:
		time.Sleep(time.Duration(random.IntN(1 << (10 + random.IntN(15))))) // up to 16 ms
	}
}
