package simulation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"irohub"
)

type ctx = context.Context

var (
	seed    = flag.Uint64("seed", 0, "run this `seed` alone")
	traced  = flag.Bool("trace", false, "print each step")
	putback = flag.Bool("putback", false, "see that faults that were mended are found when they are put back")
)

// interruptible reports whether this build can interrupt goroutines as the seed says.
const interruptible = runtime.GOARCH == "wasm"

// report is the result of the seeds.
var report struct {
	steps  int
	digest uint64
}

func idOf(n int) irohub.NodeID { return sha256.Sum256(fmt.Appendf(nil, "node %d", n)) }

// TestSeed is run by the command, in a process of its own.
func TestSeed(t *testing.T) {
	if *seed == 0 {
		t.Skip("it runs with -seed; go run ./internal/simulation/run finds seeds")
	}
	run(t, *seed)
	fmt.Printf("steps %d digest %016x\n", report.steps, report.digest)
}

// TestInParallel runs the same worlds with threads, where the race detector finds what
// interrupting a single thread cannot show. A seed repeats its actions, but not their
// interleaving.
func TestInParallel(t *testing.T) {
	if *seed != 0 || interruptible {
		t.Skip("TestSeed does this")
	}
	begin := time.Now()
	n := 0
	for ; time.Since(begin) < 10*time.Second || n < 5; n++ {
		run(t, 1+rand.Uint64N(1<<32))
	}
	t.Logf("%d seeds, %d steps", n, report.steps)
}

// TestPutBack reintroduces fixed faults, one at a time, in a copy of the module. The simulation
// must find each of them within a minute of two processors: CPU time, which a busy machine does
// not shorten. A patch begins with the expected finding: a regular expression after "expect: ".
func TestPutBack(t *testing.T) {
	if !*putback {
		t.Skip("make simulate-proof does this: go test ./internal/simulation -run PutBack -putback")
	}
	eachPatch(t, func(t *testing.T, patch []byte) {
		first, _, _ := strings.Cut(string(patch), "\n")
		expect, ok := strings.CutPrefix(first, "expect: ")
		if !ok {
			t.Fatal("the patch does not say what to expect")
		}
		dir := t.TempDir()
		if err := copyModule(dir); err != nil {
			t.Fatal(err)
		}
		apply(t, dir, patch)
		find := exec.Command("go", "run", "./internal/simulation/run", "-cpu", "2m", "-expect", expect)
		find.Dir = dir
		out, err := find.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%.8000s", err, out)
		}
		t.Logf("%s", out)
	})
}

// TestPatches_Fit checks that each patch still applies. When lines around it change, the patch
// must change too.
func TestPatches_Fit(t *testing.T) {
	if interruptible {
		t.Skip("it runs other programs, which a WebAssembly process cannot")
	}
	if _, err := exec.LookPath("patch"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("it needs patch; install it: %v", err)
	}
	eachPatch(t, func(t *testing.T, patch []byte) { apply(t, filepath.Join("..", ".."), patch, "--dry-run") })
}

// eachPatch runs a test for each fault in testdata.
func eachPatch(t *testing.T, test func(t *testing.T, patch []byte)) {
	t.Helper()
	patches, err := filepath.Glob("testdata/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatalf("there are no patches: %v", err)
	}
	for _, name := range patches {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".patch"), func(t *testing.T) {
			patch, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			test(t, patch)
		})
	}
}

// apply reintroduces a fault in the module at dir.
func apply(t *testing.T, dir string, patch []byte, options ...string) {
	t.Helper()
	cmd := exec.Command("patch", append([]string{"-p1", "--no-backup-if-mismatch", "-F0"}, options...)...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(patch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the patch does not fit: %v\n%s", err, out)
	}
}

// copyModule copies the files that the simulation is built from.
func copyModule(dir string) error {
	root := filepath.Join("..", "..")
	return filepath.WalkDir(root, func(name string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch first, _, _ := strings.Cut(filepath.ToSlash(path), "/"); first {
			case ".", "internal":
				return os.MkdirAll(filepath.Join(dir, path), 0o755)
			}
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), text, 0o644)
	})
}
