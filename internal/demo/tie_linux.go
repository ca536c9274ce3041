package main

import (
	"os/exec"
	"syscall"
)

// tie has the system end a process with the demo, should that be killed.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
