// Package key makes the secret keys of irohub's nodes and keeps them in files. All transports
// take the same keys, so a node has the same NodeID over each of them.
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

// A Secret is a node's identity. Anybody who has it can act as that node. Package fmt never
// prints its seed, with any verb, even as a field of another struct. The zero Secret holds no
// key.
type Secret struct {
	// seed is a function and not an array, since fmt prints an array in an unexported field
	// of another struct. With some verbs it even prints the array behind a pointer.
	seed func() [ed25519.SeedSize]byte
}

// New returns a new random key.
func New() Secret {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // it never fails
	return FromSeed(seed)
}

// FromSeed returns the key with the given Ed25519 seed, which [Secret.Seed]
// returns.
func FromSeed(seed [ed25519.SeedSize]byte) Secret {
	return Secret{func() [ed25519.SeedSize]byte { return seed }}
}

// Seed returns the key's 32-byte seed. For the zero Secret, all bytes are zero.
func (k Secret) Seed() (seed [ed25519.SeedSize]byte) {
	if k.seed != nil {
		seed = k.seed()
	}
	return seed
}

// IsZero reports whether k is the zero Secret, which holds no key.
func (k Secret) IsZero() bool { return k.seed == nil }

// ID returns the key's NodeID. For the zero Secret, it is zero.
func (k Secret) ID() (id irohub.NodeID) {
	if k.seed != nil {
		seed := k.seed()
		copy(id[:], ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
	}
	return id
}

// String returns a description with the key's NodeID, without the seed.
func (k Secret) String() string {
	if k.seed == nil {
		return "no secret key"
	}
	return "secret key of " + k.ID().String()
}

// Format writes the result of String for every verb.
func (k Secret) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// MarshalText returns the result of String. So the seed does not get into JSON and logs.
func (k Secret) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LoadOrCreate reads the key in the file at path. If there is no file, it creates one with a
// new key. The file has one line of 64 hex digits, and only its owner has access. LoadOrCreate
// returns an error if the file is not a regular file, if it belongs to another user, or if
// others have access. If several processes find no file at the same time, one creates the key
// and all get it.
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
	// On Windows, the mode does not say who may read.
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return Secret{}, fmt.Errorf("%s has mode %04o, so other users have access; if nobody else has read it: chmod 600 %[1]s", path, perm)
	}
	text := make([]byte, hex.EncodedLen(ed25519.SeedSize)+3) // with "\r\n" and one excess byte
	n, err := io.ReadFull(file, text)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return Secret{}, err
	}
	var seed [ed25519.SeedSize]byte
	text = bytes.TrimRight(text[:n], "\r\n")
	// The errors do not wrap that of hex, because it quotes the text.
	if len(text) != hex.EncodedLen(len(seed)) {
		return Secret{}, fmt.Errorf("%s does not hold 64 hex digits and a newline", path)
	}
	if _, err := hex.Decode(seed[:], text); err != nil {
		return Secret{}, fmt.Errorf("%s does not hold 64 hex digits and a newline", path)
	}
	return FromSeed(seed), nil
}

// create writes a new key to path, unless a file exists by now.
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
	// A link appears with all its content. Unlike a rename, it replaces no file.
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
