//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"irohub"
)

// A program is a child process of the test that reads and writes lines.
type program struct {
	testing.TB
	in  io.Writer
	out *bufio.Reader
}

func startProgram(t testing.TB, cmd *exec.Cmd) *program {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(failsafe, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		stop.Stop()
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &program{t, in, bufio.NewReader(out)}
}

func (p *program) line() string {
	p.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		p.Fatalf("the other program has ended: %v", err)
	}
	return strings.TrimSpace(s)
}

func (p *program) ask(question string) string {
	p.Helper()
	fmt.Fprintln(p.in, question)
	return p.line()
}

// hostile starts testdata/hostile.py, which can misbehave in ways that this package cannot.
func hostile(t testing.TB, args ...string) *program {
	t.Helper()
	python, err := filepath.Abs("../clients/python/.venv/bin/python")
	if err == nil {
		_, err = os.Stat(python)
	}
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("Python with package iroh is not there; run: make interop (%v)", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, exec.Command(python, append([]string{"testdata/hostile.py"}, args...)...))
}

// A hub holds at most one stream of a peer that it has not accepted, and nothing else that
// the peer started. The hub is a separate process here, so that its memory can be measured.
func TestConn_HoldsOneStreamOfWhatNobodyAccepts(t *testing.T) {
	const variable = "IROHUB_TEST_HOLDER"
	if os.Getenv(variable) != "" {
		holdOne(t)
		return
	}
	needLibrary(t)
	hub := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	hub.Env = append(os.Environ(), variable+"=1")
	holder := startProgram(t, hub)
	args := append([]string{"dial"}, strings.Fields(holder.line())...)
	peer := hostile(t, append(args, irohub.ALPN)...)
	var before, after int
	fmt.Sscan(holder.line(), &before)
	if got, want := peer.ask("streams 100 100"), "bi 5:99 uni 2:100"; got != want {
		t.Errorf("what was stopped: %q, want %q", got, want)
	}
	fmt.Sscan(holder.ask("memory"), &after)
	// Without a limit, it was 250 MB.
	if held := after - before; before == 0 || held > 32<<20 {
		t.Errorf("the hub holds %d KiB for it", held>>10)
	} else {
		t.Logf("the hub holds %d KiB for it", held>>10)
	}
	if got := holder.ask("accept"); got != "1250000" {
		t.Errorf("of the stream that waited came %s", got)
	}
}

// holdOne accepts a connection, but no stream of it until told to.
func holdOne(t *testing.T) {
	e := bind(t, Options{})
	fmt.Println(e.ID(), e.Addr().Hosts[0])
	ctx := testContext(t)
	in, err := e.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := in.Handshake(ctx)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(resident(t))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "memory" {
			fmt.Println(resident(t))
			continue
		}
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(len(readN(t, s, 1_250_000)))
	}
}

// resident returns the resident memory of this process in bytes; 0 if unknown.
func resident(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 1
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// A spoke accepts no streams from its hub.
func TestConn_DiallerStopsAllStreams(t *testing.T) {
	e := bind(t, Options{})
	hub := hostile(t, "answer", irohub.ALPN)
	var node, host string
	fmt.Sscan(hub.line(), &node, &host)
	addr, err := irohub.ParseAddr(node + "@" + host)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.Dial(testContext(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(0, "")
	if got, want := hub.ask("streams 100 100"), "bi 2:100 uni 2:100"; got != want {
		t.Errorf("what was stopped: %q, want %q", got, want)
	}
}

// The library would hold datagrams too.
func TestConn_DatagramEndsIt(t *testing.T) {
	e := bind(t, Options{})
	peer := hostile(t, "dial", e.ID().String(), e.Addr().Hosts[0], irohub.ALPN)
	ctx := testContext(t)
	in, err := e.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := in.Handshake(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := peer.ask("datagrams 2000"); !strings.Contains(got, "the protocol does not use datagrams (code 2)") {
		t.Errorf("the peer sees %q", got)
	}
	wantCode(t, "wait", conn.Wait(ctx), irohub.CodeProtocol)
}
