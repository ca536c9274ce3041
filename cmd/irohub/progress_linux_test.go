package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a new terminal. A process writes to tty, and the text can be
// read from screen.
func openTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// On a terminal there is a progress line, which is cleared at the end.
func TestBench_ShowsItsProgressOnATerminal(t *testing.T) {
	screen, tty := openTerminal(t)
	p := newProcess(t, "bench", "-transport", overTLS, "-spokes", "2", "-for", "1200ms", "-json")
	p.cmd.Stderr = tty
	p.run()
	tty.Close()
	shown, _ := io.ReadAll(screen) // fails when the other end is closed
	p.wantExit(0)
	last := string(shown[max(len(shown)-len(clearLine), 0):])
	if text := string(shown); !strings.Contains(text, clearLine+"connecting 2 spokes") || !strings.Contains(text, " of 1.2s  ") || strings.Contains(text, "\n") || last != clearLine {
		t.Errorf("shown: %q", text)
	}
	p.figures().wantWhole(t)
}

// A hub in a terminal ends when the terminal is closed.
func TestHub_EndsWithItsTerminal(t *testing.T) {
	screen, tty := openTerminal(t)
	defer tty.Close()
	go io.Copy(io.Discard, screen) // until the test closes it
	p := newProcess(t, "hub", "-transport", overTLS, "-addr", "127.0.0.1:0")
	p.cmd.Stderr = tty
	hub := p.run().ready()
	hub.signal(unix.SIGHUP)
	hub.wantExit(0)
}
