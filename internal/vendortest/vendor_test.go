// Package vendortest tests an application that vendors irohub.
package vendortest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goMod is the application's go.mod. The tool line makes go mod vendor copy the program that
// fetches the native library. Without it, only imported packages are copied.
const goMod = `module example.com/app

go 1.26

require irohub v0.0.0

replace irohub => %REPO%

tool irohub/iroh/fetch
`

func TestVendoredApplication(t *testing.T) {
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	app := t.TempDir()
	text, err := os.ReadFile("testdata/app/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"main.go": string(text),
		"go.mod":  strings.ReplaceAll(goMod, "%REPO%", repo),
	} {
		if err := os.WriteFile(filepath.Join(app, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	run(t, app, nil, "go", "mod", "tidy")
	run(t, app, nil, "go", "mod", "vendor")
	checkVendored(t, repo, filepath.Join(app, "vendor"))

	t.Run("cgo=0", func(t *testing.T) {
		got := buildAndRun(t, app, "CGO_ENABLED=0")
		if !strings.HasPrefix(got, "memory: exchanged\ntls: exchanged\niroh: unsupported: ") || !strings.Contains(got, "CGO_ENABLED=1") {
			t.Errorf("the application printed:\n%s", got)
		}
	})
	t.Run("cgo=1", func(t *testing.T) {
		cc := strings.Fields(run(t, app, nil, "go", "env", "CC"))
		if _, err := exec.LookPath(cc[0]); err != nil {
			skip(t, "a C compiler: %v", err)
		}
		native := filepath.Join(repo, ".native")
		if _, err := os.Stat(native); errors.Is(err, fs.ErrNotExist) {
			skip(t, "the native library; run: make native")
		}
		// The application has the library, so fetching it downloads nothing.
		if err := os.Symlink(native, filepath.Join(app, ".native")); err != nil {
			t.Fatal(err)
		}
		run(t, app, nil, "go", "tool", "fetch")
		if got := buildAndRun(t, app, "CGO_ENABLED=1"); got != "memory: exchanged\ntls: exchanged\niroh: exchanged\n" {
			t.Errorf("the application printed:\n%s", got)
		}
	})
}

// checkVendored checks that irohub is the only vendored module, and that its C files were copied.
// go mod vendor copies C files only from folders with Go files.
func checkVendored(t *testing.T, repo, vendor string) {
	t.Helper()
	entries, err := os.ReadDir(vendor)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, []string{"irohub", "modules.txt"}) {
		t.Errorf("vendor has %q, want irohub and modules.txt", names)
	}
	copied := 0
	for _, pattern := range []string{"*.c", "*.h"} {
		files, err := filepath.Glob(filepath.Join(repo, "iroh", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			copied++
			if _, err := os.Stat(filepath.Join(vendor, "irohub", "iroh", filepath.Base(file))); err != nil {
				t.Errorf("not vendored: %v", err)
			}
		}
	}
	if copied == 0 {
		t.Error("there are no C files in iroh: this test looks in the wrong place")
	}
}

func buildAndRun(t *testing.T, app, cgo string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "app")
	run(t, app, []string{cgo}, "go", "build", "-mod=vendor", "-o", program, ".")
	return run(t, app, nil, program)
}

// run runs a command in the application's folder and returns its output. The command cannot
// download modules, and does not depend on the environment's settings for modules.
func run(t *testing.T, app string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = app
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local", "IROH_LIB=")
	cmd.Env = append(cmd.Env, env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// skip skips a test because something is missing. In continuous integration, the test fails
// instead.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: "+format, args...)
	}
	t.Skipf("missing: "+format, args...)
}
