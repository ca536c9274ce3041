//go:build !linux

package main

import "io"

// readerGone works only on Linux. On other systems, the next write fails instead.
func readerGone(io.Writer) <-chan struct{} { return nil }
