// Command run builds the simulation as a deterministic program: the same seed takes the same
// steps. It runs seeds until one fails or the time is over.
//
//	go run ./internal/simulation/run -for 1m
//	go run ./internal/simulation/run -seed 17     with its trace
package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed host.mjs
var host []byte

func main() {
	seed := flag.Uint64("seed", 0, "run this `seed` alone, and print its trace; 0: the kept ones and fresh ones")
	last := flag.Duration("for", 0, "begin no further seed after this `time`; 0: go on until stopped")
	cpu := flag.Duration("cpu", 0, "begin no further seed after the processes together have used this much CPU `time`; 0: any")
	all := flag.Bool("all", false, "do not end at the first seed that fails: list at the end what was found")
	expect := flag.String("expect", "", "succeed once a seed fails with output that this `expression` matches, and fail otherwise")
	kept := flag.Bool("kept", true, "run the seeds of testdata/seeds first")
	flag.Parse()
	if err := run(*seed, *last, *cpu, *kept, *all, *expect); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(seed uint64, last, cpu time.Duration, kept, all bool, expect string) error {
	expected, err := regexp.Compile(expect)
	if err != nil {
		return err
	}
	program, err := build()
	if err != nil {
		return err
	}
	if seed != 0 {
		m, err := start(program, true)
		if err != nil {
			return err
		}
		defer m.stop()
		return m.run(seed).err
	}
	var list []uint64
	if kept && expect == "" {
		if list, err = keptSeeds(filepath.Join("internal", "simulation", "testdata", "seeds")); err != nil {
			return err
		}
	}
	begin, told := time.Now(), time.Now()
	seeds, steps, used := 0, 0, time.Duration(0)
	next := func() (seed uint64, ok bool) {
		if len(list) > 0 {
			seed, list = list[0], list[1:]
			return seed, true
		}
		return 1 + rand.Uint64N(1<<32), (last == 0 || time.Since(begin) < last) && (cpu == 0 || used < cpu)
	}
	sum := func() string {
		return fmt.Sprintf("%d seeds, %d steps in %.0f s, %.1f s of CPU time", seeds, steps, time.Since(begin).Seconds(), used.Seconds())
	}
	found := findings{}
	for r := range results(program, runtime.NumCPU(), next) {
		seeds, steps, used = seeds+1, steps+r.steps, used+r.cpu
		v, failed := errors.AsType[*violation](r.err)
		switch {
		case failed && expect != "" && expected.MatchString(v.output):
			fmt.Printf("found: %s: seed %d: %s\n", sum(), v.seed, says.FindString(v.output))
			return nil
		case failed && (all || expect != ""):
			found.add(v)
		case r.err != nil:
			return r.err
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Println(sum())
		}
	}
	fmt.Println(sum())
	if expect != "" {
		return fmt.Errorf("this was not found: %s\n%v", expect, found.err())
	}
	return found.err()
}

// A result is the outcome of a seed.
type result struct {
	steps int
	cpu   time.Duration
	err   error
}

// results runs seeds in several processes and yields their results, until next has no more
// seeds or the loop ends.
func results(program string, processes int, next func() (uint64, bool)) iter.Seq[result] {
	return func(yield func(result) bool) {
		seeds, out, left := make(chan uint64), make(chan result), make(chan struct{})
		var wait sync.WaitGroup
		for range processes {
			wait.Go(func() {
				m, err := start(program, false)
				if err != nil {
					select {
					case out <- result{err: err}:
					case <-left:
					}
					return
				}
				defer m.stop()
				for seed := range seeds {
					r := m.run(seed)
					select {
					case out <- r:
					case <-left:
						return
					}
				}
			})
		}
		defer wait.Wait()
		defer close(left)
		running := 0
		seed, more := next()
		for more || running > 0 {
			to := seeds
			if !more {
				to = nil
			}
			select {
			case to <- seed:
				running++
				seed, more = next()
			case r := <-out:
				running--
				if !yield(r) {
					close(seeds)
					return
				}
			}
		}
		close(seeds)
	}
}

// keptSeeds reads seeds; each is at the beginning of a line.
func keptSeeds(name string) (seeds []uint64, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			seed, err := strconv.ParseUint(fields[0], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			seeds = append(seeds, seed)
		}
	}
	return seeds, nil
}

