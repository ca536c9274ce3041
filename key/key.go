// Package key holds the secret keys of irohub's nodes, and the files that they are kept in.
// All transports take the same keys: a node has the same NodeID over each of them.
package key

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"irohub"
)

// A Secret is a node's identity: whoever has it is that node. It never prints
// itself, whatever the verb, nor does a struct that it is a field of. The zero
// Secret is no key.
type Secret struct {
	// A function, because fmt prints an array that is in an unexported field of
	// somebody's struct, and with some verbs even what a pointer there points to.
	seed func() [ed25519.SeedSize]byte
}

// New returns a new random key.
func New() Secret {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // it never fails
	return FromSeed(seed)
}

// FromSeed returns the key with an Ed25519 seed, as [Secret.Seed]
// gives it away.
func FromSeed(seed [ed25519.SeedSize]byte) Secret {
	return Secret{func() [ed25519.SeedSize]byte { return seed }}
}

// Seed returns the key's 32 bytes; those of the zero Secret are zero.
func (k Secret) Seed() (seed [ed25519.SeedSize]byte) {
	if k.seed != nil {
		seed = k.seed()
	}
	return seed
}

// IsZero reports whether k is no key.
func (k Secret) IsZero() bool { return k.seed == nil }

// ID is the key's NodeID; that of the zero Secret is zero.
func (k Secret) ID() (id irohub.NodeID) {
	if k.seed != nil {
		seed := k.seed()
		copy(id[:], ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
	}
	return id
}

// String names the key by its NodeID.
func (k Secret) String() string {
	if k.seed == nil {
		return "no secret key"
	}
	return "secret key of " + k.ID().String()
}

// Format writes what String returns, whatever the verb.
func (k Secret) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// MarshalText keeps the key out of JSON and logs: it returns what String returns.
func (k Secret) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LoadOrCreate reads the key in the file at path, or makes a new one there
// if no such file exists. The file has one line of 64 hex digits, and its owner
// alone may read it: a file that others may read, or that belongs to another
// user, is refused, and so is what is no regular file. Of several
// processes that find no file at the same time, one makes the key and all get it.
func LoadOrCreate(path string) (Secret, error) {
	k, err := load(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(path); err == nil {
			k, err = load(path)
		}
	}
	if err != nil {
		return Secret{}, fmt.Errorf("irohub/key: %w", err)
	}
	return k, nil
}

func load(path string) (Secret, error) {
	file, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		return Secret{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return Secret{}, fmt.Errorf("%s is not a regular file", path)
	}
	if err := checkOwner(path, info, os.Geteuid()); err != nil {
		return Secret{}, err
	}
	// Windows reports modes that say nothing about who may read.
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return Secret{}, fmt.Errorf("%s has mode %04o, so others can use it; if nobody else has read it: chmod 600 %[1]s", path, perm)
	}
	text := make([]byte, hex.EncodedLen(ed25519.SeedSize)+3) // "\r\n" and one too many
	n, err := io.ReadFull(file, text)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return Secret{}, err
	}
	var seed [ed25519.SeedSize]byte
	text = bytes.TrimRight(text[:n], "\r\n")
	// The error of hex is left out: it quotes the text.
	if len(text) != hex.EncodedLen(len(seed)) {
		return Secret{}, fmt.Errorf("%s does not hold 64 hex digits and a newline", path)
	}
	if _, err := hex.Decode(seed[:], text); err != nil {
		return Secret{}, fmt.Errorf("%s does not hold 64 hex digits and a newline", path)
	}
	return FromSeed(seed), nil
}

// create puts a new key at path, unless there is a file by now.
func create(path string) error {
	seed := New().Seed()
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = fmt.Fprintf(temp, "%x\n", seed[:])
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	// A link appears with all its content and replaces nothing, which rename
	// would do.
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
