// Command mutants breaks a package and its parts at random places, one at a time, and lists the breaks that
// no test notices. A mutant that does not compile is not counted, because no test could notice it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Packages that are parts of the root package and are broken too.
const defaultParts = "./internal/jsonscan,./internal/framing,./internal/logging"

// Packages whose tests use the root package. They run if the root package's own tests notice nothing.
const defaultAlso = "./internal/system,./irohubtest,./internal/transporttest,./internal/simulation"

// A config holds the values of the flags.
type config struct {
	dir        string
	parts      string
	also       string
	required   bool // each package in also must exist and have tests
	equivalent string
	seed       uint64
	n          int
	only       string
	list       bool
	json       bool
	verbose    bool
	atOnce     int
	limits     limits
}

func main() {
	var c config
	flag.StringVar(&c.dir, "C", ".", "the `directory` of the package to break")
	flag.StringVar(&c.parts, "parts", defaultParts, "`packages`, after commas, that are broken too; their own tests are asked first")
	flag.StringVar(&c.also, "also", defaultAlso, "`packages`, after commas, whose tests see what the package's own do not notice; of the default, those that are there")
	flag.StringVar(&c.equivalent, "equivalent", "internal/mutants/equivalent.txt", "the `file` of mutants known to change nothing")
	flag.Uint64Var(&c.seed, "seed", 1, "which mutants are drawn, in which order")
	flag.IntVar(&c.n, "n", 300, "how many mutants to try at most")
	flag.StringVar(&c.only, "only", "", "try just the mutants whose `id` begins so, or with another one after a comma")
	flag.BoolVar(&c.list, "list", false, "list all mutants and try none; some of them do not compile")
	flag.BoolVar(&c.json, "json", false, "write one JSON object")
	flag.BoolVar(&c.verbose, "v", false, "say of each mutant what came of it, when it does")
	flag.IntVar(&c.atOnce, "p", runtime.NumCPU(), "how many mutants to try at once")
	flag.Float64Var(&c.limits.factor, "factor", 20, "how many times as long as the unmutated tests those of a mutant may take")
	flag.DurationVar(&c.limits.least, "least", 10*time.Second, "how long they may take in any case")
	flag.IntVar(&c.limits.memory, "memory", 4096, "`MiB` of address space that they may have, where the system limits it")
	flag.Parse()
	flag.Visit(func(f *flag.Flag) { c.required = c.required || f.Name == "also" })
	if flag.NArg() > 0 || c.n < 1 || c.atOnce < 1 || c.limits.memory < 1 {
		flag.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, c, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config, out, progress io.Writer) error {
	var trees []*tree
	for _, pkg := range append([]string{"."}, fields(c.parts)...) {
		t, err := loadTree(c.dir, pkg)
		if err != nil {
			return err
		}
		trees = append(trees, t)
	}
	all := find(trees...)
	known, err := readEquivalent(filepath.Join(c.dir, c.equivalent))
	if err != nil {
		return err
	}
	if c.list {
		return list(out, all, known, c.json)
	}
	drawn, n := draw(all, c)
	if len(drawn) == 0 {
		return errors.New("there is no such mutant; -list says which there are")
	}

	r := &runner{dir: trees[0].dir, limits: c.limits}
	if r.suites, err = suites(c, progress); err != nil {
		return err
	}
	for _, t := range trees[1:] {
		t.own = &suite{pkg: t.pkg, dir: t.dir}
		r.own = append(r.own, t.own)
	}
	temp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := r.baseline(ctx, temp, c.atOnce); err != nil {
		return err
	}
	results, err := try(ctx, r, drawn, n, known, temp, c, progress)
	if err == nil {
		// Tests that fail without a mutant now may have failed before, too.
		err = r.baseline(ctx, temp, c.atOnce)
	}
	return errors.Join(err, report(out, c, all, known, results))
}

// draw returns the mutants to try, in order, and the most to try.
func draw(all []*mutant, c config) ([]*mutant, int) {
	var drawn []*mutant
	if c.only != "" {
		for _, m := range all {
			if slices.ContainsFunc(fields(c.only), func(id string) bool { return strings.HasPrefix(m.ID, id) }) {
				drawn = append(drawn, m)
			}
		}
		return drawn, len(drawn)
	}
	for _, i := range rand.New(rand.NewPCG(c.seed, 0)).Perm(len(all)) {
		drawn = append(drawn, all[i])
	}
	return drawn, c.n
}

// fields splits a list at commas.
func fields(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }

// suites returns the tests of the package and of the packages in c.also.
func suites(c config, progress io.Writer) ([]*suite, error) {
	var found []*suite
	for i, pkg := range append([]string{"."}, fields(c.also)...) {
		cmd := exec.Command("go", "list", "-f", "{{.Dir}}\t{{len .TestGoFiles}} {{len .XTestGoFiles}}", pkg)
		cmd.Dir = c.dir
		out, err := cmd.Output()
		dir, tests, _ := strings.Cut(strings.TrimSpace(string(out)), "\t")
		if err != nil || tests == "0 0" {
			if i == 0 || c.required {
				return nil, fmt.Errorf("%s has no tests", pkg)
			}
			fmt.Fprintf(progress, "left out: %s has no tests\n", pkg)
			continue
		}
		found = append(found, &suite{pkg: pkg, dir: dir})
	}
	return found, nil
}

// A result is a mutant with its verdict.
type result struct {
	*mutant
	verdict
}

// try tries mutants until n of them are done, not counting those that do not compile and those known to be
// equivalent. If it returns an error, it also returns the results so far.
func try(ctx context.Context, r *runner, drawn []*mutant, n int, known map[string]string, temp string, c config, progress io.Writer) ([]result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *mutant)
	var mu sync.Mutex // guards results and progress
	var results []result
	add := func(m *mutant, v verdict) {
		mu.Lock()
		defer mu.Unlock()
		results = append(results, result{m, v})
		if c.verbose {
			fmt.Fprintln(progress, v.Status+":", m, v.Suite, v.By, v.Reason)
		} else if len(results)%20 == 0 {
			fmt.Fprintf(progress, "%d done\n", len(results))
		}
	}

	var workers sync.WaitGroup
	for i := range c.atOnce {
		workers.Go(func() {
			dir := filepath.Join(temp, fmt.Sprint(i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				cancel(err)
			}
			for m := range next {
				v, err := r.try(ctx, m, dir)
				if err != nil {
					cancel(fmt.Errorf("%v: %w", m, err))
					continue
				}
				add(m, v)
			}
		})
	}
	for _, m := range drawn {
		if n == 0 || ctx.Err() != nil {
			break
		}
		if reason, ok := known[m.ID]; ok && c.only == "" {
			add(m, verdict{Status: equivalent, Reason: reason})
			continue
		}
		if err := m.src.tree.compiles(m); err != nil {
			add(m, verdict{Status: invalid, Reason: err.Error()})
			continue
		}
		select {
		case next <- m:
			n--
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return results, context.Cause(ctx)
}

// readEquivalent reads lines with an ID and a reason. A line that begins with # is a comment.
func readEquivalent(name string) (map[string]string, error) {
	known := make(map[string]string)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for i := 1; lines.Scan(); i++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		id, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			return nil, fmt.Errorf("%s:%d: no reason is given", name, i)
		}
		known[id] = reason
	}
	return known, lines.Err()
}

func list(out io.Writer, all []*mutant, known map[string]string, asJSON bool) error {
	if asJSON {
		return writeJSON(out, all)
	}
	for _, m := range all {
		mark := ""
		if known[m.ID] != "" {
			mark = " (" + equivalent + ")"
		}
		fmt.Fprintf(out, "%v%s\n", m, mark)
	}
	return nil
}

// A summary has the counts. Percent relates to the mutants that could be noticed.
type summary struct {
	Seed       uint64  `json:"seed"`
	Mutants    int     `json:"mutants"`
	Killed     int     `json:"killed"`
	Survived   int     `json:"survived"`
	Invalid    int     `json:"did_not_compile"`
	Equivalent int     `json:"known_equivalent"`
	Percent    float64 `json:"percent_killed"`
	// Stale are the IDs in the file of known mutants that match no mutant.
	Stale []string `json:"stale_equivalents,omitempty"`
}

func report(out io.Writer, c config, all []*mutant, known map[string]string, results []result) error {
	slices.SortFunc(results, func(a, b result) int { return slices.Index(all, a.mutant) - slices.Index(all, b.mutant) })
	s := summary{Seed: c.seed}
	for _, r := range results {
		switch r.Status {
		case killed:
			s.Killed++
		case survived:
			s.Survived++
		case invalid:
			s.Invalid++
		case equivalent:
			s.Equivalent++
		}
	}
	if s.Mutants = s.Killed + s.Survived; s.Mutants > 0 {
		s.Percent = 100 * float64(s.Killed) / float64(s.Mutants)
	}
	stale := maps.Clone(known)
	for _, m := range all {
		delete(stale, m.ID)
	}
	s.Stale = slices.Sorted(maps.Keys(stale))
	if c.json {
		return writeJSON(out, map[string]any{"summary": s, "results": results})
	}

	for _, r := range results {
		if r.Status == survived {
			fmt.Fprintf(out, "%v\n", r.mutant)
		} else if known[r.ID] != "" && r.Status == killed {
			fmt.Fprintf(out, "%v: listed as equivalent, but noticed by %s: %s\n", r.mutant, r.Suite, r.By)
		}
	}
	for _, id := range s.Stale {
		fmt.Fprintf(out, "%s: listed as equivalent, but this mutant no longer exists\n", id)
	}
	_, err := fmt.Fprintf(out, "seed %d: %d mutants, %d killed, %d survived: %.1f%% killed; not counted: %d known to be equivalent, %d did not compile\n",
		s.Seed, s.Mutants, s.Killed, s.Survived, s.Percent, s.Equivalent, s.Invalid)
	return err
}

func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	return e.Encode(v)
}
