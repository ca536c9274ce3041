package main

import (
	"errors"
	"strings"
	"testing"

	"irohub"
	"irohub/irohubtest"
)

func TestLooksLikePattern(t *testing.T) {
	for topic, want := range map[string]bool{
		"a": false, "a:b": false, "a:*": false, "a.b:*": false, "direct:x": false,
		"*": true, "a*": true, "*a": true, "a:*:c": true, "a:b:*": true, ":*": true, "*:*": true, "a*:*": true, "a:b*": true,
	} {
		if got := looksLikePattern(topic); got != want {
			t.Errorf("%s: %v", topic, got)
		}
	}
}

func TestSilenceHint(t *testing.T) {
	for topics, want := range map[string]string{
		"a:b":         "",
		"a:* b:c":     "",
		"*":           "", // warnOfPatterns handles it
		"q":           "use q:*",
		"q a:b r s:*": "use q:* r:*",
	} {
		if got := silenceHint(strings.Fields(topics)); (got == "") != (want == "") || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", topics, got, want)
		}
	}
}

// The command refuses the topics that the library refuses, and no others.
func FuzzCheckTopic(f *testing.F) {
	hub, err := irohub.NewHub(irohub.HubOptions{}, irohubtest.NewNetwork().Endpoint())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { hub.Close() })
	for _, topic := range []string{
		"", "a", "a:b", "a:*", "__ack", "_a", "a\n", "a\x7f", "a\u0080", "a\u009f", "a\u00a0", "\xc2", "a\xff", "\x00", "a b", "\u2028", "\ufeff",
		strings.Repeat("x", 1024), strings.Repeat("x", 1025), strings.Repeat("ä", 512), strings.Repeat("ä", 512) + "x",
	} {
		f.Add(topic)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		sub, err := hub.Subscribe(t.Context(), topic)
		if err == nil {
			sub.Close()
		}
		if got := checkTopic(topic); (got != nil) != errors.Is(err, irohub.ErrInvalid) {
			t.Errorf("%q: the command says %v, the library %v", topic, got, err)
		}
	})
}
