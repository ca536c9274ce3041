//go:build !unix

package main

import (
	"context"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

func limited(ctx context.Context, _ int, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}
