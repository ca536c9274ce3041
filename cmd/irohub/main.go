// Command irohub runs a hub, or a spoke that subscribes or publishes, from the
// command line, and measures what a hub carries. Events are JSON lines on standard input
// and output; logs go to standard error.
//
//	irohub hub [flags]
//	irohub sub [flags] PEER TOPIC…
//	irohub pub [flags] PEER [TOPIC [PAYLOAD]]
//	irohub bench [flags]
//	irohub id --key FILE
//	irohub version
//	irohub completion bash|zsh|fish|powershell
//
// Each of them explains itself with --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// The exit statuses besides 0.
const (
	statusFailed = 1 // the hub is unreachable, refuses, or goes away
	statusInput  = 2 // the command line or the input is wrong
)

func main() {
	// A closed standard output is to be an error like any other, not the
	// program's death by SIGPIPE.
	signal.Ignore(syscall.SIGPIPE)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal kills
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// stdio is what a command reads and writes.
type stdio struct {
	in     io.Reader
	out    io.Writer
	log    *slog.Logger     // does not wait for whoever reads standard error
	screen io.Writer        // standard error, if it is a terminal and has no log of details; else nil
	hangup <-chan os.Signal // SIGHUP, for a command that reloads
}

// A usageError is a command line that makes no sense; an inputError is input that
// makes none. Both have status 2.
type (
	usageError struct{ error }
	inputError struct{ error }
)

func (e usageError) Unwrap() error { return e.error }
func (e inputError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

var errInterrupted = errors.New("interrupted")

// interrupted puts an interruption by the user in place of the error that it caused.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// A signal ends the program within a second: what is done at the end has endTime of it in
// all, and standard error logTimeout for what was said.
const (
	endTime    = 650 * time.Millisecond
	logTimeout = 250 * time.Millisecond
)

// untilEnd returns a context that goes on for endTime after ctx has ended. Everything that is
// done at the end shares it.
func untilEnd(ctx context.Context) (end context.Context, cancel context.CancelFunc) {
	end, cancel = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(endTime, cancel) })
	return end, cancel
}

// await calls f and returns its error. When ctx ends first, it waits no longer and returns
// ctx's error: what is done at the end of the process need not be done to the end.
func await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }() // ended by f, or by the end of the process
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	said := newLogSink(stderr)
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), logTimeout)
		defer cancel()
		said.close(end)
	}()
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, said: said}
	called, err := p.execute(ctx, args)
	if err == nil {
		return 0
	}
	// One line, whatever a peer has put into its reason.
	said.put(fmt.Appendf(nil, "%s: %s", called.CommandPath(), strings.TrimPrefix(err.Error(), "irohub: ")))
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(said, "usage: %s\n%s --help says more\n", called.UseLine(), called.CommandPath())
		return statusInput
	}
	if _, ok := errors.AsType[inputError](err); ok {
		return statusInput
	}
	return statusFailed
}
