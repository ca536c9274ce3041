package weakkey

import (
	"crypto/ed25519"
	"encoding/hex"
	"testing"

	"irohub/internal/weakkey/forge"
)

// Every key in the list is weak, with either sign, and a normal key is not.
func TestIs_WeakKeysAreThoseThatCanBeForged(t *testing.T) {
	for _, digits := range weak {
		bytes, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		public := [32]byte(bytes)
		for _, sign := range []byte{0, 0x80} {
			public[31] = public[31]&0x7f | sign
			if _, err := forge.Sign(public, []byte("message")); err != nil {
				t.Errorf("%x: %v", public, err)
			}
			if !Is(public) {
				t.Errorf("Is(%x) = false", public)
			}
		}
	}
	made, _, _ := ed25519.GenerateKey(nil)
	public := [32]byte(made)
	if _, err := forge.Sign(public, []byte("message")); err == nil || Is(public) {
		t.Errorf("%x can be forged, or is called weak", public)
	}
}
