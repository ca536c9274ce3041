package irohubtest_test

import (
	"testing"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/irohubtest"
)

func TestTransport(t *testing.T) {
	network := irohubtest.NewNetwork()
	transporttest.Run(t, func(_ testing.TB, key transporttest.Key) transporttest.Endpoint {
		if key != 0 {
			return network.EndpointOf(irohub.NodeID{byte(key)})
		}
		return network.Endpoint()
	})
}
