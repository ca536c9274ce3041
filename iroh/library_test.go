package iroh

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"irohub/iroh/internal/native"
)

func TestFindLibrary(t *testing.T) {
	file, ok := native.ForPlatform(native.Platform())
	if !ok {
		t.Skip("no native library for " + native.Platform())
	}
	t.Setenv("IROH_LIB", "")
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(deep)

	_, err := findLibrary("")
	if !errors.Is(err, ErrNoLibrary) {
		t.Fatalf("nothing there: %v", err)
	}
	for _, want := range []string{
		file.Path(deep, native.Platform()), file.Path(root, native.Platform()), "make native", "IROH_LIB", "Options.Library",
		"pip download", file.Wheel, "iroh==" + native.Version, // where there is neither the clone nor Go
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}

	own := filepath.Join(root, "own.so")
	if err := os.WriteFile(own, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if path, err := findLibrary(own); err != nil || path != own {
		t.Errorf("explicit: %q, %v", path, err)
	}
	if path, err := findLibrary("../../own.so"); err != nil || path != own {
		t.Errorf("explicit, relative: %q, %v", path, err)
	}
	if _, err := findLibrary(own + "x"); !errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), "Options.Library") {
		t.Errorf("explicit, missing: %v", err)
	}
	t.Setenv("IROH_LIB", own)
	if path, err := findLibrary(""); err != nil || path != own {
		t.Errorf("IROH_LIB: %q, %v", path, err)
	}
	t.Setenv("IROH_LIB", own+"x")
	if _, err := findLibrary(""); !errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), "IROH_LIB: ") {
		t.Errorf("IROH_LIB, missing: %v", err)
	}
	t.Setenv("IROH_LIB", "")

	// A file in .native that is not the pinned one is never run.
	path := file.Path(root, native.Platform())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := findLibrary(""); !errors.Is(err, ErrWrongLibrary) || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("another file: %v", err)
	}
}
