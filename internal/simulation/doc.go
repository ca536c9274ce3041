// Package simulation runs hubs and spokes, honest and hostile ones, in a made-up world, and
// checks after every step what must always hold. See README.md here.
package simulation
