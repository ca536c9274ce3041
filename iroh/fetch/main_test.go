package main

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"irohub/iroh/internal/native"
)

// wheelOf returns a wheel that holds a library with this content.
func wheelOf(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.whl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	w, err := z.Create("iroh/" + name)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err := errors.Join(err, z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUnpack(t *testing.T) {
	sum := sha256.Sum256([]byte("good"))
	file := native.File{Name: "lib.so", SHA256: hex.EncodeToString(sum[:])}
	path := filepath.Join(t.TempDir(), "lib.so")
	if err := unpack(wheelOf(t, "lib.so", "evil"), file, path); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("a library with another SHA-256: %v", err)
	}
	if err := unpack(wheelOf(t, "other.so", "good"), file, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a wheel without the library: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	for range 2 { // the second replaces the first
		if err := unpack(wheelOf(t, "lib.so", "good"), file, path); err != nil {
			t.Fatal(err)
		}
		if err := file.Check(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRun_Errors(t *testing.T) {
	if _, err := run(t.Context(), t.TempDir(), "plan9-mips"); err == nil || !strings.Contains(err.Error(), "plan9-mips") {
		t.Errorf("a platform without a library: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := run(t.Context(), t.TempDir(), "linux-amd64"); err == nil || !strings.Contains(err.Error(), "python3") {
		t.Errorf("no python3: %v", err)
	}
}
