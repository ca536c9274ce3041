// Command irohub runs a hub, or a spoke that subscribes or publishes, from the
// command line, and measures what a hub carries. Events are JSON lines on standard input
// and output; logs go to standard error.
//
//	irohub id -key FILE
//	irohub hub [flags]
//	irohub sub [flags] PEER TOPIC…
//	irohub pub [flags] PEER [TOPIC [PAYLOAD]]
//	irohub bench [flags]
//
// Each of them explains itself with -h.
package main

import (
	"context"
	"errors"
	"flag"
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

// A command is what stands behind one word of the command line.
type command struct {
	name     string
	synopsis string // what follows the name
	text     string // what -h says of it
	// setup declares flags, and returns what does the work once they are read.
	setup func(*flag.FlagSet) action
}

// An action is given the arguments behind the flags. It ends when ctx does, which
// stands for SIGINT and SIGTERM.
type action func(ctx context.Context, args []string, std stdio) error

type stdio struct {
	in  io.Reader
	out io.Writer
	log *slog.Logger // does not wait for whoever reads standard error
}

var commands = []command{idCommand, hubCommand, subCommand, pubCommand, benchCommand}

// A usageError is a command line that makes no sense; an inputError is input that
// makes none. Both have status 2.
type (
	usageError struct{ error }
	inputError struct{ error }
)

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

var errInterrupted = errors.New("interrupted")

// interrupted puts an interruption by the user in place of the error that it caused.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// await calls f and returns its error. Once ctx has ended, it waits no longer than grace:
// what is done at the end of the process need not be done to the end.
func await(ctx context.Context, grace time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }() // ended by f, or by the end of the process
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return context.Cause(ctx)
	}
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		help(stderr)
		return statusInput
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(stdout)
		return 0
	}
	for _, cmd := range commands {
		if cmd.name == args[0] {
			return cmd.run(ctx, args[1:], stdin, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "irohub: there is no command %q; irohub -h lists them\n", args[0])
	return statusInput
}

// logTimeout is how long standard error may take, at the end, for what was said.
const logTimeout = time.Second

func (cmd *command) run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	said := newLogSink(stderr)
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), logTimeout)
		defer cancel()
		said.close(end)
	}()
	flags := flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its errors are printed below, like all others
	verbose := flags.Bool("v", false, "log details too")
	work := cmd.setup(flags)

	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "usage: irohub %s %s\n\n%s\n\nFlags:\n", cmd.name, cmd.synopsis, cmd.text)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return 0
	case err != nil:
		err = usageError{err}
	default:
		level := slog.LevelInfo
		if *verbose {
			level = slog.LevelDebug
		}
		log := slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: level}))
		err = work(ctx, flags.Args(), stdio{in: stdin, out: stdout, log: log})
	}
	if err == nil {
		return 0
	}
	// One line, whatever a peer has put into its reason.
	said.put(fmt.Appendf(nil, "irohub %s: %s", cmd.name, strings.TrimPrefix(err.Error(), "irohub: ")))
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(said, "usage: irohub %s %s\nirohub %[1]s -h says more\n", cmd.name, cmd.synopsis)
		return statusInput
	}
	if _, ok := errors.AsType[inputError](err); ok {
		return statusInput
	}
	return statusFailed
}

func help(w io.Writer) {
	fmt.Fprint(w, `irohub passes events between processes by topic, over iroh or over TLS.

`)
	for _, cmd := range commands {
		fmt.Fprintf(w, "  irohub %s %s\n", cmd.name, cmd.synopsis)
	}
	fmt.Fprint(w, `
irohub COMMAND -h explains a command.

An event is a line of JSON: {"type":"message.sent","id":"conv-123","payload":…}.
Its topic is type:id, or the type alone where there is no id. The topic T:* stands
for all of the type T, and direct:NODEID is the mailbox of one node.

PEER is NODEID@HOST:PORT[,HOST:PORT]… or a ticket of iroh's; a hub prints them at its
start. Both sides take the same -transport.

Exit status: 0 all done; 1 it failed: the hub cannot be reached, refuses, or went
away; 2 the command line or the input is wrong.
`)
}
