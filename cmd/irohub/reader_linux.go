package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// readerGone returns a channel that is closed when nobody can read from the pipe w any more. If w
// is no pipe, the channel is never closed.
func readerGone(w io.Writer) <-chan struct{} {
	file, ok := w.(*os.File)
	if !ok {
		return nil
	}
	gone := make(chan struct{})
	fds := []unix.PollFd{{Fd: int32(file.Fd())}} // asks for no events, so poll reports only errors
	go func() {                                  // ends with an error, or with the process
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
