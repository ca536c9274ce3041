package siege

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"irohub"
)

// A child is a spoke in a separate process, which runs this same program. The test can stop it
// as a whole, including its kernel buffers and its transport. Its CPU time is not counted as
// the hub's.

// roleVariable names the environment variable for a child's arguments: transport, role, hub and more, separated by spaces.
const roleVariable = "IROHUB_SIEGE_ROLE"

// A child reads commands from its standard input, one per line.
type child struct {
	*siege
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// child starts a spoke that plays a role, and waits until it is connected. If a command such as
// nice is given, the child runs under it.
func (s *siege) child(role string, under ...string) *child {
	s.Helper()
	return s.run(fmt.Sprintf("%s %s %s", s.transport, role, s.endpoint.Addr()), under...)
}

// run starts a child with the given arguments.
func (s *siege) run(words string, under ...string) *child {
	s.Helper()
	args := append(under, os.Args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+words)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	s.must(err)
	out, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	stop := context.AfterFunc(s.ctx, func() { cmd.Process.Kill() }) // otherwise waiting might never end
	s.Cleanup(func() {
		stop()
		cmd.Process.Kill() // it may be stopped by a signal
		cmd.Wait()
	})
	c := &child{s, cmd, in, bufio.NewReader(out)}
	c.wantReady()
	return c
}

func (c *child) wantReady() {
	c.Helper()
	if line, err := c.out.ReadString('\n'); line != "ready\n" {
		c.Fatalf("a child said %q, %v", line, err)
	}
}

// tell sends the child a command, and waits until it has begun to act.
func (c *child) tell(what string) {
	c.Helper()
	_, err := fmt.Fprintln(c.in, what)
	c.must(err)
	c.wantReady()
}

// Other roles of a child: see native.go and ledger_linux.go. nil: not available here.
var (
	playNative func(library string) error
	playLedger func(ctx context.Context, ep endpoint, role string, args []string) error
)

// play is a child's main function.
func play(role string) int {
	words := strings.Fields(role)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // in case its parent does not end it
	defer cancel()
	err := func() error {
		if words[0] == "native" {
			return playNative(words[1])
		}
		ep, err := bind(ctx, words[0])
		if err != nil {
			return err
		}
		if role, ok := strings.CutPrefix(words[1], "ledger-"); ok {
			return playLedger(ctx, ep, role, words[2:])
		}
		addr, err := irohub.ParseAddr(words[2])
		if err != nil {
			return err
		}
		switch words[1] {
		case "deaf":
			return playDeaf(ctx, ep, addr)
		case "fleet":
			return playFleet(ctx, ep, addr)
		}
		spoke, err := irohub.Dial(ctx, ep, addr, irohub.SpokeOptions{NoReconnect: true, MaxQueue: 64 << 20})
		if err != nil {
			return err
		}
		switch words[1] {
		case "reader":
			return playReader(ctx, spoke)
		case "flooder":
			return playFlooder(ctx, spoke)
		}
		return fmt.Errorf("no such role: %s", words[1])
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// playReader reads events until it ends.
func playReader(ctx context.Context, spoke *irohub.Spoke) error {
	sub, err := spoke.Subscribe(ctx, "n:*", "frozen")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for range sub.Events() {
	}
	return nil
}

// deafSpokes is the number of deaf spokes in one child.
const deafSpokes = 64

// playDeaf connects that many spokes, which read nothing. Each has its own topic: n:0 and so on.
func playDeaf(ctx context.Context, ep endpoint, addr irohub.Addr) error {
	var all []irohub.Stream
	for i := range deafSpokes {
		conn, err := ep.Dial(ctx, addr)
		if err != nil {
			return err
		}
		stream, err := conn.OpenStream(ctx)
		if err != nil {
			return err
		}
		if _, err := stream.Write(ctx, frame(fmt.Sprintf(`{"type":"__subscribe","id":"1","payload":{"topic":"n:%d"}}`, i))); err != nil {
			return err
		}
		if _, err := stream.Read(ctx, make([]byte, 1)); err != nil { // the first byte of the answer
			return err
		}
		all = append(all, stream)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // blocks until it is killed
	runtime.KeepAlive(all)
	return nil
}

// playFlooder publishes as fast as it can, from a line "flood" until the line "rest".
func playFlooder(ctx context.Context, spoke *irohub.Spoke) error {
	fmt.Println("ready")
	payload, _ := json.Marshal(strings.Repeat("x", 254))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		flooding, rest := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for flooding.Err() == nil && spoke.Publish(flooding, irohub.Event{Type: "flood", Payload: payload}) == nil {
			}
		}()
		fmt.Println("ready")
		ok := lines.Scan()
		rest()
		<-ended
		if !ok {
			break
		}
		fmt.Println("ready")
	}
	return nil
}
