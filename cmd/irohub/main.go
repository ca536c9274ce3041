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
	// So a write to a closed standard output returns an error. SIGPIPE would kill the process.
	signal.Ignore(syscall.SIGPIPE)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second signal kills the process
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// stdio is what a command reads and writes.
type stdio struct {
	in     io.Reader
	out    io.Writer
	log    *slog.Logger     // never waits for the reader of standard error
	screen io.Writer        // standard error, if it is a terminal and --verbose is off; otherwise nil
	hangup <-chan os.Signal // SIGHUP, for a command that reloads; otherwise nil
}

// A usageError is an error in the command line. An inputError is an error in the input. Both have
// status 2.
type (
	usageError struct{ error }
	inputError struct{ error }
)

func (e usageError) Unwrap() error { return e.error }
func (e inputError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

var errInterrupted = errors.New("interrupted")

// interrupted returns errInterrupted in place of an error if ctx has ended, because a signal then
// caused the error.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// A signal ends the program within a second. Everything that is done at the end has endTime of it
// together. Then standard error has logTimeout for the rest of the log.
const (
	endTime    = 650 * time.Millisecond
	logTimeout = 250 * time.Millisecond
)

// untilEnd returns a context that ends endTime after ctx. Everything that is done at the end
// shares it.
func untilEnd(ctx context.Context) (end context.Context, cancel context.CancelFunc) {
	end, cancel = context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(endTime, cancel) })
	return end, cancel
}

// await calls f and returns its error. If ctx ends first, it returns the cause of that and leaves
// f running, because the process ends soon.
func await(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }() // ends with f, or with the process
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
	// The sink makes it one line, even if the error has a peer's text with line breaks.
	said.put(fmt.Appendf(nil, "%s: %s", called.CommandPath(), strings.TrimPrefix(err.Error(), "irohub: ")))
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(said, "usage: %s\nfor more, run: %s --help\n", called.UseLine(), called.CommandPath())
		return statusInput
	}
	if _, ok := errors.AsType[inputError](err); ok {
		return statusInput
	}
	return statusFailed
}
