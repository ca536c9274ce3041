package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A module whose mutants are known: the code, its tests, and a package that uses it.
var toy = map[string]string{
	"go.mod": "module toy\n\ngo 1.26\n",
	"toy.go": `package toy

const Size = 4

func Sum(list []int) int {
	sum := 0
	for _, v := range list {
		sum += v
	}
	return sum
}

func Larger(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func Clear(list []int) {
	n := len(list)
	if n > 0 {
		clear(list)
	}
}

func CountDown(n int) {
	for n > 0 {
		n--
	}
}

func Blocks(n int) (s [][]byte) {
	for {
		if len(s) == n {
			return s
		}
		s = append(s, make([]byte, 1<<20))
	}
}

func Buffered() int {
	c := make(chan int, 1)
	c <- 7
	return <-c
}

func Unseen() bool { return true }
`,
	"toy_test.go": `package toy

import (
	"testing"
	"testing/synctest"
)

func TestSum(t *testing.T) {
	t.Run("two", func(t *testing.T) {
		if Sum([]int{2, 3}) != 5 {
			t.Error("the sum is wrong")
		}
	})
}

func TestLarger(t *testing.T) {
	if Larger(1, 2) != 2 || Larger(2, 1) != 2 {
		t.Error("not the larger")
	}
}

func TestClear(t *testing.T)     { Clear(make([]int, 1)) }
func TestCountDown(t *testing.T) { CountDown(3) }
func TestBlocks(t *testing.T)    { Blocks(3) }

func TestBuffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { Buffered() })
}
`,
	"user/user_test.go": `package user

import (
	"testing"
	"toy"
)

// It does not compile if Size changes.
var _ [1]int = [toy.Size - 3]int{}

func TestUnseen(t *testing.T) {
	if !toy.Unseen() {
		t.Error("false")
	}
}
`,
}

