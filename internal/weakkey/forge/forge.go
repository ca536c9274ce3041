// Package forge forges signatures for weak keys, in tests.
package forge

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"math/big"
	"slices"
)

// Sign signs for a public key without its secret key. It makes signatures R, S with R = S·B.
// They are valid if the term of the public key in the equation vanishes. For a point of small
// order this takes few attempts. For any other key Sign returns an error.
func Sign(public [32]byte, message []byte) ([]byte, error) {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	for range 1000 {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		digest := sha512.Sum512(seed)
		scalar := digest[:32] // the public key of the seed is scalar·B
		scalar[0] &= 248
		scalar[31] = scalar[31]&63 | 64
		slices.Reverse(scalar)
		s := new(big.Int).Mod(new(big.Int).SetBytes(scalar), order).FillBytes(make([]byte, 32))
		slices.Reverse(s)
		signature := append([]byte(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)), s...)
		if ed25519.Verify(public[:], message, signature) {
			return signature, nil
		}
	}
	return nil, errors.New("no forgery has worked")
}
