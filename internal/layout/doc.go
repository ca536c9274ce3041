// Package layout has the tests of the root package's layout. The package has two wings, the
// hub and the spoke, which share only the ground. Its files and exported names are few enough
// to see at a glance.
package layout
