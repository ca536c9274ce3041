// Package layout has the tests that hold the root package to its layout: two wings, the hub
// and the spoke, on one ground; and few enough files and names to see at a glance.
package layout
