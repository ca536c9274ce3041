// Package service is the interface between a program and the service manager that has started it,
// for example systemd. It uses environment variables: LISTEN_PID and LISTEN_FDS for sockets that
// the manager hands in, and NOTIFY_SOCKET for the program's state.
package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// The states for [Notify].
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// firstSocket is the descriptor of the first socket that the manager hands in.
const firstSocket = 3

// Listener returns the socket that the manager has handed in to this process, as a listener. It
// returns nil if there is none. More than one socket, or a socket that does not listen for
// streams, is an error. Listener removes the environment variables and makes child processes not
// inherit the socket, so that they do not use it. A second call returns nil.
func Listener() (net.Listener, error) {
	return listener(firstSocket)
}

func listener(first int) (net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) { // not set, or meant for a parent process
		return nil, nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	switch n, err := strconv.Atoi(count); {
	case err != nil || n < 0:
		return nil, fmt.Errorf("LISTEN_FDS: %q is not a number of sockets", count)
	case n == 0:
		return nil, nil
	case n > 1:
		return nil, fmt.Errorf("LISTEN_FDS: %d sockets were handed in, and only one is supported", n)
	}
	file := os.NewFile(uintptr(first), "handed-in socket")
	if file == nil {
		return nil, errors.New("LISTEN_FDS: no socket was handed in")
	}
	defer file.Close() // the listener has a copy, which child processes do not inherit
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("LISTEN_FDS: the file that was handed in is not a socket that listens for streams: %w", err)
	}
	return l, nil
}

// Notify tells the service manager a state. It does nothing if there is no NOTIFY_SOCKET.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET") // package net also takes a leading @ as an abstract address
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
