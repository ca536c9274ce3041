package main

import (
	"io"
	"os"
	"testing"
	"time"

	"irohub/internal/transports"
)

func TestMain(m *testing.M) {
	if transport := os.Getenv(asHub); transport != "" {
		runHub(transport, os.Args[1], os.Args[2])
	}
	os.Exit(m.Run())
}

// TestSoak is a short soak; run the command for a long one.
func TestSoak(t *testing.T) {
	transports.Each(t, func(t *testing.T, transport string) {
		c := config{transport: transport, length: 6 * time.Second, spokes: 52, topics: 10, rate: 100, pace: 300 * time.Millisecond, out: t.Output()}
		if err := run(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

func TestConnects_LeaveNothingBehind(t *testing.T) {
	transports.Each(t, func(t *testing.T, transport string) {
		count := 1000
		if testing.Short() {
			count = 200
		}
		if err := connects(t.Context(), config{transport: transport, out: t.Output()}, count); err != nil {
			t.Error(err)
		}
	})
}

// A soak that finds a violation returns an error.
func TestSoak_ReportsFaults(t *testing.T) {
	c := config{transport: "none", out: io.Discard}
	if err := run(t.Context(), c); err == nil {
		t.Error("no error")
	}
	s := &soak{config: c}
	s.fail("something")
	if s.faults.Load() != 1 {
		t.Error("a fault is not counted")
	}
}
