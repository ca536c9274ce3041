package system_test

import (
	"testing"

	"irohub"
	"irohub/irohubtest"
)

// BenchmarkPublish measures Spoke.Publish to a hub in memory without other spokes.
func BenchmarkPublish(b *testing.B) {
	for _, publishers := range []string{"one", "many"} {
		b.Run(publishers, func(b *testing.B) {
			n := irohubtest.NewNetwork()
			ep := n.Endpoint()
			hub := newHub(b, irohub.HubOptions{}, ep)
			go hub.Serve(b.Context())
			defer hub.Close()
			s, err := irohub.Dial(b.Context(), n.Endpoint(), ep.Addr(), irohub.SpokeOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			if publishers == "one" {
				for b.Loop() {
					s.Publish(b.Context(), event("n", 1))
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.Publish(b.Context(), event("n", 1))
				}
			})
		})
	}
}
