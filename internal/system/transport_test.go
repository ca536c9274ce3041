package system_test

import (
	"irohub"
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
		got := (&irohub.CloseError{Code: irohub.CodeSlow, Reason: reason}).Error()
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
		if got := (&irohub.CloseError{Code: uint64(code)}).Error(); got != "irohub: closed: "+want {
			t.Errorf("code %d: %q", code, got)
		}
	}
}
