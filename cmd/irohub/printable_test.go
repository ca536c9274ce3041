package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"irohub"
)

// unprintable has characters that must not reach a terminal and that a peer may send in a text.
var unprintable = map[string]string{
	"escape":           "\x1b[2J",
	"bell":             "\a",
	"delete":           "\x7f",
	"C1":               "\u009b31m",
	"next line":        "\u0085",
	"line end":         "\n",
	"carriage return":  "\r",
	"line separator":   "\u2028",
	"paragraph":        "\u2029",
	"right to left":    "\u202e",
	"isolate":          "\u2066",
	"mark":             "\u200f",
	"byte order":       "\ufeff",
	"private":          "\ue000",
	"tag, two escapes": "\U000e0041",
}

// wantPrintable checks that a text from the process is printable except for its line breaks.
func wantPrintable(t *testing.T, where, text string) {
	t.Helper()
	for _, r := range strings.ReplaceAll(text, "\n", "") {
		if !isPrintable(r) {
			t.Errorf("%s: %+q has %U", where, text, r)
			return
		}
	}
	if !utf8.ValidString(text) {
		t.Errorf("%s: %q is not UTF-8", where, text)
	}
}

func TestPrintable(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"plain ~", "plain ~"},
		{`äöü € 日本 👍 \`, `äöü € 日本 👍 \`},
		{"a\x1bb", `a\u001bb`},
		{"\u009b\u202e\u2028", `\u009b\u202e\u2028`},
		{"\U000e0041", `\udb40\udc41`},
		{"a\xffb\xc3", `a\ufffdb\ufffd`},
		{"\ufffd", "\ufffd"},
	} {
		if got := string(printable([]byte(test.line))); got != test.want {
			t.Errorf("%+q: %s, want %s", test.line, got, test.want)
		}
	}
}

// In each place where a peer's text leaves the process, it is printable.
func TestOutput_IsPrintable(t *testing.T) {
	for name, bad := range unprintable {
		t.Run(name, func(t *testing.T) {
			reason := &irohub.CloseError{Code: irohub.CodeForbidden, Reason: "before " + bad + " behind"}
			var stderr bytes.Buffer
			said := newLogSink(&stderr)
			log := slog.New(slog.NewTextHandler(said, nil))
			log.Info("reason", "err", reason)
			log.Info("wrapped", "err", fmt.Errorf("wrapped: %w", reason))
			log.Info("text", "topic", bad, bad, "in a key")
			log.Info("in the message "+bad, slog.Group(bad, "a", []string{bad}))
			said.close(t.Context())
			wantPrintable(t, "log", stderr.String())
			if n := strings.Count(stderr.String(), "\n"); n != 4 {
				t.Errorf("%d lines of log, want 4:\n%s", n, &stderr)
			}

			stderr.Reset()
			if status := runFailing(t, reason, &stderr); status != statusFailed {
				t.Errorf("status %d", status)
			}
			wantPrintable(t, "last words", stderr.String())
			if n := strings.Count(stderr.String(), "\n"); n != 1 {
				t.Errorf("%d last lines, want 1:\n%s", n, &stderr)
			}

			payload, _ := json.Marshal(bad)
			raw := strings.NewReplacer("\n", `\n`, "\r", `\r`, "\a", `\u0007`, "\x1b", `\u001b`).Replace(`{"` + bad + `":["` + bad + `"]}`)
			for _, ev := range []irohub.Event{
				{Type: bad, ID: bad},
				{Type: "n", Payload: payload},
				{Type: "n", Payload: json.RawMessage(raw)},
			} {
				var stdout bytes.Buffer
				out := newSink(&stdout, 1<<20, 0, nil)
				if !newPrinter(out).print(ev) {
					t.Fatal("dropped")
				}
				out.close(t.Context())
				wantPrintable(t, "event", stdout.String())
				var back irohub.Event
				if err := json.Unmarshal(stdout.Bytes(), &back); err != nil || back.Topic() != ev.Topic() {
					t.Errorf("%q is read as %+v (%v)", &stdout, back, err)
				}
				if ev.Payload != nil && !sameJSON(t, back.Payload, ev.Payload) {
					t.Errorf("payload %s became %s", ev.Payload, back.Payload)
				}
			}
		})
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

func TestOutput_IsBounded(t *testing.T) {
	reason := &irohub.CloseError{Reason: strings.Repeat("x\x1b", 1<<20)}
	var stderr bytes.Buffer
	said := newLogSink(&stderr)
	slog.New(slog.NewTextHandler(said, nil)).Info("reason", "err", reason)
	said.close(t.Context())
	runFailing(t, reason, &stderr)
	if stderr.Len() > 20<<10 {
		t.Errorf("two lines have %d bytes", stderr.Len())
	}
}
