package irohubtest_test

import (
	"sync"
	"testing"

	"irohub"
	"irohub/internal/transporttest"
	"irohub/irohubtest"
)

func TestTransport(t *testing.T) {
	network := irohubtest.NewNetwork()
	transporttest.Run(t, func(_ testing.TB, key transporttest.Key) irohub.Endpoint {
		if key != 0 {
			return network.EndpointOf(irohub.NodeID{byte(key)})
		}
		return network.Endpoint()
	})
}

func TestNetwork_EndpointsHaveNodeIDsOfTheirOwn(t *testing.T) {
	network := irohubtest.NewNetwork()
	var mu sync.Mutex
	seen := make(map[irohub.NodeID]bool)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			id := network.Endpoint().ID()
			mu.Lock()
			defer mu.Unlock()
			seen[id] = true
		})
	}
	wg.Wait()
	if len(seen) != 200 {
		t.Errorf("%d NodeIDs for 200 endpoints", len(seen))
	}
}
