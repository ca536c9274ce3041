package main

import (
	"fmt"
	"slices"
	"testing"
)

// Each operator's mutants of a line. Other operators may produce more.
func TestFind_WhatIsChangedIntoWhat(t *testing.T) {
	const none = "" // the line is deleted
	cases := []struct {
		kind, line string
		changes    [][2]string
	}{
		{"operator", "ok = a == b", [][2]string{{"a == b", "a != b"}}},
		{"operator", "ok = a < b", [][2]string{{"a < b", "a <= b"}, {"a < b", "a >= b"}}},
		{"operator", "a = a*b + 1", [][2]string{{"a*b + 1", "(a*b) - 1"}, {"a*b", "(a / b)"}}},
		{"operator", "ok = ok && up && down", [][2]string{
			{"ok && up && down", "(ok && up) || down"}, {"ok && up", "(ok || up)"}}},
		{"operator", "s = s + s", nil},
		{"operator", "a += b", [][2]string{{"a += b", "a -= b"}, {"a += b", "a = b"}}},
		{"operator", "s += s", [][2]string{{"s += s", "s = s"}}},
		{"operand", "ok = up || !down && ok", [][2]string{
			{"up || !down && ok", "up"}, {"up || !down && ok", "(!down && ok)"},
			{"!down && ok", "!down"}, {"!down && ok", "ok"}}},
		{"negate", "for up && down { a++ }", [][2]string{{"up && down", "!(up && down)"}}},
		{"negate", "if up { a++ }", [][2]string{{"up", "!(up)"}}},
		{"negate", "if !up { a++ }", [][2]string{{"!up", "up"}}},
		{"negate", "if a == b { a++ }", nil},
		{"force", "if up { a++ }", [][2]string{{"up", "true"}}},
		{"force", "if up { a++; b++ }", [][2]string{{"up", "true"}, {"up", "false"}}},
		{"force", "for up { a++ }", [][2]string{{"up", "false"}}},
		{"constant", "a = 0x10", [][2]string{{"0x10", "17"}, {"0x10", "15"}}},
		{"constant", "list = list[:0]", [][2]string{{"0", "1"}}},
		{"constant", "ok = a == 'x'", [][2]string{{"'x'", "'y'"}}},
		{"bool", "ok = true", [][2]string{{"true", "false"}}},
		{"minmax", "a = min(a, b)", [][2]string{{"min", "max"}}},
		{"swap", "a = cmp.Or(a, b)", [][2]string{{"a, b", "b, a"}}},
		{"step", "a++", [][2]string{{"a++", "a--"}}},
		{"delete", "a++", [][2]string{{"a++", none}}},
		{"delete", "list = list[:0]", [][2]string{{"list = list[:0]", none}}},
		{"delete", "list = nil", [][2]string{{"list = nil", none}}},
		{"delete", "delete(m, a)", [][2]string{{"delete(m, a)", none}}},
		{"delete", "c <- a", [][2]string{{"c <- a", none}}},
		{"delete", "<-c", [][2]string{{"<-c", none}}},
		{"delete", "defer close(c)", [][2]string{{"defer close(c)", none}}},
		{"delete", "go f()", [][2]string{{"go f()", none}}},
		{"delete", "x := a; _ = x", [][2]string{{"_ = x", none}}},
		{"delete", "if up { return 0, err }", [][2]string{{"return 0, err", none}}},
		{"error", "if up { return 0, err }", [][2]string{{"err", "nil"}}},
		{"error", "if up { return 0, nil }", nil},
		{"unassign", "a, err = f()", [][2]string{{"a, err = f()", "_, err = f()"}, {"a, err = f()", "a, _ = f()"}}},
		{"branch", "for { switch { case up: break; default: continue } }", [][2]string{{"break", "continue"}, {"continue", "break"}}},
		{"clause", "select { case <-c: a++; case c <- a: }", [][2]string{{"case <-c: a++", none}, {"case c <- a:", none}}},
		{"empty", "switch { case up: a++; b++ }", [][2]string{{"a++; b++", none}}},
		{"empty", "select { case <-c: if up { a++ } }", [][2]string{{"if up { a++ }", none}}},
		{"empty", "for range list { a++; b++ }", [][2]string{{"a++; b++", none}}},
		{"field", "p = &point{x: a, y: b}", [][2]string{{"x: a,", none}, {"y: b", none}}},
		{"field", "m = map[int]int{1: 2}", nil},
	}
	text := `package p

import "cmp"

type point struct{ x, y int }

func f() (int, error) { return 0, nil }

var _ = cmp.Or[int]
`
	for i, c := range cases {
		text += fmt.Sprintf("func f%d(a, b int, s string, ok, up, down bool, list []int, m map[int]int, c chan int, p *point) (n int, err error) {\n%s\nreturn\n}\n", i, c.line)
	}
	_, all := load(t, map[string]string{"go.mod": "module p\n\ngo 1.26\n", "p.go": text})
	for i, c := range cases {
		var got [][2]string
		for _, m := range all {
			if m.Func == fmt.Sprintf("f%d", i) && m.Kind == c.kind {
				got = append(got, [2]string{m.Before, m.After})
			}
		}
		slices.SortFunc(got, compare)
		slices.SortFunc(c.changes, compare)
		if !slices.Equal(got, c.changes) {
			t.Errorf("%s: %s:\n got %q\nwant %q", c.kind, c.line, got, c.changes)
		}
	}
}

func compare(a, b [2]string) int { return slices.Compare(a[:], b[:]) }
