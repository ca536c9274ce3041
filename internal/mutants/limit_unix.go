//go:build unix

package main

import (
	"context"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

// ownGroup makes the end of a command's context kill all processes that the command has started.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// limited returns a command whose address space is limited to the given number of MiB. On systems without
// such a limit, only GOMEMLIMIT and the time limit apply.
func limited(ctx context.Context, memory int, name string, args ...string) *exec.Cmd {
	if runtime.GOOS != "linux" {
		return exec.CommandContext(ctx, name, args...)
	}
	const script = `ulimit -c 0; ulimit -v "$1" && test -x "$2" || exit 125; shift; exec "$@"`
	return exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", strconv.Itoa(memory << 10), name}, args...)...)
}
