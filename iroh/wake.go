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

// How a goroutine waits for the library without occupying a thread:
//
// Each poll of a future carries an id: the slot of a waiter, and the number of polls by
// that waiter. When the library wakes the future, the glue appends the id to a queue. One
// goroutine, dispatch, sleeps in Go's network poller until then, and wakes the goroutines
// whose ids are in the queue. The library knows only numbers. If it wakes a dropped future
// late, nobody waits for that number any more.
//
// The alternative is a C callback into Go. It would cost the library's only network thread
// a switch to a Go processor for each event, and it may have to wait for that processor.

// A waiter waits for one future at a time. It is never freed, so that a late wake finds it.
// There are as many waiters as ever waited at the same time.
type waiter struct {
	slot  uint32
	polls uint32 // owned by the goroutine that uses the waiter
	woken atomic.Uint32
	ready chan struct{} // capacity 1: keeps a wake that arrives before the wait; never closed
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
	// dispatch may be reading the old slice. append does not write to elements of it.
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

// isWoken reports whether the wake for the last poll has arrived. A token in ready is not
// enough: it may belong to an earlier poll, whose future was dropped.
func (w *waiter) isWoken() bool { return int32(w.woken.Load()-w.polls) >= 0 }

// finish waits until an operation has ended, and returns the error of its result. r is the
// operation's first result. When ctx ends, or gone is closed, finish drops the operation
// and returns ctx's error or errGone. The operation's bytes go to p.
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

// startWaking starts dispatch, which runs until the process ends.
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

// dispatch wakes the goroutines named in the queue, and returns false so that it is called
// at the next signal. Go's poller is edge-triggered, so the signals need not be read on
// Linux. Other systems use a pipe instead of an eventfd; the pipe is read so that it does
// not fill up.
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
			if int32(poll-w.woken.Load()) > 0 { // otherwise it is late: the waiter has moved on
				w.woken.Store(poll)
			}
			select {
			case w.ready <- struct{}{}:
			default:
			}
		}
	}
}
