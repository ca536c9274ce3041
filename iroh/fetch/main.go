// Command fetch downloads iroh's native library for this platform into .native in the
// current directory, where package irohub/iroh finds it:
//
//	go run irohub/iroh/fetch [-o DIR]
//
// The library is part of the wheel of the Python package iroh, which pip downloads but does
// not install. The wheel and the library must have the SHA-256 that this package pins. If
// the right library is present already, nothing is downloaded.
package main

import (
	"archive/zip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"irohub/iroh/internal/native"
)

func main() {
	dir := flag.String("o", ".", "the directory in which to create .native")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: fetch [-o DIR]\nDownloads iroh's native library into DIR/.native.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := run(ctx, *dir, native.Platform())
	if err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

// run returns the path of the library below dir.
func run(ctx context.Context, dir, platform string) (string, error) {
	file, ok := native.ForPlatform(platform)
	if !ok {
		return "", fmt.Errorf("there is no native library for %s", platform)
	}
	path := file.Path(dir, platform)
	err := file.Check(path)
	if err == nil {
		return path, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "fetch: %v: replacing it\n", err)
	}

	temp, err := os.MkdirTemp("", "irohub-fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	wheel, err := download(ctx, temp, file)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := unpack(wheel, file, path); err != nil {
		return "", err
	}
	return path, os.WriteFile(filepath.Join(filepath.Dir(path), "LICENCE-NOTE.txt"), fmt.Appendf(nil, licence, file.Name, native.Version), 0o644)
}

const licence = `%s is the native library of iroh, from the Python package iroh %s.
Copyright: the authors of iroh (n0, inc. and contributors), github.com/n0-computer/iroh-ffi.
Licence: MIT or Apache-2.0, at your choice; the texts are in that repository.
If you redistribute this file, include the text of that licence.
`

// download makes pip download the wheel into dir and check its SHA-256.
func download(ctx context.Context, dir string, file native.File) (wheel string, err error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("python3 is needed to download the library: %w", err)
	}
	if err := exec.CommandContext(ctx, python, "-m", "pip", "--version").Run(); err != nil {
		return "", fmt.Errorf("pip is needed to download the library, but %s -m pip does not work: %w", python, err)
	}
	requirements := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("iroh==%s --hash=sha256:%s\n", native.Version, file.WheelSHA256)
	if err := os.WriteFile(requirements, []byte(line), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary", ":all:", "--require-hashes", "--platform", file.Wheel,
		"--dest", dir, "--requirement", requirements)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("pip download of iroh %s for %s: %w", native.Version, file.Wheel, err)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip download produced %d wheels, not one", len(wheels))
	}
	return wheels[0], nil
}

// unpack writes the library in a wheel to path. It writes a complete, checked file or
// nothing.
func unpack(wheel string, file native.File, path string) error {
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer z.Close()
	in, err := z.Open("iroh/" + file.Name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(path), ".fetch-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Chmod(0o755), out.Close())
	if err == nil {
		err = file.Check(out.Name())
	}
	if err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}
