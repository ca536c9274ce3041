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

// access decides which nodes a hub admits. Its files can be read again while the hub runs.
type access struct {
	named     []irohub.NodeID // from --allow
	allowFile string
	denyFile  string

	lists atomic.Pointer[lists]
}

// lists are the nodes that access has read last. They never change: reading replaces them.
type lists struct {
	allowed map[irohub.NodeID]bool // nil: every node
	denied  map[irohub.NodeID]bool
}

func (a *access) declare(flags *pflag.FlagSet) {
	flags.Func("allow", "admit only the node `NODEID`, or several separated by commas; may be repeated", func(s string) error {
		for text := range strings.SplitSeq(s, ",") {
			id, err := irohub.ParseNodeID(text)
			if err != nil {
				return err
			}
			a.named = append(a.named, id)
		}
		return nil
	})
	flags.StringVar(&a.allowFile, "allow-file", "", "admit only the nodes in `FILE` and those of --allow; one NodeID per line, # begins a comment; SIGHUP reads it again")
	flags.StringVar(&a.denyFile, "deny-file", "", "admit none of the nodes in `FILE`, even if another flag allows them; SIGHUP reads it again")
}

// load reads the files. If one of them is wrong, it keeps the old lists.
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

var errNotListed = errors.New("the hub's lists do not admit this NodeID")

func (a *access) check(id irohub.NodeID) error {
	l := a.lists.Load()
	if l.denied[id] || l.allowed != nil && !l.allowed[id] {
		return errNotListed
	}
	return nil
}

// apply sets the hub's policy. A node that the lists exclude while it is connected can no longer
// publish or subscribe.
func (a *access) apply(opts *irohub.HubOptions) {
	if l := a.lists.Load(); l.allowed == nil && l.denied == nil {
		return
	}
	opts.Admit = func(_ context.Context, id irohub.NodeID) error { return a.check(id) }
	opts.AllowPublish = func(id irohub.NodeID, _ string) error { return a.check(id) }
	opts.AllowSubscribe = opts.AllowPublish
}
