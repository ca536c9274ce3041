package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transports"
)

// asCommand is an environment variable that makes the test binary run as the command. So the
// tested processes have this code and the race detector.
const asCommand = "TEST_AS_IROHUB"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// failsafe limits how long a broken test waits. No test measures time.
const failsafe = time.Minute

// A process is one run of the command.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *output
	stderr *output
}

// start starts the command. Its standard input is open until p.stdin is closed.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return newProcess(t, over(t, args)...).run()
}

// run starts the process and collects its output.
func (p *process) run() *process {
	p.t.Helper()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.start()
	p.stdout = read(stdout)
	return p
}

// overEach runs a test over each transport, as a subtest of that name.
func overEach(t *testing.T, test func(*testing.T)) {
	transports.Each(t, func(t *testing.T, _ string) { test(t) })
}

// transportOf returns the transport of a subtest of overEach.
func transportOf(t *testing.T) string {
	_, rest, _ := strings.Cut(t.Name(), "/")
	if name, _, _ := strings.Cut(rest, "/"); slices.Contains(transports.Names(), name) {
		return name
	}
	return overIroh
}

// over adds the flag for the test's transport to a command line.
func over(t *testing.T, args []string) []string {
	return append([]string{args[0], "-transport", transportOf(t)}, args[1:]...)
}

// startUnread starts the command and returns its standard output, which nobody reads unless the
// caller does.
func startUnread(t *testing.T, args ...string) (p *process, stdout *os.File) {
	t.Helper()
	stdout, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdout.Close() })
	p = newProcess(t, over(t, args)...)
	p.cmd.Stdout = w
	p.start()
	w.Close()
	p.stdout = read(strings.NewReader(""))
	return p, stdout
}

func newProcess(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), failsafe)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "GORACE=atexit_sleep_ms=0")
	p := &process{t: t, name: "irohub " + args[0], cmd: cmd}
	t.Cleanup(func() {
		cancel() // kills the process if it still runs
		cmd.Wait()
		if t.Failed() && p.stderr != nil {
			t.Logf("%s said:\n%s", p.name, strings.Join(p.stderr.all(), "\n"))
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	var stderr io.Reader = strings.NewReader("")
	var err1, err2 error
	p.stdin, err1 = p.cmd.StdinPipe()
	if p.cmd.Stderr == nil { // else it is the test's own
		stderr, err2 = p.cmd.StderrPipe()
	}
	if err := errors.Join(err1, err2, p.cmd.Start()); err != nil {
		p.t.Fatal(err)
	}
	p.stderr = read(stderr)
}

func (p *process) write(lines ...string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, strings.Join(lines, "\n")+"\n"); err != nil {
		p.t.Errorf("writing to %s: %v", p.name, err)
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// wantExit waits until the process ends by itself. It checks the status, and that standard error
// contains the words.
func (p *process) wantExit(status int, words ...string) {
	p.t.Helper()
	stdout, stderr := p.stdout.all(), p.stderr.all()
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("%s: exit status %d, want %d; it printed %d lines and said:\n%s",
			p.name, got, status, len(stdout), strings.Join(stderr, "\n"))
	}
	for _, word := range words {
		if !strings.Contains(strings.Join(stderr, "\n"), word) {
			p.t.Errorf("%s: standard error lacks %q:\n%s", p.name, word, strings.Join(stderr, "\n"))
		}
	}
}

// wantSaid waits until a line of standard error contains the words.
func (p *process) wantSaid(words string) {
	p.t.Helper()
	for i := 0; ; i++ {
		line, ok := p.stderr.line(i)
		if !ok {
			p.t.Fatalf("%s ended without saying %q", p.name, words)
		}
		if strings.Contains(line, words) {
			return
		}
	}
}

// event waits for line i of standard output and returns its event.
func (p *process) event(i int) irohub.Event {
	p.t.Helper()
	line, ok := p.stdout.line(i)
	if !ok {
		p.t.Fatalf("%s ended without printing line %d", p.name, i)
	}
	var ev irohub.Event
	if err := json.Unmarshal([]byte(line), &ev); err != nil {
		p.t.Fatalf("%s printed %q: %v", p.name, line, err)
	}
	return ev
}

// wantEvent waits for line i of standard output, which must have this topic and payload.
func (p *process) wantEvent(i int, topic, payload string) {
	p.t.Helper()
	if ev := p.event(i); ev.Topic() != topic || string(ev.Payload) != payload {
		p.t.Errorf("%s: event %d is %s %s, want %s %s", p.name, i, ev.Topic(), ev.Payload, topic, payload)
	}
}

// A testHub is a hub process that is ready. Its events begin in line 1 of its output.
type testHub struct {
	*process
	node   string
	addr   string // NODEID@HOST:PORT
	ticket string
}

func startHub(t *testing.T, args ...string) *testHub {
	t.Helper()
	p := start(t, append([]string{"hub", "-addr", "127.0.0.1:0"}, args...)...)
	return p.ready()
}

// ready waits for the first line of a hub and parses it.
func (p *process) ready() *testHub {
	p.t.Helper()
	line, _ := p.stdout.line(0)
	return p.readyAs(line)
}

func (p *process) readyAs(line string) *testHub {
	p.t.Helper()
	var ready struct {
		Node   string
		Addrs  []string
		Ticket string
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil || len(ready.Addrs) == 0 {
		p.t.Fatalf("the hub's first line is %q (%v)", line, err)
	}
	return &testHub{p, ready.Node, ready.Node + "@" + ready.Addrs[0], ready.Ticket}
}

// stop ends the hub with SIGTERM, as a service manager does.
func (h *testHub) stop() {
	h.t.Helper()
	h.signal(syscall.SIGTERM)
	h.wantExit(0)
}

// startSub starts a sub and waits until the hub has acknowledged its topics.
func startSub(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, append([]string{"sub"}, args...)...)
	p.wantSaid("msg=subscribed")
	return p
}

// An output has the lines that a process has printed so far.
type output struct {
	mu    sync.Mutex
	more  *sync.Cond
	lines []string
	ended bool
}

// read starts to collect the lines of r. It ends with r, and so with the process.
func read(r io.Reader) *output {
	o := &output{}
	o.more = sync.NewCond(&o.mu)
	go func() {
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadBytes('\n')
			o.mu.Lock()
			if len(line) > 0 {
				o.lines = append(o.lines, string(bytes.TrimSuffix(line, []byte("\n"))))
			}
			o.ended = err != nil
			o.more.Broadcast()
			o.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return o
}

// line waits for line i. It returns false if the process has ended without it.
func (o *output) line(i int) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.lines) <= i && !o.ended {
		o.more.Wait()
	}
	if len(o.lines) <= i {
		return "", false
	}
	return o.lines[i], true
}

// all waits for the end and returns all lines.
func (o *output) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.ended {
		o.more.Wait()
	}
	return o.lines
}
