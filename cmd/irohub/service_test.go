//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"irohub/internal/transports"
)

// These tests run hubs as a service manager does.

// asService runs the command by a shell that sets LISTEN_PID and then becomes the command. Only
// the process itself and its parent can know the process id in advance.
func (p *process) asService(variables ...string) *process {
	p.t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Args = append([]string{shell, "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, append([]string{p.cmd.Path}, p.cmd.Args[1:]...)...)
	p.cmd.Path = shell
	p.cmd.Env = append(p.cmd.Env, variables...)
	return p
}

// A manager receives what services send to NOTIFY_SOCKET.
type manager struct {
	t *testing.T
	c *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "irohub") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &manager{t, c}
}

func (m *manager) variable() string { return "NOTIFY_SOCKET=" + m.c.LocalAddr().String() }

func (m *manager) wantTold(state string) {
	m.t.Helper()
	text := make([]byte, 1000)
	n, err := m.c.Read(text)
	if err != nil || string(text[:n]) != state {
		m.t.Errorf("told %q (%v), want %q", text[:n], err, state)
	}
}

// handedIn opens a listening socket for a hub.
func handedIn(t *testing.T) (addr string, file *os.File) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if file, err = listener.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return listener.Addr().String(), file
}

// The socket stays open when a hub ends. A spoke that dials then waits for the next hub.
func TestHub_TakesASocketAndTellsItsManager(t *testing.T) {
	addr, file := handedIn(t)
	m := newManager(t)
	key, node := keyFile(t)
	run := func() *testHub {
		p := newProcess(t, "hub", "--transport", overTLS, "--key", key).asService("LISTEN_FDS=1", m.variable())
		p.cmd.ExtraFiles = []*os.File{file}
		hub := p.run().ready()
		m.wantTold("READY=1")
		return hub
	}
	hub := run()
	if want := node + "@" + addr; hub.addr != want {
		t.Errorf("the hub is at %s, want %s", hub.addr, want)
	}
	p := newProcess(t, "pub", "-transport", overTLS, hub.addr, "n", "1").run()
	p.wantExit(0)
	hub.wantEvent(1, "n", "1")
	hub.stop()
	m.wantTold("STOPPING=1")

	p = newProcess(t, "pub", "-transport", overTLS, "-timeout", "1m", hub.addr, "n", "2").run()
	hub = run()
	p.wantExit(0)
	hub.wantEvent(1, "n", "2")
	hub.stop()
	m.wantTold("STOPPING=1")
}

func TestHub_WrongSockets(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, test := range []struct{ count, args, says string }{
		{"1", "--transport tls", "not a socket that listens"},
		{"2", "--transport tls", "2 sockets were handed in, and only one is supported"},
		{"x", "--transport tls", "not a number of sockets"},
	} {
		p := newProcess(t, append([]string{"hub"}, strings.Fields(test.args)...)...).asService("LISTEN_FDS=" + test.count)
		p.cmd.ExtraFiles = []*os.File{null, null}
		p.run().wantExit(2, "LISTEN_FDS", test.says)
	}
	_, file := handedIn(t)
	for args, says := range map[string]string{
		"--transport iroh":                    "which needs --transport tls",
		"--transport tls --addr 127.0.0.1:0":  "already has an address",
		"--transport tls --relays n0":         "no relay servers",
		"--transport tls --allow-file /none":  "--allow-file",
		"--transport tls --max-spokes 0":      "--max-spokes",
		"--transport tls --key /none/of/such": "no such file",
	} {
		status := 2
		if strings.Contains(args, "--key") {
			status = 1
		}
		p := newProcess(t, append([]string{"hub"}, strings.Fields(args)...)...).asService("LISTEN_FDS=1")
		p.cmd.ExtraFiles = []*os.File{file}
		p.run().wantExit(status, says)
	}
}

// A hub runs even if the service manager does not listen.
func TestHub_ManagerIsGone(t *testing.T) {
	p := newProcess(t, "hub", "-transport", overTLS, "-addr", "127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, "NOTIFY_SOCKET=/nonexistent/socket")
	hub := p.run().ready()
	hub.wantSaid("the service manager was not told")
	hub.stop()
}

func writeFile(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHub_ReadsItsListsAgain(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		dir := t.TempDir()
		allow, deny := filepath.Join(dir, "allow"), filepath.Join(dir, "deny")
		keyA, a := keyFile(t)
		keyB, b := keyFile(t)
		keyC, c := keyFile(t)
		writeFile(t, allow, "# who may come", "", "  "+a+" # the first", c)
		writeFile(t, deny, c)
		hub := startHub(t, "--allow-file", allow, "--deny-file", deny)
		pub := func(key string, n int) *process { return start(t, "pub", "-key", key, hub.addr, "n", fmt.Sprint(n)) }
		long := start(t, "pub", "-key", keyA, hub.addr)
		long.write(`{"type":"n","payload":1}`)
		hub.wantEvent(1, "n", "1")
		pub(keyB, 0).wantExit(1, "hub's lists do not admit")
		pub(keyC, 0).wantExit(1, "hub's lists do not admit")

		writeFile(t, allow, b)
		writeFile(t, deny, "")
		hub.signal(syscall.SIGHUP)
		hub.wantSaid("the lists were read again")
		pub(keyB, 2).wantExit(0)
		hub.wantEvent(2, "n", "2")
		pub(keyA, 0).wantExit(1, "hub's lists do not admit")
		long.write(`{"type":"n","payload":0}`) // it is still connected, and may not publish any more
		long.stdin.Close()
		long.wantExit(1, "hub's lists do not admit")

		writeFile(t, allow, b, "no NodeID")
		hub.signal(syscall.SIGHUP)
		hub.wantSaid("the lists were not changed")
		hub.wantSaid("line 2: ")
		pub(keyB, 3).wantExit(0)
		hub.wantEvent(3, "n", "3")
		hub.stop()
	})
}

// SIGHUP ends a command that does not reload.
func TestHangupEndsOthers(t *testing.T) {
	t.Run(overTLS, func(t *testing.T) {
		hub := startHub(t)
		sub := startSub(t, hub.addr, "n:1")
		sub.signal(syscall.SIGHUP)
		sub.wantExit(0)
		hub.signal(syscall.SIGHUP) // the hub has no lists, and goes on
		hub.wantSaid("there are no lists to read again")
		hub.stop()
	})
}

// Without --addr, a hub can still be dialled on its own machine.
func TestHub_WithoutAddrListsALoopbackAddress(t *testing.T) {
	overEach(t, func(t *testing.T) {
		if transportOf(t) == overIroh {
			transports.Need(t, overIroh)
		}
		hub := start(t, "hub").ready()
		var loopback string
		line, _ := hub.stdout.line(0)
		for field := range strings.SplitSeq(line, `"`) {
			if strings.HasPrefix(field, "127.0.0.1:") {
				loopback = field
			}
		}
		if loopback == "" {
			t.Fatalf("no loopback address: %s", line)
		}
		start(t, "pub", hub.node+"@"+loopback, "n", "1").wantExit(0)
		hub.wantEvent(1, "n", "1")
		hub.stop()
	})
}