func write(t *testing.T, module map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range module {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, module map[string]string) (*tree, []*mutant) {
	t.Helper()
	tree, err := loadTree(write(t, module), ".")
	if err != nil {
		t.Fatal(err)
	}
	return tree, find(tree)
}

// one returns the mutant of a function that replaces one text by another.
func one(t *testing.T, all []*mutant, fn, before, after string) *mutant {
	t.Helper()
	for _, m := range all {
		if m.Func == fn && m.Before == before && m.After == after {
			return m
		}
	}
	t.Fatalf("%s: no mutant makes %q of %q", fn, after, before)
	return nil
}

func toyConfig(dir string) config {
	return config{
		dir: dir, also: "./user", required: true, equivalent: "equivalent.txt", n: 1 << 20, atOnce: 2, json: true,
		limits: limits{factor: 1, least: 5 * time.Second, memory: 1 << 10},
	}
}

// An outcome is the output of -json.
type outcome struct {
	Summary summary
	Results []struct{ ID, Status, Suite, By string }
}

func runToy(t *testing.T, c config) outcome {
	t.Helper()
	var out, progress bytes.Buffer
	if err := run(t.Context(), c, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	var o outcome
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestMutants_EachVerdictIsTrue(t *testing.T) {
	wanted := []struct {
		name, fn, before, after string
		status, suite, by       string
	}{
		{"noticed by a test", "Sum", "sum += v", "sum -= v", killed, ".", "TestSum/two"},
		{"the same program", "Larger", "a > b", "a >= b", survived, "", ""},
		{"what no test looks at", "Clear", "clear(list)", "", survived, "", ""},
		{"a variable that is not used", "Clear", "n > 0", "true", invalid, "", ""},
		{"a user that does not compile", "Size", "4", "5", invalid, "./user", ""},
		{"no end", "CountDown", "n--", "", killed, ".", "timeout in TestCountDown"},
		{"a deadlock in a bubble", "Buffered", "1", "0", killed, ".", "TestBuffered: panic: deadlock"},
		{"noticed by a user alone", "Unseen", "true", "false", killed, "./user", "TestUnseen"},
	}
	if runtime.GOOS == "linux" {
		wanted = append(wanted, struct {
			name, fn, before, after string
			status, suite, by       string
		}{
			"memory without bound", "Blocks", "return s", "", killed, ".", "out of memory"})
	}
	c := toyConfig(write(t, toy))
	_, all := load(t, toy)
	ids := make([]string, len(wanted))
	for i, w := range wanted {
		ids[i] = one(t, all, w.fn, w.before, w.after).ID
	}
	c.only = strings.Join(ids, ",")
	o := runToy(t, c)

	if len(o.Results) != len(wanted) {
		t.Errorf("%d results for %d mutants", len(o.Results), len(wanted))
	}
	counts := make(map[string]int)
	for _, got := range o.Results {
		want := wanted[slices.Index(ids, got.ID)]
		counts[want.status]++
		if got.Status != want.status || got.Suite != want.suite || !strings.Contains(got.By, want.by) || (got.By == "") != (want.by == "") {
			t.Errorf("%s: %+v", want.name, got)
		}
	}
	s := o.Summary
	if s.Killed != counts[killed] || s.Survived != counts[survived] || s.Invalid != counts[invalid] || s.Mutants != s.Killed+s.Survived {
		t.Errorf("%+v", s)
	}
}

// A compile error does not count as a kill, even without the type checker.
func TestRunner_WhatDoesNotBuildIsNoKill(t *testing.T) {
	tree, all := load(t, toy)
	m := *one(t, all, "Sum", "sum += v", "sum -= v")
	m.text = "no Go"
	r := &runner{dir: tree.dir, suites: []*suite{{pkg: ".", dir: tree.dir, limit: time.Minute}}, limits: toyConfig("").limits}
	v, err := r.try(t.Context(), &m, t.TempDir())
	if err != nil || v.Status != invalid || v.Reason == "" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestRunner_TestsThatDoNotStartAreNoKill(t *testing.T) {
	r := &runner{limits: toyConfig("").limits}
	by, err := r.run(t.Context(), &suite{dir: t.TempDir(), limit: time.Minute}, filepath.Join(t.TempDir(), "absent"))
	if err == nil {
		t.Errorf("a mutant was noticed by %q", by)
	}
}

func TestRunner_AnInterruptedRunIsNoKill(t *testing.T) {
	tree, all := load(t, toy)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &runner{dir: tree.dir, suites: []*suite{{pkg: ".", dir: tree.dir, limit: time.Minute}}, limits: toyConfig("").limits}
	if v, err := r.try(ctx, all[0], t.TempDir()); err == nil {
		t.Errorf("%+v", v)
	}
}

func TestMutants_TreeWhoseTestsFailIsRefused(t *testing.T) {
	broken := maps.Clone(toy)
	broken["toy.go"] = strings.Replace(broken["toy.go"], "sum += v", "sum -= v", 1)
	err := run(t.Context(), toyConfig(write(t, broken)), io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "fails as it is: TestSum/two") {
		t.Error(err)
	}
}

func TestMutants_KnownEquivalentIsNotCounted(t *testing.T) {
	_, all := load(t, toy)
	known := maps.Clone(toy)
	for _, m := range all {
		if m.Func != "Unseen" {
			known["equivalent.txt"] += m.ID + " it makes no difference\n"
		}
	}
	known["equivalent.txt"] += "# a comment\n\nGone/delete/00000000 the function is gone\n"
	o := runToy(t, toyConfig(write(t, known)))
	s := o.Summary
	if s.Mutants != 1 || s.Killed != 1 || s.Percent != 100 || s.Equivalent != len(all)-1 {
		t.Errorf("%+v", s)
	}
	if !slices.Equal(s.Stale, []string{"Gone/delete/00000000"}) {
		t.Errorf("stale: %q", s.Stale)
	}

	known["equivalent.txt"] = all[0].ID + "\n"
	if err := run(t.Context(), toyConfig(write(t, known)), io.Discard, io.Discard); err == nil {
		t.Error("an equivalent without a reason was accepted")
	}
}

func TestMutants_SameSeedDrawsTheSame(t *testing.T) {
	_, all := load(t, toy)
	drawn := func(seed uint64) (ids []string) {
		list, _ := draw(all, config{seed: seed, n: 5})
		for _, m := range list {
			ids = append(ids, m.ID)
		}
		return ids
	}
	if !slices.Equal(drawn(1), drawn(1)) || slices.Equal(drawn(1), drawn(2)) {
		t.Error("what is drawn does not depend on the seed, or not on it alone")
	}
}

func TestMutant_IDOutlastsOtherLines(t *testing.T) {
	_, before := load(t, toy)
	moved := maps.Clone(toy)
	moved["toy.go"] = strings.Replace(moved["toy.go"], "func Sum", "// More.\nfunc More(a, b int) bool { return a > b }\n\nfunc Sum", 1)
	_, after := load(t, moved)
	seen := make(map[string]bool)
	for _, m := range after {
		if seen[m.ID] {
			t.Errorf("%v: twice", m)
		}
		seen[m.ID] = true
	}
	for _, m := range before {
		if !seen[m.ID] {
			t.Errorf("%v: has got another ID", m)
		}
	}
}

func TestMutants_ChecksAreLeftAlone(t *testing.T) {
	checked := maps.Clone(toy)
	checked[checks] = "package toy\n\nfunc holds(n int) bool { return n > 0 }\n"
	_, all := load(t, checked)
	for _, m := range all {
		if m.File == checks {
			t.Errorf("%v", m)
		}
	}
}

// A part of the package is broken too. Its own tests run first, then those of the package.
func TestMutants_PartsAreBrokenToo(t *testing.T) {
	parted := maps.Clone(toy)
	parted["part/part.go"] = "package part\n\nfunc Own() bool { return true }\n\nfunc Used() bool { return true }\n"
	parted["part/part_test.go"] = `package part

import "testing"

func TestOwn(t *testing.T) {
	if !Own() {
		t.Error("false")
	}
}
`
	parted["parts_test.go"] = `package toy

import (
	"testing"
	"toy/part"
)

func TestUsed(t *testing.T) {
	if !part.Used() {
		t.Error("false")
	}
}
`
	c := toyConfig(write(t, parted))
	c.parts, c.only = "./part", "Own/bool,Used/bool"
	got := make(map[string]string)
	for _, r := range runToy(t, c).Results {
		fn, _, _ := strings.Cut(r.ID, "/")
		got[fn] = r.Status + " by " + r.By + " of " + r.Suite
	}
	want := map[string]string{"Own": "killed by TestOwn of ./part", "Used": "killed by TestUsed of ."}
	if !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
