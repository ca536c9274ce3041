// Package weakkey lists the Ed25519 public keys that prove nothing.
package weakkey

import (
	"encoding/hex"
	"slices"
)

// weak are the points of the curve whose order divides 8, in all their encodings except for
// the sign bit. Signatures that such a public key accepts can be made without a secret key.
var weak = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

// Is reports whether anybody can forge signatures for a public key.
func Is(public [32]byte) bool {
	public[len(public)-1] &= 0x7f
	return slices.Contains(weak[:], hex.EncodeToString(public[:]))
}
