package irohub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

func TestCloseError_ReasonIsPrintable(t *testing.T) {
	for reason, want := range map[string]string{
		"":                          "irohub: closed: too slow",
		"slow":                      "irohub: closed: too slow: slow",
		"too slow":                  "irohub: closed: too slow",
		"größer 世界 \"x\" \\":        "irohub: closed: too slow: größer 世界 \"x\" \\",
		"a\nb\x1b[31m\u009b\u202ec": `irohub: closed: too slow: a\nb\x1b[31m\u009b\u202ec`,
		strings.Repeat("x", 1024):   "irohub: closed: too slow: " + strings.Repeat("x", 256) + "…",
	} {
		got := (&CloseError{Code: CodeSlow, Reason: reason}).Error()
		if got != want {
			t.Errorf("%q: %q, want %q", reason, got, want)
		}
		if strings.IndexFunc(got, func(r rune) bool { return !strconv.IsPrint(r) }) >= 0 {
			t.Errorf("%q is not printable", got)
		}
	}
}

func TestCloseError_NamesEveryCode(t *testing.T) {
	for code, want := range []string{"normal end", "shutting down", "protocol error", "forbidden", "too slow", "too many", "timeout", "code 7"} {
		if got := (&CloseError{Code: uint64(code)}).Error(); got != "irohub: closed: "+want {
			t.Errorf("code %d: %q", code, got)
		}
	}
}

// What a peer has said is not said to another, and what is no fault is none.
func TestEndOf(t *testing.T) {
	slow := &CloseError{Code: CodeSlow, Reason: "slow"}
	for _, tc := range []struct {
		err    error
		code   uint64
		reason string
	}{
		{slow, CodeSlow, "slow"},
		{fmt.Errorf("wrapped: %w", slow), CodeSlow, "slow"},
		{&remoteEnd{slow}, 0, ""},
		{&remoteEnd{errors.New("no network")}, 0, ""},
		{io.EOF, 0, ""},
		{context.Canceled, 0, ""},
		{context.DeadlineExceeded, 0, ""},
		{io.ErrNoProgress, CodeProtocol, io.ErrNoProgress.Error()},
	} {
		if end := endOf(tc.err); end.Code != tc.code || end.Reason != tc.reason {
			t.Errorf("%v is closed with %d %q", tc.err, end.Code, end.Reason)
		}
	}
}
