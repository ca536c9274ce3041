//go:build race

package tlsnet

const raceEnabled = true // and sync.Pool forgets on purpose
