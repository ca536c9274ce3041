package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A crew is the workers of a bench, as the bench sees them. Its methods are for one
// goroutine, but for allows, which is the publisher's, and listen.
type crew struct {
	plan    *benchPlan
	clock   benchClock
	members []*member
	told    chan told      // from the goroutine that reads a worker's reports; capacity 0, never closed
	stopped chan struct{}  // closed by stop
	running sync.WaitGroup // those goroutines, and with them the workers

	// For the publisher.
	blocks atomic.Int64  // that all workers are through with
	moved  chan struct{} // blocks has changed; capacity 1: one is enough for several
}

// A member is a worker.
type member struct {
	name   string
	orders *json.Encoder
	leave  func() // has it end
	kill   func() // ends it, if it is a process
	report        // the last of each kind
	ended  bool
}

// told is a report, or that there will be no more.
type told struct {
	by     *member
	report report
	ended  bool
}

// stopTimeout is how long workers may take to end; longer than the library's own limit
// for a spoke that cannot say goodbye.
const stopTimeout = 15 * time.Second

// workerArgument is what bench starts its own program with.
const workerArgument = "worker"

// hire starts workers, in so many processes, or one in this process if that is 0. They
// are to share the work.
func hire(processes int, all work, clock benchClock, log *slog.Logger) (*crew, error) {
	n := max(processes, 1)
	c := &crew{plan: &all.Plan, clock: clock, told: make(chan told), stopped: make(chan struct{}), moved: make(chan struct{}, 1)}
	for i := range n {
		share := all
		share.Spokes = [2]int{i * all.Plan.Spokes / n, (i + 1) * all.Plan.Spokes / n}
		share.AtOnce = max(all.AtOnce/n, 1)
		m := &member{name: fmt.Sprintf("worker %d", i+1)}
		var out io.Reader
		var wait func()
		if processes == 0 {
			out, wait = m.startHere()
		} else {
			var err error
			if out, wait, err = m.startProcess(log); err != nil {
				c.stop(context.Background())
				return nil, err
			}
		}
		c.members = append(c.members, m)
		c.running.Go(func() { c.listen(m, out, wait) })
		if err := c.begin(m, &share); err != nil {
			c.stop(context.Background())
			return nil, err
		}
	}
	return c, nil
}

// startHere runs the worker as a goroutine. Its reports end with it, so that there is
// nothing left to wait for.
func (m *member) startHere() (out io.Reader, wait func()) {
	orders, in := io.Pipe()
	out, reports := io.Pipe()
	m.orders, m.leave, m.kill = json.NewEncoder(in), func() { in.Close() }, func() {}
	go func() {
		err := runWorker(orders, reports)
		orders.Close()
		reports.CloseWithError(err)
	}()
	return out, func() {}
}

// startProcess runs it in a process, which wait waits for once its reports have ended.
func (m *member) startProcess(log *slog.Logger) (out io.Reader, wait func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	ctx, kill := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "bench", workerArgument)
	cmd.Stderr = os.Stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { // flags are the bench's own
		return strings.HasPrefix(variable, environmentPrefix)
	})
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		kill()
		return nil, nil, err
	}
	log.Debug("started", "name", m.name, "pid", cmd.Process.Pid)
	m.orders = json.NewEncoder(in)
	m.leave, m.kill = func() { in.Close() }, kill
	return out, func() {
		cmd.Wait() // what matters of a bad end is that no result came
		kill()
	}, nil
}

// listen is the goroutine that reads a worker's reports, and waits for its end.
func (c *crew) listen(m *member, out io.Reader, wait func()) {
	for reports := json.NewDecoder(out); ; {
		var r report
		if reports.Decode(&r) != nil {
			break
		}
		c.tell(told{by: m, report: r})
	}
	wait()
	c.tell(told{by: m, ended: true})
}

func (c *crew) tell(t told) {
	select {
	case c.told <- t:
	case <-c.stopped:
	}
}

// begin tells a worker what to do, and compares its clock with this process's.
func (c *crew) begin(m *member, share *work) error {
	if err := c.wait(context.Background(), started); err != nil {
		return err
	}
	before := c.clock.now()
	m.orders.Encode(order{Work: share})
	if err := c.wait(context.Background(), atWork); err != nil {
		return err
	}
	if after := c.clock.now(); m.Clock < before-clockError || m.Clock > after+clockError {
		return errors.New("this machine's clock was set at the start; try again")
	}
	return nil
}

// clockError is what the times of two processes may differ by; some systems' clocks are
// that coarse.
const clockError = time.Millisecond

// note takes what a worker tells. Its error means that the bench is of no use any more.
func (c *crew) note(t told) error {
	m, r := t.by, t.report
	m.ended = t.ended
	switch {
	case t.ended && m.State != finished:
		return fmt.Errorf("%s has ended before its time", m.name)
	case t.ended:
	case r.Failed != "":
		return errors.New(r.Failed)
	case r.State > 0:
		m.State, m.Clock, m.Result = r.State, r.Clock, r.Result
	default:
		m.Blocks, m.Deliveries = r.Blocks, r.Deliveries
		blocks := r.Blocks
		for _, other := range c.members {
			blocks = min(blocks, other.Blocks)
		}
		c.blocks.Store(int64(blocks))
		select {
		case c.moved <- struct{}{}:
		default:
		}
	}
	return nil
}

// wait waits until all workers have come to a state.
func (c *crew) wait(ctx context.Context, s state) error {
	for _, m := range c.members {
		for m.State < s {
			select {
			case t := <-c.told:
				if err := c.note(t); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// order gives all workers an order. One that has ended will be noted.
func (c *crew) order(o order) {
	for _, m := range c.members {
		m.orders.Encode(o)
	}
}

// allows waits until a block may be published; false: ctx has ended first.
func (c *crew) allows(ctx context.Context, block int) bool {
	for int(c.blocks.Load()) <= block-c.plan.Blocks {
		select {
		case <-c.moved:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// deliveries is how many the workers have told of.
func (c *crew) deliveries() (n int) {
	for _, m := range c.members {
		n += m.Deliveries
	}
	return n
}

// end tells the workers that there are no more events, and waits for their results. Those
// of workers that fail are missing.
func (c *crew) end(e lastOrder) (results []*result, err error) {
	c.order(order{End: &e})
	for _, m := range c.members {
		for m.Result == nil && !m.ended {
			if noted := c.note(<-c.told); err == nil {
				err = noted
			}
		}
		if m.Result != nil {
			results = append(results, m.Result)
		}
	}
	return results, err
}

// stop ends all workers, if they have not ended yet, and waits for them, until end at the most:
// then it ends those that are processes at once.
func (c *crew) stop(end context.Context) {
	end, cancel := context.WithTimeout(end, stopTimeout)
	defer cancel()
	close(c.stopped)
	for _, m := range c.members {
		m.leave()
	}
	gone := func() error {
		c.running.Wait()
		return nil
	}
	if await(end, gone) == nil {
		return
	}
	for _, m := range c.members {
		m.kill()
	}
	end, cancel = context.WithTimeout(context.Background(), logTimeout)
	defer cancel()
	await(end, gone)
}
