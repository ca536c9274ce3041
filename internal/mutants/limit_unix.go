//go:build unix

package main

import (
	"context"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

// ownGroup has a command's end by its context take all that it has started along.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// limited is a command that gets no more address space than so many MiB. Where the system
// has no such limit, GOMEMLIMIT and the time are all that holds it.
func limited(ctx context.Context, memory int, name string, args ...string) *exec.Cmd {
	if runtime.GOOS != "linux" {
		return exec.CommandContext(ctx, name, args...)
	}
	const script = `ulimit -c 0; ulimit -v "$1" && test -x "$2" || exit 125; shift; exec "$@"`
	return exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", strconv.Itoa(memory << 10), name}, args...)...)
}
