//go:build unix

package siege_test

import (
	"testing"

	"irohub/internal/siege"
)

func TestFrozen_OneAmong64IsCutOff(t *testing.T) { siege.TestFrozen_OneAmong64IsCutOff(t) }
func TestFrozen_WriterBlockedInTheTransport(t *testing.T) {
	siege.TestFrozen_WriterBlockedInTheTransport(t)
}
func TestFrozen_MemoryIsBounded(t *testing.T) { siege.TestFrozen_MemoryIsBounded(t) }
