package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A suite is the tests of one package: the broken one, or one that uses it.
type suite struct {
	pkg   string // the argument for the go command
	dir   string
	limit time.Duration // time limit of its tests
}

// Limits prevent a mutant from exhausting the machine.
type limits struct {
	factor float64       // time limit as a multiple of the unmutated tests' time
	least  time.Duration // the least time limit
	memory int           // MiB of address space; the heap is held to a quarter of it
}

// A runner runs suites against mutants.
type runner struct {
	dir    string   // where the go command runs
	suites []*suite // in this order, but after a tree's own suite
	own    []*suite // the own suites of trees
	limits limits
}

// The possible verdicts. Only the first two count.
const (
	killed     = "killed"
	survived   = "survived"
	invalid    = "does not compile"
	equivalent = "known to be equivalent"
)

// A verdict is the outcome for a mutant.
type verdict struct {
	Status string `json:"status"`
	Suite  string `json:"suite,omitempty"` // the package whose tests noticed
	By     string `json:"by,omitempty"`    // the test that noticed, or what else ended the tests
	Reason string `json:"reason,omitempty"`
}

// A shell that cannot run the tests exits with this code or one of the next two. Tests exit with 1 or 2.
const notStarted = 125

// A buildError is the go command's error for a package that does not build.
type buildError struct{ output string }

func (e *buildError) Error() string { return "go test -c: " + e.output }

// try runs one suite after another until one notices the mutant. Only this call may use the directory
// meanwhile.
func (r *runner) try(ctx context.Context, m *mutant, dir string) (verdict, error) {
	broken := filepath.Join(dir, filepath.Base(m.File))
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{m.src.name: broken}})
	if err == nil {
		err = os.WriteFile(broken, m.apply(), 0o600)
	}
	if err == nil {
		err = os.WriteFile(overlay, text, 0o600)
	}
	if err != nil {
		return verdict{}, err
	}
	suites := r.suites
	if own := m.src.tree.own; own != nil {
		suites = append([]*suite{own}, suites...)
	}
	for _, s := range suites {
		binary, err := r.build(ctx, s, overlay, dir)
		if failed := (*buildError)(nil); errors.As(err, &failed) {
			// The type checker does not see the tests, which may not compile with a changed constant.
			return verdict{Status: invalid, Suite: s.pkg, Reason: failed.output}, nil
		}
		if err != nil {
			return verdict{}, fmt.Errorf("%s: %w", s.pkg, err)
		}
		by, err := r.run(ctx, s, binary)
		if err != nil {
			return verdict{}, fmt.Errorf("%s: %w", s.pkg, err)
		}
		if by != "" {
			return verdict{Status: killed, Suite: s.pkg, By: by}, nil
		}
	}
	return verdict{Status: survived}, nil
}

// build builds the tests of a suite. It runs without vet, so that vet notices nothing in place of a test.
func (r *runner) build(ctx context.Context, s *suite, overlay, dir string) (string, error) {
	binary := filepath.Join(dir, "suite.test")
	if err := os.Remove(binary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, s.pkg)
	cmd.Dir = r.dir
	ownGroup(cmd)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return "", &buildError{strings.TrimSpace(string(out))}
	}
	if err != nil {
		return "", err
	}
	_, err = os.Stat(binary)
	return binary, err
}

