package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const someID = "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1"

func TestRun_WrongUsage(t *testing.T) {
	peer := someID + "@127.0.0.1:1"
	for _, test := range []struct {
		args string
		says string
	}{
		{"", "irohub hub [flags]"},
		{"serve", `no command "serve"`},
		{"id", "-key FILE is needed"},
		{"id -key k extra", "and nothing else"},
		{"hub extra", `unexpected argument "extra"`},
		{"hub -nonsense", "not defined: -nonsense"},
		{"hub -max-queue -1", "-max-queue"},
		{"hub -max-frame 1MB", "-max-frame"},
		{"hub -max-frame 99999999999", "a number from"},
		{"hub -allow xyz", "-allow"},
		{"hub -relays nowhere", "-relays"},
		{"hub -transport udp", "iroh or tls is wanted"},
		{"pub -transport tls ticket a", "tickets are iroh's"},
		{"pub -transport tls " + someID + " a", "no address"},
		{"pub -transport tls -relays n0 " + peer + " a", "no relay servers"},
		{"sub", "PEER and at least one TOPIC"},
		{"sub " + peer, "PEER and at least one TOPIC"},
		{"sub -n -1 " + peer + " a", "-n"},
		{"sub -n x " + peer + " a", "-n"},
		{"sub " + peer + " a -n 3", "flags stand before it"},
		{"sub " + someID + " a", "no address"},
		{"sub abc@127.0.0.1:1 a", "64 hex digits"},
		{"sub " + someID + "@127.0.0.1 a", "HOST:PORT"},
		{"pub", "PEER is needed"},
		{"pub " + peer + " a 1 2", "at most"},
		{"pub " + peer + " -v", "flags stand before it"},
		{"pub " + peer + " a hello", `PAYLOAD is not JSON: hello; a string has its quotes: '"hello"'`},
		{"pub " + peer + " a {", "PAYLOAD is not JSON"},
		{"pub " + peer + " a\xff", "TOPIC is not UTF-8"},
		{"pub " + peer + " a \"\xff\"", "PAYLOAD is not UTF-8"},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), strings.Fields(test.args), strings.NewReader(""), &stdout, &stderr)
			if status != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), test.says) {
				t.Errorf("status %d, printed %q, said:\n%s\nwant status 2 and %q", status, &stdout, &stderr, test.says)
			}
		})
	}
}

func TestRun_Help(t *testing.T) {
	for args, says := range map[string]string{
		"-h":       "irohub sub [flags] PEER TOPIC…",
		"help":     "Exit status:",
		"id -h":    "-key FILE",
		"hub -h":   "-allow NODEID",
		"sub -h":   "-n COUNT",
		"pub -h":   "PEER [TOPIC [PAYLOAD]]",
		"bench -h": "-spokes NUMBER",
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), strings.Fields(args), strings.NewReader(""), &stdout, &stderr)
		if status != 0 || stderr.Len() > 0 || !strings.Contains(stdout.String(), says) {
			t.Errorf("%s: status %d, said %q, printed:\n%s", args, status, &stderr, &stdout)
		}
	}
}

func TestID_MakesTheKeyOnceAndShowsTheNodeIDAlone(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	var ids [2]string
	for i := range ids {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), []string{"id", "-key", key}, nil, &stdout, &stderr); status != 0 {
			t.Fatalf("status %d: %s", status, &stderr)
		}
		ids[i] = stdout.String()
	}
	if ids[0] != ids[1] || len(ids[0]) != 65 {
		t.Errorf("NodeIDs %q", ids)
	}
	secret, err := os.ReadFile(key)
	if err != nil || strings.Contains(ids[0], strings.TrimSpace(string(secret))) {
		t.Errorf("the secret key was printed (%v)", err)
	}

	os.Chmod(key, 0o644)
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"id", "-key", key}, nil, &stdout, &stderr); status != 1 {
		t.Errorf("a key that others can read: status %d: %s", status, &stderr)
	}
}

func TestEventOf_SplitsTheTopic(t *testing.T) {
	for topic, want := range map[string][2]string{
		"file":          {"file", ""},
		"file:net/http": {"file", "net/http"},
		"a:b:c":         {"a", "b:c"},
		"a:":            {"a:", ""},
		":a":            {":a", ""},
	} {
		ev, err := eventOf([]string{topic})
		if err != nil || ev.Type != want[0] || ev.ID != want[1] || ev.Topic() != topic {
			t.Errorf("%s: type %q, id %q, topic %q (%v)", topic, ev.Type, ev.ID, ev.Topic(), err)
		}
	}
}
