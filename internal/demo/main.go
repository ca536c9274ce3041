// Command demo runs the command irohub in practice: a hub and spokes, each in its own process, over iroh on
// this machine's loopback interface.
//
// There is one event for each Go source file of this machine's Go installation, and one for each package.
// The hub and three spokes each publish a part of them, as fast as they can. Other spokes subscribe in
// different ways. In the end, the demo compares the output of each subscriber with the expected events:
// from each publisher the same events in the same order, none missing and none twice. It exits with status
// 1 if they differ.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"irohub"
)

// maxQueue is the most bytes queued for one subscriber, at the hub and in the subscriber itself. The
// default is 1 MiB; a subscriber that falls further behind is cut off, so that the others need not wait.
// Here everything is published at once, to more processes than the machine may have processors, and must
// arrive. So the queues hold all of it.
const maxQueue = "67108864"

// patience is how long nothing may arrive before the demo considers the rest lost.
const patience = 15 * time.Second

func main() {
	command := flag.String("irohub", "bin/irohub", "the `FILE` of the command irohub")
	source := flag.String("src", "", "the `DIRECTORY` of Go files (default: the Go installation's)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	begin := time.Now()
	if err := run(ctx, *command, *source); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Printf("\nEvery subscriber received what it should, after %.1f s.\n", time.Since(begin).Seconds())
}

func run(ctx context.Context, command, source string) error {
	if source == "" {
		root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w", err)
		}
		source = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	fmt.Printf("Reading the Go files in %s\n", source)
	events, err := readFiles(ctx, source)
	if err != nil {
		return err
	}

	f := newFleet(ctx, command)
	defer f.end() // no process is left behind, whatever happens

	// An event names its publisher by NodeID. Events of the hub itself name none.
	dir, err := os.MkdirTemp("", "irohub-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	publishers := map[irohub.NodeID]int{{}: 0}
	var keys [1 + spokes]string
	for p := 1; p <= spokes; p++ {
		keys[p] = filepath.Join(dir, fmt.Sprint("publisher-", p))
		id, err := f.id(keys[p])
		if err != nil {
			return err
		}
		publishers[id] = p
	}
	mailboxKey := filepath.Join(dir, "mailbox")
	mailbox, err := f.id(mailboxKey)
	if err != nil {
		return err
	}

	// The expected events of each subscriber are determined before anything is published.
	plan := share(events, mailbox)
	hub := &subscriber{name: "the hub itself"} // it receives the spokes' events
	subscribers := []*subscriber{
		{name: "every file", topics: []string{"file:*"}},
		{name: "one package", topics: []string{"file:net/http"}},
		{name: "two packages", topics: []string{"file:net/http", "file:crypto/tls"}},
		{name: "the same file twice", topics: []string{"file:*", "file:net/http"}}, // each event still arrives once
		{name: "a mailbox", topics: []string{"direct:" + mailbox.String()}, flags: []string{"-key", mailboxKey}},
		hub,
	}
	for _, s := range subscribers {
		s.prepare(plan, publishers)
	}

	peer, err := f.startHub(hub)
	if err != nil {
		return err
	}
	fmt.Printf("The hub is %s\n", peer)
	for _, s := range subscribers {
		if s == hub {
			continue
		}
		args := slices.Concat([]string{"sub", "-max-queue", maxQueue}, s.flags, []string{peer}, s.topics)
		s.process, err = f.start(s.take, args...)
		if err != nil {
			return err
		}
		if err := f.wait(s.process.subscribed); err != nil {
			return err
		}
	}

	fmt.Printf("It and %d spokes publish %d events, to be received %d times\n", spokes, plan.len(), total(subscribers))
	go hub.process.write(plan[0])
	var sending []*process
	for p := 1; p <= spokes; p++ {
		pub, err := f.start(nil, "pub", "-key", keys[p], peer)
		if err != nil {
			return err
		}
		sending = append(sending, pub)
		go func() {
			pub.write(plan[p])
			pub.stdin.Close()
		}()
	}
	if err := watch(f, subscribers); err != nil {
		return err
	}
	for _, pub := range sending {
		if err := f.wait(pub.exited); err != nil {
			return err
		}
	}

	// Before the hub ends, it hands over everything, including excess events. The subscribers print these
	// before they end.
	if err := hub.process.stop(); err != nil {
		return err
	}
	for _, s := range subscribers {
		if err := s.process.stop(); err != nil {
			return err
		}
	}
	return report(subscribers)
}

// startHub starts the hub and returns the address for the spokes. The lines after the first, which are the
// spokes' events, go to s.
func (f *fleet) startHub(s *subscriber) (peer string, err error) {
	first := make(chan string, 1)
	begun := false
	take := func(line string) {
		if begun {
			s.take(line)
			return
		}
		begun = true
		first <- line
	}
	s.process, err = f.start(take, "hub", "-addr", "127.0.0.1:0", "-stdin", "-forward", "-max-queue", maxQueue)
	if err != nil {
		return "", err
	}
	var ready struct {
		Node  irohub.NodeID
		Addrs []string
	}
	select {
	case line := <-first:
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			return "", fmt.Errorf("the hub's first line is %q: %w", line, err)
		}
	case <-f.ctx.Done():
		return "", context.Cause(f.ctx)
	}
	return irohub.Addr{ID: ready.Node, Hosts: ready.Addrs}.String(), nil
}

// watch shows progress until everything has arrived, or nothing arrives any more.
func watch(f *fleet, subscribers []*subscriber) error {
	every, format := time.Second, "%d of %d events have arrived\n"
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		every, format = every/10, "\r%d of %d events have arrived" // one line that is overwritten
		defer fmt.Println()
	}
	complete := make(chan struct{})
	go func() {
		for _, s := range subscribers {
			select {
			case <-s.complete:
			case <-f.ctx.Done():
				return
			}
		}
		close(complete)
	}()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	want := total(subscribers)
	for last, since := 0, time.Now(); ; {
		got := 0
		for _, s := range subscribers {
			got += int(s.arrived.Load())
		}
		if got != last {
			last, since = got, time.Now()
		}
		fmt.Printf(format, got, want)
		if got >= want || time.Since(since) > patience {
			return nil
		}
		select {
		case <-ticker.C:
		case <-complete:
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
	}
}

// total returns the number of events that all subscribers together should receive.
func total(subscribers []*subscriber) (n int) {
	for _, s := range subscribers {
		n += s.want.len()
	}
	return n
}
