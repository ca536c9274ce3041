//go:build !race

package tlsnet

const raceEnabled = false
