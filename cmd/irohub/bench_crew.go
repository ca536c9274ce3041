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

// A crew is the bench's side of its workers. Its methods are called by one goroutine, except
// allows, which the publisher calls, and listen.
type crew struct {
	plan    *benchPlan
	clock   benchClock
	members []*member
	told    chan told      // from the listen goroutines; capacity 0, never closed
	stopped chan struct{}  // closed by stop
	running sync.WaitGroup // the listen goroutines, each of which waits for its worker

	// For the publisher.
	blocks atomic.Int64  // number of blocks that all workers have received
	moved  chan struct{} // signals that blocks has changed; capacity 1, so signals merge; never closed
}

// A member is the bench's side of one worker.
type member struct {
	name   string
	orders *json.Encoder
	leave  func() // tells it to end
	kill   func() // ends it at once, if it is a process
	report        // merged from its reports: the latest value of each field
	ended  bool
}

// told is a report of a worker, or says that the worker has ended.
type told struct {
	by     *member
	report report
	ended  bool
}

// stopTimeout limits the time in which workers end. It is longer than the WriteTimeout, so that
// a spoke can give up closing before.
const stopTimeout = 15 * time.Second

// workerArgument is the argument with which bench starts itself as a worker.
const workerArgument = "worker"

// hire starts the workers and divides the work among them: one in each of the given number of
// processes, or a single one in this process if the number is 0.
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

// startHere runs the worker as a goroutine. When its reports end, it has ended too, so wait
// does nothing.
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

// startProcess runs the worker in a process. Call wait after its reports have ended.
func (m *member) startProcess(log *slog.Logger) (out io.Reader, wait func(), err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	ctx, kill := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "bench", workerArgument)
	cmd.Stderr = os.Stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { // these set flags of the bench, not of the worker
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
		cmd.Wait() // its error does not matter: a worker that failed has sent no result
		kill()
	}, nil
}

// listen is a goroutine that reads a worker's reports and then waits for its end. It ends with
// its worker.
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

// begin sends a worker its work, and compares the clocks of both processes.
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
		return errors.New("this machine's clock was set while the workers started; try again")
	}
	return nil
}

// clockError is how far the clocks of two processes may differ. On some systems clocks are that
// coarse.
const clockError = time.Millisecond

// note records what a worker has told. On an error the run has failed.
func (c *crew) note(t told) error {
	m, r := t.by, t.report
	m.ended = t.ended
	switch {
	case t.ended && m.State != finished:
		return fmt.Errorf("%s has ended too early", m.name)
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

// wait waits until all workers have reached a state.
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

// order sends an order to all workers. It ignores errors: note learns that a worker has ended.
func (c *crew) order(o order) {
	for _, m := range c.members {
		m.orders.Encode(o)
	}
}

// allows waits until a block may be published. It returns false if ctx ends first.
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

// deliveries returns the number of deliveries that the workers have reported.
func (c *crew) deliveries() (n int) {
	for _, m := range c.members {
		n += m.Deliveries
	}
	return n
}

// end tells the workers that there are no more events, and waits for their results. It returns
// no result of a worker that fails.
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

// stop tells all workers to end and waits for them. When end is over, or the stopTimeout, it
// kills the processes among them.
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
