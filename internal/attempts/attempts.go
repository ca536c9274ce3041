// Package attempts tries the addresses of a node, one beside the other, and has the error of a
// dial or a handshake that fails.
package attempts

import (
	"context"
	"time"
)

// headStart is how long one attempt runs alone before the next one starts in parallel.
const headStart = 250 * time.Millisecond

// First makes up to n attempts in order: the next one starts when the one before has failed,
// or after 250 ms. It returns the value of the first that succeeds. It cancels the context of
// the others, passes their values to drop, and returns once all attempts have ended. If all
// fail, it returns the first error that is not vague, or else the last. Once ctx has ended it
// starts no attempt, so it may return neither ok nor an error.
func First[T any](ctx context.Context, n int, attempt func(ctx context.Context, i int) (T, error),
	drop func(T), vague func(error) bool) (won T, ok bool, failed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		value T
		err   error
	}
	results := make(chan result) // unbuffered: the loop below receives one for each goroutine
	next := time.NewTimer(headStart)
	defer next.Stop()
	started, ended := 0, 0
	start := func() {
		if ok || ctx.Err() != nil || started == n {
			return
		}
		i := started
		started++
		next.Reset(headStart)
		go func() {
			value, err := attempt(ctx, i)
			results <- result{value, err}
		}()
	}
	start()
	for ended < started {
		select {
		case r := <-results:
			ended++
			switch {
			case r.err == nil && !ok:
				won, ok = r.value, true
				cancel()
			case r.err == nil:
				drop(r.value)
			case failed == nil || vague(failed):
				failed = r.err // prefer any error to a vague one
			}
			start()
		case <-next.C:
			start()
		}
	}
	if ok {
		failed = nil
	}
	return won, ok, failed
}
