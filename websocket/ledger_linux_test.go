package websocket_test

import (
	"testing"

	"irohub/internal/siege"
)

func BenchmarkLedger(b *testing.B) { siege.BenchmarkLedger(b) }
