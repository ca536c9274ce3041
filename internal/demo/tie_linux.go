package main

import (
	"os/exec"
	"syscall"
)

// tie makes the system kill a process when the demo is killed.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