// run runs compiled tests and returns what noticed the mutant; nothing if they pass. An error means that
// the tests did not run.
func (r *runner) run(ctx context.Context, s *suite, binary string) (string, error) {
	// The tests stop themselves at a time limit and name the test that was running. If that fails, they are
	// killed.
	last, cancel := context.WithTimeout(ctx, s.limit+s.limit/2+time.Second)
	defer cancel()
	cmd := limited(last, r.limits.memory, binary,
		"-test.v=true", "-test.failfast", "-test.count=1", "-test.timeout="+s.limit.String())
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMEMLIMIT=%dMiB", r.limits.memory/4), "GOTRACEBACK=single")
	ownGroup(cmd)
	cmd.WaitDelay = 5 * time.Second // for processes that the tests have left behind

	printed, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	seen := new(output)
	read := make(chan struct{})
	go func() {
		defer close(read)
		seen.read(printed)
	}()
	err := cmd.Run()
	w.Close()
	<-read

	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil && seen.passed:
		return "", nil
	case err == nil:
		return "the end of the tests before their last", nil
	case last.Err() != nil:
		return "timeout in " + seen.running, nil
	case !errors.As(err, &exit):
		return "", err
	case exit.ExitCode() >= notStarted && exit.ExitCode() <= notStarted+2:
		return "", fmt.Errorf("not started: %s", seen.first)
	}
	return seen.by(err), nil
}

// An output is the relevant part of the tests' output.
type output struct {
	first   string // the first line
	running string // the test that began last
	failed  string // the first test that failed, with its subtest if known
	crash   string // the first line of a panic, or of another crash
	timeout bool
	passed  bool // all tests have passed
}

// read reads the output to its end, in bounded memory: a mutant can print without end.
func (p *output) read(from io.Reader) {
	b := bufio.NewReaderSize(from, 4<<10)
	for {
		line, isPrefix, err := b.ReadLine()
		if err != nil {
			return
		}
		p.line(string(bytes.TrimSpace(line)))
		for isPrefix && err == nil {
			_, isPrefix, err = b.ReadLine()
		}
	}
}

func (p *output) line(s string) {
	if p.first == "" {
		p.first = s
	}
	word, rest, _ := strings.Cut(s, ": ")
	switch word {
	case "--- FAIL":
		name, _, _ := strings.Cut(rest, " ")
		if p.failed == "" || strings.HasPrefix(name, p.failed+"/") {
			p.failed = name
		}
	case "panic", "fatal error", "SIGSEGV", "runtime":
		p.timeout = p.timeout || strings.HasPrefix(rest, "test timed out")
		if p.crash == "" {
			p.crash = s
		}
	case "PASS":
		p.passed = true
	}
	if name, ok := strings.CutPrefix(s, "=== RUN "); ok {
		p.running = strings.TrimSpace(name)
	}
}

// by returns what noticed the mutant.
func (p *output) by(err error) string {
	switch {
	case p.timeout:
		return "timeout in " + p.running
	case p.failed != "" && p.crash != "":
		return p.failed + ": " + brief(p.crash)
	case p.failed != "":
		return p.failed
	case p.crash != "":
		return p.running + ": " + brief(p.crash)
	}
	return fmt.Sprintf("%s: %v", p.running, err)
}

// baseline runs the suites on the unmodified tree, several times and as many in parallel as later. All must
// pass, otherwise a failure would mean nothing. It sets each suite's time limit.
func (r *runner) baseline(ctx context.Context, dir string, atOnce int) error {
	for _, s := range slices.Concat(r.suites, r.own) {
		s.limit = 10 * time.Minute
		binary, err := r.build(ctx, s, "", dir)
		if err != nil {
			return fmt.Errorf("%s: %w", s.pkg, err)
		}
		type result struct {
			took time.Duration
			by   string
			err  error
		}
		results := make(chan result)
		var slowest time.Duration
		for range 2 {
			for range atOnce {
				go func() {
					start := time.Now()
					by, err := r.run(ctx, s, binary)
					results <- result{time.Since(start), by, err}
				}()
			}
			for range atOnce {
				one := <-results
				slowest = max(slowest, one.took)
				if one.err == nil && one.by != "" {
					one.err = fmt.Errorf("fails as it is: %s", one.by)
				}
				err = errors.Join(err, one.err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.pkg, err)
			}
		}
		s.limit = max(time.Duration(r.limits.factor*float64(slowest)), r.limits.least)
	}
	return nil
}
