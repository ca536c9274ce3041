// Package simulation runs hubs and spokes, honest and hostile, in a simulated world, and checks
// the invariants after every step. See README.md in this folder.
package simulation
