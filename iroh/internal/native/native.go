// Package native names the file of iroh's native library for each platform and pins its
// checksum.
package native

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Version is the version of the Python package "iroh", whose wheels contain the library.
// iroh's authors publish no build of it for Go.
const Version = "1.2.0"

// A File describes the library for one platform and the wheel that contains it.
type File struct {
	Name        string // of the library
	SHA256      string // of the library
	Wheel       string // the wheel's platform tag
	WheelSHA256 string
}

var files = map[string]File{
	"linux-amd64": {
		Name:        "libiroh_ffi.so",
		SHA256:      "93cacc4d2e3481c225f6de25599798ab1f221313a0ffd168fadf49cdc75ac7a1",
		Wheel:       "manylinux_2_28_x86_64",
		WheelSHA256: "61222adc81745009f34ca1fed42633f6cac865c9ed35a4701eb8c0174cb8399a",
	},
	"linux-arm64": {
		Name:        "libiroh_ffi.so",
		SHA256:      "62c0e3216c1200f642ad32c3d38d891a9abe67cd9c77e22ddc14ecbaae9f3bc9",
		Wheel:       "manylinux_2_28_aarch64",
		WheelSHA256: "049eef820a5710093cb0cc9d645da00f69dfbf5b0ac7647741da2168b79d0c10",
	},
	"darwin-arm64": {
		Name:        "libiroh_ffi.dylib",
		SHA256:      "44f88181c8c7f075469dfe5689c5a2775b10fed9f49d1d446284cd86ac93c156",
		Wheel:       "macosx_11_0_arm64",
		WheelSHA256: "d7c407d9483c8e0c7680e569f906e892a19d4c13af537ba9127f7de130c0d399",
	},
}

// Platform is the name of the platform that this program runs on.
func Platform() string { return runtime.GOOS + "-" + runtime.GOARCH }

// ForPlatform returns the library for a platform; false if there is none.
func ForPlatform(platform string) (File, bool) {
	f, ok := files[platform]
	return f, ok
}

// Path returns where the library is stored below dir, normally a project's directory.
func (f File) Path(dir, platform string) string {
	return filepath.Join(dir, ".native", platform, f.Name)
}

// Check returns nil if the file at path is this library, byte for byte. If there is no
// file, the error wraps fs.ErrNotExist.
func (f File) Check(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %s, not %s", path, got, f.SHA256)
	}
	return nil
}
