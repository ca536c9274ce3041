package system_test

import (
	"testing"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/irohubtest"
)

// BenchmarkHub measures the hub in memory. Package iroh has the same benchmark over the real
// network.
func BenchmarkHub(b *testing.B) {
	network := irohubtest.NewNetwork()
	transporttest.Bench(b, func(testing.TB, transporttest.Key) irohub.Endpoint {
		return network.Endpoint()
	})
}
