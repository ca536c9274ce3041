//go:build unix

package key

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openFlags keep the opening of a FIFO from waiting for who writes to it.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// checkOwner wants a file to be of the user that this process acts for: who owns it can read
// it and change it, and root would read anybody's.
func checkOwner(path string, info fs.FileInfo, euid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != euid {
		return fmt.Errorf("%s belongs to user %d, and this is user %d; if nobody else has read it: chown %d %[1]s", path, stat.Uid, euid, euid)
	}
	return nil
}
