package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"irohub"
)

// A fleet is a set of processes. None may fail, and none outlives the demo.
type fleet struct {
	command string
	ctx     context.Context // ends when one of them fails, or the demo is interrupted
	fail    context.CancelCauseFunc
	running sync.WaitGroup
}

func newFleet(ctx context.Context, command string) *fleet {
	f := &fleet{command: command}
	f.ctx, f.fail = context.WithCancelCause(ctx)
	return f
}

// end ends all processes and waits for them.
func (f *fleet) end() {
	f.fail(nil)
	f.running.Wait()
}

// wait waits for an action of one of the processes.
func (f *fleet) wait(event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// id creates a key file and returns its NodeID.
func (f *fleet) id(key string) (id irohub.NodeID, err error) {
	text, err := exec.CommandContext(f.ctx, f.command, "id", "-key", key).Output()
	if err != nil {
		return id, fmt.Errorf("%s id: %w", f.command, err)
	}
	return irohub.ParseNodeID(string(bytes.TrimSpace(text)))
}

// A process is one run of the command irohub.
type process struct {
	name       string
	cmd        *exec.Cmd
	stdin      io.WriteCloser
	subscribed chan struct{} // closed when it logs that it has subscribed
	stopping   atomic.Bool   // it was told to stop
	exited     chan struct{} // closed when it has exited and its output has been read
	err        error         // set before exited is closed
}

// grace is how long a process may take to end before it is killed. It is longer than a hub's own limit.
const grace = 25 * time.Second

// start starts a process and calls take with each line that it prints.
func (f *fleet) start(take func(line string), args ...string) (*process, error) {
	p := &process{
		name:       "irohub " + args[0],
		cmd:        exec.CommandContext(f.ctx, f.command, args...),
		subscribed: make(chan struct{}),
		exited:     make(chan struct{}),
	}
	if take != nil {
		p.cmd.Stdout = &lineWriter{take: take}
	}
	p.cmd.Stderr = &lineWriter{take: func(line string) { f.log(p, line) }}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = grace
	tie(p.cmd)
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	f.running.Go(func() {
		err := p.cmd.Wait()
		if err == nil && args[0] != "pub" && !p.stopping.Load() {
			err = errors.New("ended too early")
		}
		if err != nil {
			p.err = fmt.Errorf("%s: %w", p.name, err)
			f.fail(p.err) // no effect if all are ending anyway
		}
		close(p.exited)
	})
	return p, nil
}

// log receives each line of a process's log and prints the unusual ones.
func (f *fleet) log(p *process, line string) {
	switch {
	case strings.Contains(line, "msg=subscribed"):
		close(p.subscribed)
	case strings.Contains(line, "level=INFO"), p.stopping.Load(), f.ctx.Err() != nil:
	default:
		fmt.Fprintln(os.Stderr, p.name+":", line)
	}
}

// write writes events to the process's standard input. It ignores errors: the end of the process reports
// them.
func (p *process) write(events []irohub.Event) {
	lines := json.NewEncoder(p.stdin)
	for _, ev := range events {
		if lines.Encode(ev) != nil {
			return
		}
	}
}

// stop ends the process like a service manager, and waits until it has exited.
func (p *process) stop() error {
	p.stopping.Store(true)
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has exited already
	<-p.exited
	return p.err
}

// A lineWriter splits into lines what is written to it.
type lineWriter struct {
	take func(line string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.take(string(line))
		w.rest = rest
	}
}
