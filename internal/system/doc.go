// Package system tests whole hubs and spokes by the exported names of package irohub. Most
// tests run in memory and in fake time. One runs over every transport at once.
package system
