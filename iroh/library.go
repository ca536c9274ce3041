package iroh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"irohub/iroh/internal/native"
)

// fetchHint says how to get a file, also where there is neither a clone nor Go.
func fetchHint(f native.File) string {
	return fmt.Sprintf("to get it: make native, in a clone of irohub; go run -mod=mod irohub/iroh/fetch, in a module that requires irohub; "+
		"elsewhere put %s of the Python package iroh %s beside the program, or set IROH_LIB to its path: "+
		"python3 -m pip download --no-deps --only-binary :all: --platform %s iroh==%[2]s && "+
		"python3 -m zipfile -e iroh-%[2]s-*.whl . && export IROH_LIB=$PWD/iroh/%[1]s", f.Name, native.Version, f.Wheel)
}

// findLibrary returns the path of the native library: explicit, else IROH_LIB,
// else a fetched copy, in .native of the current directory, of the executable's, or
// of one above either, else the file beside the executable. The first two were asked
// for, so if they are wrong that is an error and nothing else is tried.
func findLibrary(explicit string) (string, error) {
	for _, asked := range []struct{ by, path string }{
		{"Options.Library", explicit},
		{"IROH_LIB", os.Getenv("IROH_LIB")},
	} {
		if asked.path == "" {
			continue
		}
		if _, err := os.Stat(asked.path); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrNoLibrary, asked.by, err)
		}
		return filepath.Abs(asked.path) // without a slash, the system would search for it
	}

	platform := native.Platform()
	file, ok := native.ForPlatform(platform)
	if !ok {
		return "", fmt.Errorf("%w: there is no native library for %s", ErrUnsupported, platform)
	}
	var tried []string
	exe, exeErr := os.Executable()
	for _, start := range []func() (string, error){os.Getwd, func() (string, error) { return filepath.Dir(exe), exeErr }} {
		dir, err := start()
		if err != nil {
			continue
		}
		path, above, err := fetched(file, platform, dir)
		if path != "" || err != nil {
			return path, err
		}
		tried = append(tried, above...)
	}
	if exeErr == nil {
		path := filepath.Join(filepath.Dir(exe), file.Name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		tried = append(tried, path)
	}
	slices.Sort(tried)
	return "", fmt.Errorf("%w; %s; tried Options.Library and IROH_LIB (not set), %s",
		ErrNoLibrary, fetchHint(file), strings.Join(slices.Compact(tried), ", "))
}

// fetched looks for a fetched library in a directory and all above it.
func fetched(file native.File, platform, dir string) (path string, tried []string, err error) {
	for {
		path := file.Path(dir, platform)
		// Who may run a program in a directory of somebody else's must not
		// thereby run that person's code: only the pinned library will do.
		switch err := file.Check(path); {
		case err == nil:
			return path, nil, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", nil, fmt.Errorf("%w: %w", ErrWrongLibrary, err)
		}
		tried = append(tried, path)
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", tried, nil
		}
		dir = parent
	}
}
