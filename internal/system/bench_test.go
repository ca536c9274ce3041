package system_test

import (
	"testing"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/irohubtest"
)

// BenchmarkHub is the hub in memory; iroh has the same over the real network.
func BenchmarkHub(b *testing.B) {
	network := irohubtest.NewNetwork()
	transporttest.Bench(b, func(testing.TB, transporttest.Key) irohub.Endpoint {
		return network.Endpoint()
	})
}
