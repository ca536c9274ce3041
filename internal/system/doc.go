// Package system has the tests of whole hubs and spokes, by what package irohub exports:
// most of them in memory and made-up time, one over every transport at once.
package system
