package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// A mutant is one change of one file: text replaces the source from start to end.
type mutant struct {
	// ID stays the same when other lines change. It consists of the function, the kind, a hash of the old
	// and the new text, and a count of equal changes before it in the function.
	ID     string `json:"id"`
	Func   string `json:"func"`
	Kind   string `json:"kind"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Before string `json:"before"`
	After  string `json:"after"`

	src        *source
	start, end int
	text       string
}

// apply returns the changed file.
func (m *mutant) apply() []byte {
	var b []byte
	b = append(b, m.src.text[:m.start]...)
	b = append(b, m.text...)
	return append(b, m.src.text[m.end:]...)
}

func (m *mutant) String() string {
	after := brief(m.After)
	if m.After == "" {
		after = "nothing"
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s -> %s", m.File, m.Line, m.Column, m.ID, brief(m.Before), after)
}

// identify sets each mutant's ID. The mutants must be in the order of files and positions.
func identify(all []*mutant) {
	seen := make(map[string]int)
	for _, m := range all {
		what := strings.Join([]string{m.Func, m.Kind, m.Before, m.After}, "\x00")
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", what, seen[what]))
		seen[what]++
		m.ID = fmt.Sprintf("%s/%s/%x", m.Func, m.Kind, sum[:4])
	}
}

// normal returns a piece of source on one line.
func normal(text string) string { return strings.Join(strings.Fields(text), " ") }

// brief omits the middle of a text that is too long for a line.
func brief(s string) string {
	const most = 90
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most/2]) + " … " + string(r[len(r)-most/2:])
}
