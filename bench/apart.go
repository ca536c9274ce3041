package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

// apart starts a server in this process and its subscribers in another, as in practice. So this process's
// CPU time is that of the server and the publisher alone.
func apart(c contestant, n int, measure func(system, *audience) error) (err error) {
	s, a := c.new(), newAudience(0, step, false)
	defer func() {
		s.close()
		runtime.GC() // the next measurement starts with a clean heap
	}()
	at, err := s.serve(a)
	if err != nil {
		return err
	}
	subscribers, err := subscribeApart(c.name, n, at, a)
	if err != nil {
		return err
	}
	err = measure(s, a)
	return errors.Join(err, subscribers.close())
}

// serverCPU returns the CPU time that a server takes for a million deliveries at full speed.
func serverCPU(c contestant, n int, about time.Duration) (cpu time.Duration, err error) {
	err = apart(c, n, func(s system, a *audience) error {
		_, cpu, err = fullSpeed(s, a, n, about)
		return err
	})
	return cpu, err
}

// A subscribersProcess is this program with -subscribe. It reads the server's address from its input, and
// ends at the end of the input. It writes one byte once all are subscribed, and one for each step that all
// subscribers have received.
type subscribersProcess struct {
	cmd     *exec.Cmd
	n       int
	in      io.Closer
	reading chan struct{} // closed at the end of its output
}

func subscribeApart(name string, n int, at place, to *audience) (*subscribersProcess, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "-subscribe", name, "-n", strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &subscribersProcess{cmd: cmd, n: n, in: in, reading: make(chan struct{})}
	subscribed := p.limit()
	err = json.NewEncoder(in).Encode(at)
	if err == nil {
		_, err = io.ReadFull(out, make([]byte, 1))
	}
	subscribed.Stop()
	if err != nil {
		close(p.reading)
		return nil, errors.Join(fmt.Errorf("the subscribers' process: %w", err), p.close())
	}
	go func() {
		defer close(p.reading)
		steps := make([]byte, window/step)
		for {
			k, err := out.Read(steps)
			for range k {
				to.credit <- struct{}{}
			}
			if err != nil {
				to.fail(errors.New("the subscribers' process ended"))
				return
			}
		}
	}()
	return p, nil
}

// limit kills the process unless it is stopped in time. The time is more than enough to connect or to close
// the subscribers.
func (p *subscribersProcess) limit() *time.Timer {
	return time.AfterFunc(patience+time.Duration(p.n)*100*time.Millisecond, func() { p.cmd.Process.Kill() })
}

func (p *subscribersProcess) close() error {
	closed := p.limit()
	defer closed.Stop()
	p.in.Close()
	<-p.reading
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the subscribers' process: %w", err)
	}
	return nil
}

// subscribersMain is the main function of that process.
func subscribersMain(c contestant, n int, in io.Reader, out io.Writer) error {
	var at place
	from := json.NewDecoder(in)
	if err := from.Decode(&at); err != nil {
		return err
	}
	s, a := c.new(), newAudience(n, step, false)
	defer s.close()
	if err := subscribe(s, n, at, a); err != nil {
		return err
	}
	for range a.credits { // drops the credits, because the publisher has its own
		<-a.credit
	}
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in)
		close(over)
	}()
	mark := []byte{'.'}
	for {
		if _, err := out.Write(mark); err != nil {
			return err
		}
		select {
		case <-a.credit:
		case err := <-a.failure:
			return err
		case <-over:
			return nil
		}
	}
}
