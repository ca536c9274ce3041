//go:build unix

package transporttest

import (
	"syscall"
	"time"
)

// cpuTime returns the CPU time of this process, including the native library's threads.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
