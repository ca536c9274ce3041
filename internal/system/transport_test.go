package system_test

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"irohub"
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
	for code, want := range []string{"normal end", "shutting down", "protocol error", "forbidden", "too slow", "over a limit", "timeout", "code 7"} {
		if got := (&irohub.CloseError{Code: uint64(code)}).Error(); got != "irohub: closed: "+want {
			t.Errorf("code %d: %q", code, got)
		}
	}
}

// An address prints in the form in which it was parsed. An invalid one is refused.
func TestParseAddr(t *testing.T) {
	node := strings.Repeat("ab", 32)
	id, err := irohub.ParseNodeID(node)
	if err != nil {
		t.Fatal(err)
	}
	for text, hosts := range map[string][]string{
		node:                          nil,
		node + "@192.0.2.1:4433":      {"192.0.2.1:4433"},
		node + "@hub.example:1,[::]:": {"hub.example:1", "[::]:"},
	} {
		want := irohub.Addr{ID: id, Hosts: hosts}
		if addr, err := irohub.ParseAddr(text); err != nil || !reflect.DeepEqual(addr, want) || addr.String() != text {
			t.Errorf("%s is read as %v, %v", text, addr, err)
		}
	}
	for _, text := range []string{"", "@192.0.2.1:4433", node[1:], node + "0", "x" + node[1:], node + "@", node + "@192.0.2.1", node + "@192.0.2.1:1,", node + "@,192.0.2.1:1", node + "@::1:1"} {
		if addr, err := irohub.ParseAddr(text); err == nil || !reflect.DeepEqual(addr, irohub.Addr{}) {
			t.Errorf("%s is read as %v, %v", text, addr, err)
		}
	}
}

// An address that is printed can be read again, with hosts of every form.
func TestParseAddr_ReadsWhatStringPrints(t *testing.T) {
	id := irohub.NodeID{1}.String()
	for _, s := range []string{
		id, id + "@192.0.2.1:4433", id + "@[2001:db8::1]:4433,hub.example.org:443",
		id + "@wss://hub.example.org/events", id + "@wss://hub.example.org:8443/a?b=c@d,192.0.2.1:4433",
	} {
		if addr, err := irohub.ParseAddr(s); err != nil || addr.String() != s {
			t.Errorf("%s: %v, %v", s, addr, err)
		}
	}
	for _, s := range []string{id + "@", id + "@192.0.2.1", id + "@2001:db8::1:4433", id + "@https:/hub:1/a:b", id[1:]} {
		if addr, err := irohub.ParseAddr(s); err == nil {
			t.Errorf("%s: %v", s, addr)
		}
	}
}
