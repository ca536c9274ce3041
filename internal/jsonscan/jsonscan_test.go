package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"irohub/internal/jsonscan/reference"
)

// valid checks a value that stands one level deep.
func valid(text []byte) bool { return Valid(text, 1) }

// TestAcceptsWhatEncodingJSONDoes checks every text by itself, at every offset in a word of eight
// bytes, and cut off.
func TestAcceptsWhatEncodingJSONDoes(t *testing.T) {
	check := func(text string) {
		t.Helper()
		want := utf8.ValidString(text) && json.Valid([]byte(text))
		if got := valid([]byte(text)); got != want {
			t.Errorf("Valid(%q) is %v, want %v", text, got, want)
		}
	}
	for _, text := range reference.Values {
		check(text)
		for n := range 9 {
			pad := strings.Repeat("x", n)
			check(`["` + pad + `",` + text + `]`)
			check(`{"` + pad + `":` + text + `}`)
			check(strings.Repeat(" ", n) + text + strings.Repeat("\n", n))
			if strings.HasPrefix(text, `"`) {
				check(`"` + pad + text[1:])
				check(`"` + pad + "é" + text[1:])
			}
		}
		for n := range len(text) {
			check(text[:n])
			check(`[` + text[:n])
		}
	}
}

// The scan of a string handles eight bytes at a time. So the test puts every byte at every offset
// of a word, alone and after other bytes that stop the scan.
func TestEveryByteInAString(t *testing.T) {
	for c := range 256 {
		for n := range 17 {
			for _, after := range []string{"", "abcdefgh", `\n`, "é", "\x01", "!"} {
				text := `"` + strings.Repeat("#", n) + string([]byte{byte(c)}) + after + `" `
				want := utf8.ValidString(text) && json.Valid([]byte(text))
				if got := valid([]byte(text)); got != want {
					t.Fatalf("Valid(%q) is %v, want %v", text, got, want)
				}
			}
		}
	}
}

func TestPlainPrefix(t *testing.T) {
	for c := range 256 {
		for n := range 20 {
			for _, after := range []string{"", "\x00", `"`, `\`, "\x80zzzzzzzz", "zzzzzzzzzzzz"} {
				text := strings.Repeat("\xbf!", n)[:n] + string([]byte{byte(c)}) + after
				want := strings.IndexFunc(text, func(r rune) bool { return r < 0x20 || r == '"' || r == '\\' })
				if want < 0 {
					want = len(text)
				}
				if got := plainPrefix([]byte(text)); got != want {
					t.Fatalf("plainPrefix(%q) is %d, want %d", text, got, want)
				}
			}
		}
	}
}

func TestDepth(t *testing.T) {
	for _, shape := range []string{"a", "o", "ao", "oa", "aoo", "ooaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaao"} {
		for levels := 1; levels <= MaxDepth+2; levels++ {
			text := reference.Nest(levels, shape)
			if got, want := valid([]byte(text)), levels <= MaxDepth-1; got != want {
				t.Errorf("shape %q: %d levels: %v, want %v", shape, levels, got, want)
			}
		}
		// Each closing bracket must match the opening one of its level.
		text := reference.Nest(MaxDepth-1, shape)
		for i := strings.IndexByte(text, '1') + 1; i < len(text); i++ {
			wrong := []byte(text)
			wrong[i] ^= ']' ^ '}'
			if valid(wrong) {
				t.Errorf("shape %q: the bracket at %d may be the wrong one", shape, i)
			}
		}
		// Closed levels do not count.
		wide := "[" + strings.Repeat(reference.Nest(MaxDepth-2, shape)+",", 3) + reference.Nest(MaxDepth-2, shape) + "]"
		if !valid([]byte(wide)) {
			t.Errorf("shape %q: levels side by side count", shape)
		}
	}
}

func TestUnquote(t *testing.T) {
	for _, tc := range []struct {
		quoted, want string
		ok           bool
	}{
		{`""`, "", true},
		{`"abc"`, "abc", true},
		{`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t", true},
		{`"\u0041\u00e9\u4F60"`, "Aé你", true},
		{`"\u0000"`, "\x00", true},
		{`"a\u0041"`, "aA", true},
		{`"\u0041b"`, "Ab", true},
		{`"\ud83d\ude00"`, "😀", true},
		{`"x\uD83D\uDE00y"`, "x😀y", true},
		{`"\ud800\udc00\udbff\udfff"`, "\U00010000\U0010FFFF", true},
		{`"\ufffd"`, "\ufffd", true},
		{`"\uffff"`, "\uffff", true},
		{`"\ud83d"`, "\ufffd", false},
		{`"\ude00"`, "\ufffd", false},
		{`"\ude00\ud83d"`, "\ufffd\ufffd", false},
		{`"\ud83dx"`, "\ufffdx", false},
		{`"\ud83d\u0041"`, "\ufffdA", false},
		{`"\ud83d\n\ude00"`, "\ufffd\n\ufffd", false},
		{`"\ud83d\ud83d\ude00"`, "\ufffd😀", false},
		{`"\ud83d\\ude00"`, "\ufffd\\ude00", false},
		{`"\\ud83d"`, `\ud83d`, true},
	} {
		got, ok := Unquote([]byte(tc.quoted))
		if string(got) != tc.want || ok != tc.ok {
			t.Errorf("Unquote(%s) is %q, %v, want %q, %v", tc.quoted, got, ok, tc.want, tc.ok)
		}
		var std string
		if err := json.Unmarshal([]byte(tc.quoted), &std); err != nil || std != tc.want {
			t.Errorf("encoding/json decodes %s to %q, %v; the test wants %q", tc.quoted, std, err, tc.want)
		}
	}
}

func TestAppendQuoted(t *testing.T) {
	for _, s := range []string{"", "plain", `"`, `\`, "a\"b\\c", "\x00\x01\x1f", "\n\t", "\x7f", "é😀", "<&>", "1234567\"", "12345678\"9", strings.Repeat(`\"`, 20)} {
		quoted := AppendQuoted([]byte("before"), s)
		var back string
		if err := json.Unmarshal(quoted[len("before"):], &back); err != nil || back != s {
			t.Errorf("AppendQuoted(%q) is %s, which is %q, %v", s, quoted, back, err)
		}
	}
	if got := string(AppendQuoted(nil, "a\x1fé\"\\<")); got != `"a\u001fé\"\\<"` {
		t.Errorf("got %s", got)
	}
}
