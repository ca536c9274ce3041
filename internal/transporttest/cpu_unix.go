//go:build unix

package transporttest

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of the CPUs, the native library's threads included.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
