//go:build cgo && linux && (amd64 || arm64)

package siege_test

import (
	"testing"

	"irohub/internal/siege"
)

func TestNative_PanicsAreErrors(t *testing.T) { siege.TestNative_PanicsAreErrors(t) }
