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

// A node is a process in a network namespace of its own. It is this test's binary (see
// runNode), which does what it is told by lines on its standard input, and tells by others
// what happens.
type node struct {
	t      *testing.T
	name   string
	device *os.File // the packets of its network
	stdin  *os.File

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when there is another line, or no more; then there is another channel
	ended bool
}

// asNode makes the test binary a node, if this variable is set.
const asNode = "IROHUB_TEST_AS_NODE"

// cannot begins the line with which a node says that it is not allowed a network.
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
		// Who is root in a user namespace of its own may have a network there.
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
		w.Close() // which ends it
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

// skip is for machines that give a process no network of its own. They skip it with CI=true
// too: unlike a tool that is missing, that may be out of anybody's hands there.
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

// said returns the lines, when there are more, and whether there will be none.
func (n *node) said() (lines []string, more <-chan struct{}, ended bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lines[:len(n.lines):len(n.lines)], n.more, n.ended
}

// failsafe bounds what a broken test would wait for; no test measures time.
const failsafe = 2 * time.Minute

// want waits until the lines are so, and returns them.
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
