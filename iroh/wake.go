//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #include "glue.h"
import "C"

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// How a goroutine waits for the library without holding a thread:
//
// Each poll of a future carries an id: the slot of a waiter, and how often that
// waiter has polled. When the library wakes the future, the glue puts the id on
// a queue, and the one goroutine of dispatch, which sleeps in Go's own network
// poller until then, wakes the goroutines whose ids it finds there. The library
// thus knows numbers alone: whatever it does late, with a future that has been
// dropped, finds a number that nobody waits for any more.
//
// The other way, a C callback into Go, costs the library's only network thread
// a switch to a processor of Go's at each event, for which it may have to wait.

// A waiter waits for one future at a time. It is never freed, so that a late
// wake finds it: they are as many as ever waited at the same time.
type waiter struct {
	slot  uint32
	polls uint32 // owned by the goroutine that has the waiter
	woken atomic.Uint32
	ready chan struct{} // capacity 1: a wake that comes before the wait is kept
}

var waiters struct {
	all  atomic.Pointer[[]*waiter] // by slot; slot 0 is not used
	mu   sync.Mutex
	free []*waiter
}

func getWaiter() *waiter {
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	if n := len(waiters.free); n > 0 {
		w := waiters.free[n-1]
		waiters.free = waiters.free[:n-1]
		return w
	}
	all := []*waiter{nil}
	if p := waiters.all.Load(); p != nil {
		all = *p
	}
	w := &waiter{slot: uint32(len(all)), ready: make(chan struct{}, 1)}
	// dispatch may be reading the old slice: it has no element that append writes.
	all = append(all, w)
	waiters.all.Store(&all)
	return w
}

func putWaiter(w *waiter) {
	waiters.mu.Lock()
	defer waiters.mu.Unlock()
	waiters.free = append(waiters.free, w)
}

// next returns the id for the next poll.
func (w *waiter) next() C.uint64_t {
	w.polls++
	return C.uint64_t(w.slot)<<32 | C.uint64_t(w.polls)
}

// id returns the id of the last poll.
func (w *waiter) id() C.uint64_t { return C.uint64_t(w.slot)<<32 | C.uint64_t(w.polls) }

// isWoken reports whether the last poll's wake has come. It is not enough that
// ready was: that may be the wake of a poll before, whose future was dropped.
func (w *waiter) isWoken() bool { return int32(w.woken.Load()-w.polls) >= 0 }

// finish waits until the operation that r is the first result of has ended, and
// returns what failed says of it. It ends early, and drops the operation, when
// ctx ends, or when gone is closed: then with errGone. p is where the
// operation's bytes go.
func (w *waiter) finish(ctx context.Context, gone <-chan struct{}, r *result, p []byte) error {
	for r.status == C.IROHUB_PENDING {
		op, future := r.op, r.future
		live.Add(1)
		err := w.wait(ctx, gone)
		live.Add(-1)
		if err != nil {
			C.irohub_drop(op, future, w.id())
			return err
		}
		*r = result{}
		C.irohub_resume(op, future, bytesPtr(p), C.size_t(len(p)), w.next(), r)
	}
	return failed(r)
}

func (w *waiter) wait(ctx context.Context, gone <-chan struct{}) error {
	for {
		select {
		case <-w.ready:
			if w.isWoken() {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return errGone
		}
	}
}

// startWaking starts dispatch. It ends with the process.
func startWaking() error {
	fd, err := C.irohub_wake_fd()
	if fd < 0 {
		return fmt.Errorf("wake descriptor: %w", err)
	}
	file := os.NewFile(uintptr(fd), "iroh wakes")
	conn, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("wake descriptor: %w", err)
	}
	go conn.Read(dispatch)
	return nil
}

// dispatch wakes whom the queue names, and returns false to be called at the next
// signal. Go's poller tells of each signal, edge by edge, so that they need not
// be read; but a pipe, which stands in for Linux's eventfd, would be full at last.
func dispatch(fd uintptr) bool {
	var ids [128]C.uint64_t
	if runtime.GOOS != "linux" {
		var signals [512]byte
		syscall.Read(int(fd), signals[:])
	}
	for {
		n := int(C.irohub_woken(&ids[0], C.int(len(ids))))
		if n == 0 {
			return false
		}
		all := *waiters.all.Load()
		for _, id := range ids[:n] {
			w, poll := all[id>>32], uint32(id)
			if int32(poll-w.woken.Load()) > 0 { // else it is late, and the waiter beyond
				w.woken.Store(poll)
			}
			select {
			case w.ready <- struct{}{}:
			default:
			}
		}
	}
}
