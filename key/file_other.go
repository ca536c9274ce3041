//go:build !unix

package key

import (
	"io/fs"
	"os"
)

const openFlags = os.O_RDONLY

// checkOwner knows of no owners here.
func checkOwner(string, fs.FileInfo, int) error { return nil }
