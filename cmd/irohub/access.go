package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"

	"irohub"
)

// access says which nodes a hub admits. Its lists in files can be read again while the hub runs.
type access struct {
	named     []irohub.NodeID // by --allow
	allowFile string
	denyFile  string

	lists atomic.Pointer[lists]
}

// lists are what access has read last. They never change.
type lists struct {
	allowed map[irohub.NodeID]bool // nil: everybody
	denied  map[irohub.NodeID]bool
}

func (a *access) declare(flags *pflag.FlagSet) {
	flags.Func("allow", "admit the node `NODEID`, or several with commas between, and none but those so named; may be repeated", func(s string) error {
		for text := range strings.SplitSeq(s, ",") {
			id, err := irohub.ParseNodeID(text)
			if err != nil {
				return err
			}
			a.named = append(a.named, id)
		}
		return nil
	})
	flags.StringVar(&a.allowFile, "allow-file", "", "admit the nodes that `FILE` names besides, one NodeID a line, # before remarks; SIGHUP has it read again")
	flags.StringVar(&a.denyFile, "deny-file", "", "turn the nodes away that `FILE` names, whatever else is said; SIGHUP has it read again")
}

// load reads the files. If one is wrong, nothing has changed.
func (a *access) load() error {
	l := new(lists)
	if a.named != nil || a.allowFile != "" {
		l.allowed = make(map[irohub.NodeID]bool)
	}
	for _, id := range a.named {
		l.allowed[id] = true
	}
	var err error
	if a.allowFile != "" {
		if err = readNodes(a.allowFile, l.allowed); err != nil {
			return fmt.Errorf("--allow-file: %w", err)
		}
	}
	if a.denyFile != "" {
		l.denied = make(map[irohub.NodeID]bool)
		if err = readNodes(a.denyFile, l.denied); err != nil {
			return fmt.Errorf("--deny-file: %w", err)
		}
	}
	a.lists.Store(l)
	return nil
}

func readNodes(path string, to map[irohub.NodeID]bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; in.Scan(); n++ {
		line, _, _ := strings.Cut(in.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		id, err := irohub.ParseNodeID(line)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		to[id] = true
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

var errNotListed = errors.New("this NodeID is not on the hub's list")

func (a *access) check(id irohub.NodeID) error {
	l := a.lists.Load()
	if l.denied[id] || l.allowed != nil && !l.allowed[id] {
		return errNotListed
	}
	return nil
}

// apply has the hub ask. A node that is taken off the lists while it is connected may neither
// publish nor subscribe any more.
func (a *access) apply(opts *irohub.HubOptions) {
	if l := a.lists.Load(); l.allowed == nil && l.denied == nil {
		return
	}
	opts.Admit = func(_ context.Context, id irohub.NodeID) error { return a.check(id) }
	opts.AllowPublish = func(id irohub.NodeID, _ string) error { return a.check(id) }
	opts.AllowSubscribe = opts.AllowPublish
}
