// Command demo runs the command irohub for real: a hub and spokes, each a process of
// its own, over iroh on this machine's loopback interface.
//
// The events are one for each Go source file of this machine's Go installation, and one
// for each package. The hub and three spokes publish them, each its share, as fast as
// they can; other spokes subscribe in every way there is. In the end the demo compares
// what each subscriber printed with what it should have got: from each publisher the
// same events in the same order, none missing, none twice. It exits 1 if they differ.
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

// maxQueue is how many bytes may wait for one subscriber, at the hub and in the
// subscriber itself. By default it is 1 MiB, and who falls further behind is cut off,
// so that the others need not wait. Here all is published at once, to more processes
// than there may be processors, and is to arrive: so there is room for all of it.
const maxQueue = "67108864"

// patience is for how long nothing may arrive before the demo calls the rest lost.
const patience = 15 * time.Second

func main() {
	command := flag.String("irohub", "bin/irohub", "the `FILE` of the command irohub")
	source := flag.String("src", "", "the `DIRECTORY` of Go files; none: the Go installation's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	begin := time.Now()
	if err := run(ctx, *command, *source); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Printf("\nAll is as it should be, after %.1f s.\n", time.Since(begin).Seconds())
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
	defer f.end() // whatever happens, no process is left behind

	// The publishers' NodeIDs tell whose an event is; those of the hub bear none.
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

	// What each subscriber is to get is settled before anything is published.
	plan := share(events, mailbox)
	hub := &subscriber{name: "the hub itself"} // which gets what spokes publish
	subscribers := []*subscriber{
		{name: "every file", topics: []string{"file:*"}},
		{name: "one package", topics: []string{"file:net/http"}},
		{name: "two packages", topics: []string{"file:net/http", "file:crypto/tls"}},
		{name: "the same file twice", topics: []string{"file:*", "file:net/http"}}, // which comes once all the same
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

	// The hub hands over all it has before it ends, what there is too much of included;
	// the subscribers print that before they end.
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

// startHub starts the hub and returns what spokes are to call it. What it prints behind
// its first line, events of spokes, goes to s.
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

// watch shows progress until all has arrived that should, or nothing does any more.
func watch(f *fleet, subscribers []*subscriber) error {
	every, format := time.Second, "%d of %d events have arrived\n"
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		every, format = every/10, "\r%d of %d events have arrived" // one line, written over
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

// total is how many events all are to get.
func total(subscribers []*subscriber) (n int) {
	for _, s := range subscribers {
		n += s.want.len()
	}
	return n
}
