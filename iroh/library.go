package iroh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"irohub/iroh/internal/native"
)

// fetchHint is the command that gets the library.
const fetchHint = "make native, or: go run irohub/iroh/fetch"

// findLibrary returns the path of the native library: explicit, else IROH_LIB,
// else the project's own fetched copy, else the file beside the executable. The
// first two were asked for, so if they are wrong that is an error and nothing
// else is tried.
func findLibrary(explicit string) (string, error) {
	for _, asked := range []struct{ by, path string }{
		{"Options.Library", explicit},
		{"IROH_LIB", os.Getenv("IROH_LIB")},
	} {
		if asked.path == "" {
			continue
		}
		if _, err := os.Stat(asked.path); err != nil {
			return "", fmt.Errorf("%w (%s: %w; to get it: %s)", ErrNoLibrary, asked.by, err, fetchHint)
		}
		return filepath.Abs(asked.path) // without a slash, the system would search for it
	}

	platform := native.Platform()
	file, ok := native.ForPlatform(platform)
	if !ok {
		return "", fmt.Errorf("%w: there is no native library for %s", ErrUnsupported, platform)
	}
	var tried []string
	if dir, err := os.Getwd(); err == nil {
		for {
			path := file.Path(dir, platform)
			// Who may run a program in a directory of somebody else's must not
			// thereby run that person's code: only the pinned library will do.
			switch err := file.Check(path); {
			case err == nil:
				return path, nil
			case !errors.Is(err, fs.ErrNotExist):
				return "", fmt.Errorf("%w: %w", ErrWrongLibrary, err)
			}
			tried = append(tried, path)
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	if exe, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(exe), file.Name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		tried = append(tried, path)
	}
	return "", fmt.Errorf("%w; to get it: %s; tried Options.Library and IROH_LIB (not set), %s",
		ErrNoLibrary, fetchHint, strings.Join(tried, ", "))
}
