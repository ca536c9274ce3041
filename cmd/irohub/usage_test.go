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
		{"", "Commands:\n  hub "},
		{"serve", `no command "serve"`},
		{"hbu", `did you mean "hub"?`},
		{"-nonsense hub", "unknown"},
		{"id", "--key FILE is needed"},
		{"id -key k extra", `unexpected argument "extra"`},
		{"hub extra", `unexpected argument "extra"`},
		{"hub -nonsense", "unknown flag: --nonsense"},
		{"hub --nonsense=1", "unknown flag: --nonsense"},
		{"hub -x", "unknown flag: --x"},
		{"hub -key", "needs an argument: --key"},
		{"hub -quiet=maybe", "--quiet"},
		{"hub -max-queue -1", "--max-queue"},
		{"hub -max-frame 1MB", "--max-frame"},
		{"hub -max-frame 99999999999", "a number of bytes from"},
		{"hub -max-frame 2GiB", "a number of bytes from"},
		{"hub -max-frame 1KiB", "a number of bytes from"},
		{"hub -max-spokes 0", "--max-spokes"},
		{"hub -max-spokes-per-node -1", "--max-spokes-per-node"},
		{"hub -max-byte-rate -1", "--max-byte-rate"},
		{"hub -handshake-timeout 0", "--handshake-timeout"},
		{"hub -write-timeout -1s", "--write-timeout"},
		{"hub -shutdown-timeout 0s", "--shutdown-timeout"},
		{"hub -allow xyz", "--allow"},
		{"hub -allow " + someID + ",xyz", "--allow"},
		{"hub -allow-file /nonexistent", "--allow-file"},
		{"hub -deny-file /nonexistent", "--deny-file"},
		{"hub -relays nowhere", "--relays"},
		{"hub -transport udp", "iroh or tls is wanted"},
		{"pub -transport tls ticket a", "only iroh has tickets"},
		{"pub -transport tls " + someID + " a", "no address"},
		{"pub -transport tls -relays n0 " + peer + " a", "no relay servers"},
		{"pub -timeout 0 " + peer + " a", "--timeout"},
		{"sub", "PEER and at least one TOPIC"},
		{"sub " + peer, "PEER and at least one TOPIC"},
		{"sub -n -1 " + peer + " a", "--count"},
		{"sub -n x " + peer + " a", "--count"},
		{"sub " + peer + " a -n 3 -timeout -1s", "--timeout"},
		{"sub -timeout 5 " + peer + " a", "--timeout"},
		{"sub " + peer + " a -unknown", "unknown flag: --unknown"},
		{"sub " + someID + " a", "no address"},
		{"sub abc@127.0.0.1:1 a", "64 hex digits"},
		{"sub " + someID + "@127.0.0.1 a", "HOST:PORT"},
		{"sub " + peer + " a __b", "begins with __"},
		{"sub " + peer + " a\xff", "TOPIC is not UTF-8"},
		{"sub " + peer + " a\a", "control character"},
		{"sub " + peer + " " + strings.Repeat("x", 1025), "the limit is 1024"},
		{"sub " + peer + " direct:" + strings.ToUpper(someID), "in lower case: direct:" + someID},
		{"pub", "PEER is needed"},
		{"pub " + peer + " a 1 2", "at most"},
		{"pub " + peer + " a hello", `PAYLOAD is not JSON: hello; a string needs quotes: '"hello"'`},
		{"pub " + peer + " a {", "PAYLOAD is not JSON"},
		{"pub " + peer + " a -1x", "PAYLOAD is not JSON: -1x"},
		{"pub " + peer + " a -- -v", "PAYLOAD is not JSON: -v"},
		{"pub " + peer + " __ack", "begins with __"},
		{"pub " + peer + " a\xff", "TOPIC is not UTF-8"},
		{"pub " + peer + " a \"\xff\"", "PAYLOAD is not UTF-8"},
		{"version extra", `unexpected argument "extra"`},
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
		"-h":              "Exit status:",
		"-help":           "IROHUB_MAX_QUEUE",
		"help":            "Commands:\n  hub ",
		"help sub":        "irohub sub [flags] PEER TOPIC…",
		"id -h":           "--key FILE",
		"hub -help":       "--allow NODEID",
		"hub extra -h":    "--max-spokes NUMBER",
		"sub --help":      "-n, --count COUNT",
		"pub -h":          "PEER [TOPIC [PAYLOAD]]",
		"bench -h":        "--spokes NUMBER",
		"completion bash": "__start_irohub",
		"completion zsh":  "#compdef irohub",
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), strings.Fields(args), strings.NewReader(""), &stdout, &stderr)
		if status != 0 || stderr.Len() > 0 || !strings.Contains(stdout.String(), says) || strings.Contains(stdout.String(), "true|false") {
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
