package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/irohubtest"
)

func TestOutage_IsToldWithItsCauseLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		network := irohubtest.NewNetwork()
		endpoint := network.Endpoint()
		hub, err := irohub.NewHub(irohub.HubOptions{}, endpoint)
		if err != nil {
			t.Fatal(err)
		}
		go hub.Serve(t.Context())
		opts := irohub.SpokeOptions{MaxBackoff: time.Second}
		stop := watchOutages(&opts, log)
		spoke, err := irohub.Dial(t.Context(), network.Endpoint(), endpoint.Addr(), opts)
		if err != nil {
			t.Fatal(err)
		}
		hub.Close()
		endpoint.Close()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		text := said.String()
		if n := strings.Count(text, "still not connected"); n != 5 { // after 10, 20, 40, 80 and 160 s
			t.Errorf("told %d times, want 5", n)
		}
		if !strings.Contains(text, "for=10s err=") || !strings.Contains(text, "for=2m40s err=") || strings.Contains(text, "dialing failed") || strings.Contains(text, `err=""`) {
			t.Errorf("said:\n%s", text)
		}
		stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		if said.String() != text {
			t.Errorf("told after the end:\n%s", strings.TrimPrefix(said.String(), text))
		}
		spoke.Close()
	})
}