// build compiles the program, always in the same folder, so that the go command's cache works.
func build() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("this runs in the module irohub: %w", err)
	}
	root := strings.TrimSpace(string(out))
	dir := filepath.Join(root, "bin", "_simulation") // the go command ignores it
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	list, err := overlay(root, dir)
	if err != nil {
		return "", err
	}
	if err := write(filepath.Join(dir, "host.mjs"), host); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "simulation.wasm")
	cmd := exec.Command("go", "test", "-c", "-o", program, "-overlay", list, "./internal/simulation")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return program, cmd.Run()
}

// A machine is a process that runs the program.
type machine struct {
	cmd   *exec.Cmd
	seeds io.WriteCloser
	lines *bufio.Reader
	trace bool          // print every step
	cpu   time.Duration // used so far
}

func start(program string, trace bool) (*machine, error) {
	script := filepath.Join(filepath.Dir(program), "host.mjs")
	arg := "0"
	if trace {
		arg = "1"
	}
	cmd := exec.Command("node", "--no-warnings", script, program, arg)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the simulation needs Node.js 20 or later: %w", err)
	}
	return &machine{cmd: cmd, seeds: in, lines: bufio.NewReaderSize(out, 1<<20), trace: trace}, nil
}

// stop kills the process.
func (m *machine) stop() {
	m.seeds.Close()
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

var stepsDone = regexp.MustCompile(`(?m)^steps (\d+) digest`)

// run runs one seed.
func (m *machine) run(seed uint64) (r result) {
	if _, r.err = fmt.Fprintln(m.seeds, seed); r.err != nil {
		return r
	}
	line, err := m.lines.ReadBytes('\n')
	if err != nil {
		r.err = fmt.Errorf("node ended: %w", err)
		return r
	}
	var said struct {
		Code   int
		CPU    int64 // of the process so far, in microseconds
		Output string
	}
	if r.err = json.Unmarshal(line, &said); r.err != nil {
		return r
	}
	now := time.Duration(said.CPU) * time.Microsecond
	r.cpu, m.cpu = now-m.cpu, now
	if m.trace {
		fmt.Print(said.Output)
	}
	if said.Code != 0 {
		r.err = &violation{seed, said.Output}
	} else if found := stepsDone.FindStringSubmatch(said.Output); found != nil {
		r.steps, r.err = strconv.Atoi(found[1])
	}
	return r
}

// A violation is a failed seed with its output.
type violation struct {
	seed   uint64
	output string
}

func (v *violation) Error() string {
	return fmt.Sprintf("%s\nreplay it with: make simulate SEED=%d", tail(v.output), v.seed)
}

// tail returns the last steps and the violation, and only the beginning of very long stacks.
func tail(output string) string {
	const before, after = 40, 80 // lines
	lines := strings.SplitAfter(output, "\n")
	at := slices.IndexFunc(lines, says.MatchString)
	if at < 0 {
		at = len(lines) - 1
	}
	return strings.Join(lines[max(at-before, 0):min(at+after, len(lines))], "")
}

// findings groups violations by their text without the numbers in it.
type findings map[string][]*violation

var (
	says    = regexp.MustCompile(`(?m)^(violated|panic|fatal error): .*$`)
	numbers = regexp.MustCompile(`[0-9.]+`)
)

func (f findings) add(v *violation) {
	kind := numbers.ReplaceAllString(says.FindString(v.output), "N")
	if f[kind] == nil {
		fmt.Printf("seed %d: %s\n", v.seed, says.FindString(v.output))
	}
	f[kind] = append(f[kind], v)
}

func (f findings) err() error {
	if len(f) == 0 {
		return nil
	}
	var text strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(&text, "%d times: %s: seeds", len(f[kind]), kind)
		for _, v := range f[kind][:min(4, len(f[kind]))] {
			fmt.Fprintf(&text, " %d", v.seed)
		}
		fmt.Fprintln(&text)
	}
	return errors.New(text.String())
}
