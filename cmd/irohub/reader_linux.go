package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// readerGone returns a channel that is closed once nobody can read any more what is written to
// w, a pipe; never, where that cannot be known.
func readerGone(w io.Writer) <-chan struct{} {
	file, ok := w.(*os.File)
	if !ok {
		return nil
	}
	gone := make(chan struct{})
	fds := []unix.PollFd{{Fd: int32(file.Fd())}} // it asks for no event, and so hears of errors alone
	go func() {                                  // until there is one, or the process ends
		for {
			_, err := unix.Poll(fds, -1)
			switch {
			case err == unix.EINTR:
			case err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
				close(gone)
				return
			default:
				return
			}
		}
	}()
	return gone
}
