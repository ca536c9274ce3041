package sessions

import "testing"

// A run is repeated while its transport loses a code, but not for ever, and for nothing else.
func TestAgain(t *testing.T) {
	for _, losses := range []int{0, 2, 3} {
		runs := 0
		Again(t, func(lossy bool) {
			runs++
			p := player{T: t, lossy: lossy}
			if runs <= losses {
				p.lost.Store(true)
				p.fail("the code is lost")
			}
		})
		if runs != losses+1 {
			t.Errorf("%d losses, %d runs", losses, runs)
		}
	}
	runs := 0
	defer func() {
		if why := recover(); why != "another" || runs != 1 {
			t.Errorf("panic %v after %d runs", why, runs)
		}
	}()
	Again(t, func(bool) {
		runs++
		panic("another")
	})
}
