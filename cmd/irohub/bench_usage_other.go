//go:build !unix

package main

import "time"

// On this system, CPU time and memory are not known.

func cpuTime() time.Duration { return 0 }

func memory() int { return 0 }
