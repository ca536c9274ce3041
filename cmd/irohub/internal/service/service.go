// Package service is what a program and the service manager that has started it say to each
// other, by the environment variables that systemd and others use: LISTEN_PID and LISTEN_FDS
// for sockets that are handed in, NOTIFY_SOCKET for how the program is.
package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// What a service tells with [Notify].
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// firstSocket is the descriptor of the first socket that is handed in.
const firstSocket = 3

// Listener returns the socket that was handed in to this process, as a listener; nil: there is
// none. More than one, or one that does not listen for streams, is an error. Child processes
// are not to take it for theirs: it is told of once, and closed in them.
func Listener() (net.Listener, error) {
	return listener(firstSocket)
}

func listener(first int) (net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) { // nothing, or that of a parent
		return nil, nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	switch n, err := strconv.Atoi(count); {
	case err != nil || n < 0:
		return nil, fmt.Errorf("LISTEN_FDS: %q is no number of sockets", count)
	case n == 0:
		return nil, nil
	case n > 1:
		return nil, fmt.Errorf("LISTEN_FDS: %d sockets were handed in, and one is wanted", n)
	}
	file := os.NewFile(uintptr(first), "handed-in socket")
	if file == nil {
		return nil, errors.New("LISTEN_FDS: no socket was handed in")
	}
	defer file.Close() // the listener has a copy, which is closed in children
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("LISTEN_FDS: what was handed in is no socket that listens for streams: %w", err)
	}
	return l, nil
}

// Notify tells the service manager a state. It does nothing where there is none that listens.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET") // a leading @ is an abstract one, to package net too
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return nil
}
