//go:build linux

package roughnet

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A node is a process in its own network namespace. It runs this test's binary (see runNode).
// It reads commands from its standard input and reports on its standard output, one line each.
type node struct {
	t      *testing.T
	name   string
	device *os.File // the TUN device with the packets of its network
	stdin  *os.File

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced when there is another line; closed at the end of the output
	ended bool
}

// asNode is the environment variable that makes the test binary a node.
const asNode = "IROHUB_TEST_AS_NODE"

// cannot is the prefix of the line in which a node reports that it may not set up a network.
const cannot = "cannot"

func startNode(t *testing.T, at netip.Addr, args ...string) *node {
	t.Helper()
	n := &node{t: t, name: args[0], more: make(chan struct{})}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	stdin, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.stdin = w
	cmd := exec.Command(os.Args[0], append([]string{at.String()}, args...)...)
	cmd.Env = append(os.Environ(), asNode+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = stdin, t.Output(), []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		// In its own user namespace, the process is root and may set up a network.
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	stdin.Close()
	theirs.Close()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) {
		w.Close()
		skip(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			n.heard(in.Text(), false)
		}
		n.heard("", true)
	}()
	t.Cleanup(func() {
		w.Close() // closing its input ends it
		defer time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() }).Stop()
		<-read
		cmd.Wait()
	})
	if n.device, err = receiveFile(ours); err != nil {
		first := n.want("its first words", func(lines []string) bool { return len(lines) > 0 })[0]
		if strings.HasPrefix(first, cannot) {
			skip(t, errors.New(first))
		}
		t.Fatalf("%s has no network: %v", n.name, err)
	}
	return n
}

// skip skips the test on machines that do not allow a process its own network. It does so with
// CI=true too: unlike a missing tool, this often cannot be changed there.
func skip(t *testing.T, err error) {
	t.Helper()
	t.Skipf("no network namespaces here: %v. Run this test as root, with /dev/net/tun (modprobe tun)", err)
}

func (n *node) heard(line string, ended bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !ended {
		n.lines = append(n.lines, line)
	}
	n.ended = ended
	close(n.more)
	n.more = make(chan struct{})
}

// said returns the lines so far, a channel that signals more, and whether the output has ended.
func (n *node) said() (lines []string, more <-chan struct{}, ended bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lines[:len(n.lines):len(n.lines)], n.more, n.ended
}

// failsafe ends a broken test; no test measures time.
const failsafe = 2 * time.Minute

// want waits until the lines satisfy a condition, and returns them.
func (n *node) want(what string, ok func(lines []string) bool) []string {
	n.t.Helper()
	timeout := time.After(failsafe)
	for {
		lines, more, ended := n.said()
		if ok(lines) {
			return lines
		}
		if ended {
			n.t.Fatalf("%s has ended, without %s; it said:\n%s", n.name, what, n.tail())
		}
		select {
		case <-more:
		case <-timeout:
			n.t.Fatalf("%s: never came: %s; it said:\n%s", n.name, what, n.tail())
		}
	}
}

func (n *node) tail() string {
	lines, _, _ := n.said()
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func (n *node) tell(format string, args ...any) {
	n.t.Helper()
	if _, err := fmt.Fprintf(n.stdin, format+"\n", args...); err != nil {
		n.t.Fatalf("%s takes nothing: %v", n.name, err)
	}
}
