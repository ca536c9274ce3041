//go:build unix

package key

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// With openFlags, opening a FIFO does not wait for a writer.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// checkOwner returns an error unless the file belongs to the effective user of this process.
// Another owner could read and change it. Root would otherwise accept anybody's file.
func checkOwner(path string, info fs.FileInfo, euid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != euid {
		return fmt.Errorf("%s belongs to user %d, and this is user %d; if nobody else has read it: chown %d %[1]s", path, stat.Uid, euid, euid)
	}
	return nil
}
