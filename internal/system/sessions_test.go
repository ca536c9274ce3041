package system_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/internal/sessions"
	"irohub/irohubtest"
)

// The scripts are for every implementation of the protocol. Their file explains them. Package
// internal/transporttest plays them over TLS and iroh.

func TestSessions_Hub(t *testing.T) {
	for _, script := range sessions.Load(t).Hub {
		t.Run(script.Name, func(t *testing.T) {
			checkRounds(t)
			synctest.Test(t, func(t *testing.T) {
				network := irohubtest.NewNetwork()
				sessions.PlayHub(t, withinAnHour(t), &script, false, func(zero bool) irohub.Endpoint {
					if zero {
						return network.EndpointOf(irohub.NodeID{})
					}
					return network.Endpoint()
				})
			})
		})
	}
}

func TestSessions_Spoke(t *testing.T) {
	for _, script := range sessions.Load(t).Spoke {
		t.Run(script.Name, func(t *testing.T) {
			checkRounds(t)
			synctest.Test(t, func(t *testing.T) {
				network := irohubtest.NewNetwork()
				sessions.PlaySpoke(t, withinAnHour(t), &script, false, network.Endpoint(), network.Endpoint())
			})
		})
	}
}

// withinAnHour returns a context that ends calls that would block for ever, in a bubble's fake
// time.
func withinAnHour(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	t.Cleanup(cancel)
	return ctx
}
