package key

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"irohub"
)

// The first test vector of RFC 8032.
const (
	testSeed   = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
	testPublic = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
)

func testKey(t *testing.T) Secret {
	t.Helper()
	var seed [32]byte
	if _, err := hex.Decode(seed[:], []byte(testSeed)); err != nil {
		t.Fatal(err)
	}
	return FromSeed(seed)
}

func TestSecret_IDIsThePublicKey(t *testing.T) {
	if id := testKey(t).ID().String(); id != testPublic {
		t.Error(id)
	}
	if id := (Secret{}).ID(); id != (irohub.NodeID{}) || !(Secret{}).IsZero() {
		t.Error("the zero key has an ID", id)
	}
	if a, b := New(), New(); a.ID() == b.ID() || a.IsZero() {
		t.Error("new keys are alike")
	}
	if k := testKey(t); FromSeed(k.Seed()).ID() != k.ID() {
		t.Error("a seed does not make the key that it came from")
	}
}

func TestSecret_NeverPrints(t *testing.T) {
	k := testKey(t)
	inside := struct{ key Secret }{k}
	var text strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c", "%U", "%t", "%p"} {
		fmt.Fprintf(&text, verb+"\n"+verb+"\n"+verb+"\n"+verb+"\n", k, &k, inside, struct{ SecretKey Secret }{k})
	}
	encoded, err := json.Marshal(struct{ SecretKey Secret }{k})
	if err != nil {
		t.Fatal(err)
	}
	text.Write(encoded)
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "key", k, "in", inside)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "key", k, "in", inside)
	fmt.Fprintln(&text, errors.New(k.String()))
	low := strings.ToLower(text.String())
	for _, secret := range []string{testSeed[:8], "157 97 177", "157,97,177", "nWGxne", "[157"} {
		if strings.Contains(low, strings.ToLower(secret)) {
			t.Errorf("%q is printed: %s", secret, text.String())
		}
	}
}

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	k, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	seed := k.Seed()
	if text, err := os.ReadFile(path); err != nil || string(text) != hex.EncodeToString(seed[:])+"\n" {
		t.Errorf("the file is not 64 hex digits and a newline (%v)", err)
	}
	again, err := LoadOrCreate(path)
	if err != nil || again.Seed() != seed {
		t.Errorf("the second time: %v", err)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("files were left over: %v", names)
	}
}

func TestLoadOrCreate_AllAgree(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "key")
		var all sync.WaitGroup
		ids := make([]irohub.NodeID, 8)
		for i := range ids {
			all.Go(func() {
				k, err := LoadOrCreate(path)
				if err != nil {
					t.Error(err)
				}
				ids[i] = k.ID()
			})
		}
		all.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Fatalf("%v and %v", id, ids[0])
			}
		}
	}
}

func TestLoadOrCreate_Refuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return path
	}
	good := testSeed + "\n"
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // in the error; empty: it is accepted
	}{
		"ok":         {good, 0o600, ""},
		"read-only":  {good, 0o400, ""},
		"upper-case": {strings.ToUpper(good), 0o600, ""},
		"no-newline": {testSeed, 0o600, ""},
		"crlf":       {testSeed + "\r\n", 0o600, ""},
		"group":      {good, 0o640, "chmod 600"},
		"world":      {good, 0o604, "chmod 600"},
		"writable":   {good, 0o602, "chmod 600"},
		"empty":      {"", 0o600, "64 hex digits"},
		"short":      {testSeed[2:] + "\n", 0o600, "64 hex digits"},
		"long":       {testSeed + "00\n", 0o600, "64 hex digits"},
		"two":        {good + good, 0o600, "64 hex digits"},
		"not-hex":    {"zz" + testSeed[2:] + "\n", 0o600, "64 hex digits"},
		"big":        {strings.Repeat(testSeed, 1000), 0o600, "64 hex digits"},
	} {
		if runtime.GOOS == "windows" && c.want == "chmod 600" {
			continue
		}
		path := write(name, c.text, c.mode)
		k, err := LoadOrCreate(path)
		switch {
		case c.want == "":
			if err != nil || k.ID().String() != testPublic {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || !k.IsZero():
			t.Errorf("%s: no error", name)
		case !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path):
			t.Errorf("%s: %v", name, err)
		case strings.Contains(err.Error(), testSeed[2:20]):
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != c.text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := LoadOrCreate(dir); err == nil {
		t.Error("a directory was accepted")
	}
	if _, err := LoadOrCreate(filepath.Join(dir, "no", "key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
