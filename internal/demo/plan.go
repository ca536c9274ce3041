package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"irohub"
)

const spokes = 3 // number of spokes that publish

// A plan is the events of each publisher, in order. The hub is the first publisher.
type plan [1 + spokes][]irohub.Event

func (p *plan) len() (n int) {
	for _, events := range p {
		n += len(events)
	}
	return n
}

// A file is the payload of an event of type file, whose id is the package's path.
type file struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

// readFiles makes an event of each Go file below dir.
func readFiles(ctx context.Context, dir string) (events []irohub.Event, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || !entry.Type().IsRegular() || filepath.Ext(path) != ".go" {
			return cmp.Or(err, ctx.Err())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		payload, err := json.Marshal(file{entry.Name(), len(text), hex.EncodeToString(sum[:])})
		events = append(events, irohub.Event{Type: "file", ID: filepath.ToSlash(pkg), Payload: payload})
		return err
	})
	// Sort by package: a walk visits a package's subdirectories between its files.
	slices.SortStableFunc(events, func(a, b irohub.Event) int { return cmp.Compare(a.ID, b.ID) })
	return events, err
}

// share distributes the events one by one, so that each package has several publishers. The publisher of a
// package's last file sends the number of its files to the mailbox.
func share(events []irohub.Event, mailbox irohub.NodeID) *plan {
	p := &plan{}
	first := 0 // index of the package's first file
	for i, ev := range events {
		mine := &p[i%len(p)]
		*mine = append(*mine, ev)
		if i+1 == len(events) || events[i+1].ID != ev.ID {
			total, _ := json.Marshal(map[string]any{"package": ev.ID, "files": i + 1 - first})
			*mine = append(*mine, irohub.Event{Type: "direct", ID: mailbox.String(), Payload: total})
			first = i + 1
		}
	}
	return p
}

// pick returns the events that a subscriber to these topics should receive.
func (p *plan) pick(topics []string) *plan {
	picked := &plan{}
	for publisher, events := range p {
		for _, ev := range events {
			if slices.ContainsFunc(topics, func(topic string) bool {
				typ, all := strings.CutSuffix(topic, ":*")
				return topic == ev.Topic() || all && typ == ev.Type
			}) {
				picked[publisher] = append(picked[publisher], ev)
			}
		}
	}
	return picked
}
