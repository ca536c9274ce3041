//go:build unix

package websocket_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"irohub"
	"irohub/internal/siege"
	"irohub/internal/transports"
	"irohub/key"
)

// The siege of a hub is that of the other transports, here behind TLS.
func TestMain(m *testing.M) {
	transports.Use(transports.Transport{
		Name: "websocket",
		Bind: func(_ context.Context, secret key.Secret, addr string) (irohub.Endpoint, error) {
			if addr == "" {
				return open(nil, secret), nil
			}
			return openTLS(nil, secret), nil
		},
		Stall: stall,
	})
	siege.Main(m)
}

// stall takes the upgrade to WebSocket, and then sends nothing, or not all of a hello.
func stall(t testing.TB, hub irohub.Addr, n int, most bool) {
	t.Helper()
	at, err := url.Parse(hub.Hosts[0])
	if err != nil {
		t.Fatal(err)
	}
	header := "\x82\xfe\x04\x09\x00\x00\x00\x00" // a message of 1,033 bytes
	for i := range n {
		c, err := tls.Dial("tcp", at.Host, trusting())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.NetConn().Close() })
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: alkpubsub.1\r\n", at.RequestURI(), at.Host)
		if most {
			fmt.Fprintf(c, "Cookie: %s\r\n\r\n%s%s", strings.Repeat("x", 16000), header, strings.Repeat("x", 1032))
			continue
		}
		fmt.Fprint(c, "\r\n")
		if i%2 == 0 {
			fmt.Fprintf(c, "%s\x10half a hello", header)
		}
	}
}

func TestSiege(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"StalledHandshakesAndAGoodPeer", siege.TestAccept_StalledHandshakesAndAGoodPeer},
		{"NewcomersEvictNobodyElse", siege.TestAccept_NewcomersEvictNobodyElse},
		{"FloodTakesNothingFromOthers", siege.TestFlood_TakesNothingFromOthers},
		{"SubscriptionChurnLeavesNothing", siege.TestFlood_SubscriptionChurnLeavesNothing},
		{"FramesLengths", siege.TestFrames_Lengths},
		{"AnnouncedBytesAreNotAllocated", siege.TestFrames_AnnouncedBytesAreNotAllocated},
		{"OneByteAtATime", siege.TestFrames_OneByteAtATime},
		{"HalfAFrameAndSilence", siege.TestFrames_HalfAFrameAndSilence},
		{"ThousandsOfTinyFrames", siege.TestFrames_ThousandsOfTinyOnes},
		{"FrozenOneIsCutOff", siege.TestFrozen_OneAmong64IsCutOff},
		{"FrozenWriterIsBlocked", siege.TestFrozen_WriterBlockedInTheTransport},
		{"FrozenMemoryIsBounded", siege.TestFrozen_MemoryIsBounded},
		{"RaceEndedFromOutside", siege.TestRace_EndedFromOutside},
		{"RaceEndedFromWithinACallback", siege.TestRace_EndedFromWithinACallback},
		{"RaceSpokeEndedFromWithinItsCallback", siege.TestRace_SpokeEndedFromWithinItsCallback},
	} {
		t.Run(test.name, test.run)
	}
}
