//go:build !unix

package transporttest

import "time"

// cpuTime returns 0: CPU time is unknown here.
func cpuTime() time.Duration { return 0 }
