package words

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"größer 世界 🙂 \"quoted\" \\ 'and' all", "größer 世界 🙂 \"quoted\" \\ 'and' all"},
		{"a\nb\r\tc", `a\nb\r\tc`},
		{"\x1b[31mred\x7f\x00", `\x1b[31mred\x7f\x00`},
		{"C1: \u009b31m \u0085", `C1: \u009b31m \u0085`},
		{"\u202egnp.exe \u2066 \u200b", `\u202egnp.exe \u2066 \u200b`},
		{"\u2028\u00a0", `\u2028\u00a0`},
		{"no UTF-8: \xff\x9b", `no UTF-8: \xff\x9b`},
		{"\uFFFD", "\uFFFD"},
		{strings.Repeat("x", Shown), strings.Repeat("x", Shown)},
		{strings.Repeat("x", Shown+1), strings.Repeat("x", Shown) + "…"},
		{"x" + strings.Repeat("é", Shown), "x" + strings.Repeat("é", Shown/2-1) + "…"},
	} {
		got := Printable(c.in)
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
		if again := Escape(got); again != got {
			t.Errorf("%q: printed twice it is %q", c.in, again)
		}
	}
}

func TestKept(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"a\xff\xfeb", "a\uFFFDb"},
		{"éé", "éé"},
		{strings.Repeat("é", 9), "éééé"},
		{"1234567é", "1234567"},
		{strings.Repeat("a\xff", 9), "a\uFFFDa\uFFFD"},
		{strings.Repeat("\x80", 9), "\uFFFD"},
	} {
		if got := Kept(c.in, 8); got != c.want || !utf8.ValidString(got) || len(got) > 8 {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}
