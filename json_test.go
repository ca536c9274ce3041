package irohub

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// jsonValues are texts that a payload may or may not be. What json.Valid and
// utf8.Valid say of each is what the codec must say.
var jsonValues = []string{
	``, ` `, `null`, `true`, `false`, `nul`, `nulll`, `True`, `t`, `f`, `n`, `falsе`,
	`0`, `-0`, `-`, `+1`, `01`, `-01`, `00`, `1.`, `.5`, `1.5`, `1.50e`, `1e5`, `1E+5`, `1e-05`, `1e+`, `1e`, `0e0`, `0.0`, `1.e1`,
	`0x10`, `1_000`, `NaN`, `Infinity`, `--1`, `1-`, `1 2`, `12345678901234567890.12345678901234567890e-1234`,
	`""`, `"`, `"a`, `"a"b`, `'a'`, `"a" "b"`, `"\`, `"\"`, `"\\"`, `"\/"`, `"\b\f\n\r\t"`, `"\a"`, `"\v"`, `"\0"`, `"\'"`, `"\x41"`,
	`"\u"`, `"\u1"`, `"\u12"`, `"\u123"`, `"\u1234"`, `"\u123g"`, `"\uABCD"`, `"\uabcd"`, `"\U0041"`, `"\u 123"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`,
	"\"\x00\"", "\"\x1f\"", "\"\n\"", "\"\t\"", "\"\x7f\"", "\"\u0085\"", "\"\u2028\"", "\u00a0null", "\ufeffnull", "\vnull", "\fnull", "null\x00", "\x00",
	"\"12345678901234567\x01\"", "\"123456\x1f\"", "\"1234567\x1f\"", "\"12345678\x1f\"",
	`[]`, `[ ]`, `[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[,]`, `[1 2]`, `[1,2]`, `[[]`, `[]]`, `[}`, `[1}`, `[[1},2]`,
	`{}`, `{ }`, `{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,"a":1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{"a"::1}`, `{a:1}`, `{1:1}`, `{null:1}`,
	`{"a":1,"b":[{"c":{}}]}`, `{"a":{"b":1]}`, `{"a":[1}}`, `{]`, `{"a":1]`, `{"a":[]}`, `[{}]`, `[{"a":[]},[]]`, `[{"a":1},2]`, `[{"a":1},"b":2]`, `{"a":[1],2}`,
	" \t\r\n{ \"a\" \t:\r\n[ 1 , 2 ] , \"b\" : { } } \n", `/**/1`, `1//`, `"a",`, `,`, `:`, `{"\ud800":1}`, `{"a":1,"a":2}`,
	`"é"`, `"😀"`, "\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\xff", "[\"a\",\"\x80\"]", "{\"\x80\":1}", "\"\xc3\\n\xa9\"", "\"aaaaaaa\xe2\x82\"", "\"\xe2\x82\xac\"", "\"\\n\xe2\x82\"",
}

// TestJSON_AcceptsWhatEncodingJSONDoes looks at every text by itself, behind other
// bytes, so that each falls on every place of a word of eight, and cut off.
func TestJSON_AcceptsWhatEncodingJSONDoes(t *testing.T) {
	check := func(text string) {
		t.Helper()
		want := utf8.ValidString(text) && json.Valid([]byte(text))
		if got := validPayload([]byte(text)); got != want {
			t.Errorf("validPayload(%q) is %v, want %v", text, got, want)
		}
	}
	for _, text := range jsonValues {
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

// Every byte in a string, at every place of a word, alone and behind what else makes
// the check stop: whether a string goes on is decided for eight bytes at a time.
func TestJSON_EveryByteInAString(t *testing.T) {
	for c := range 256 {
		for n := range 17 {
			for _, after := range []string{"", "abcdefgh", `\n`, "é", "\x01", "!"} {
				text := `"` + strings.Repeat("#", n) + string([]byte{byte(c)}) + after + `" `
				want := utf8.ValidString(text) && json.Valid([]byte(text))
				if got := validPayload([]byte(text)); got != want {
					t.Fatalf("validPayload(%q) is %v, want %v", text, got, want)
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

// nest is a value of so many levels, each an object where shape has an 'o' in turn,
// else an array.
func nest(levels int, shape string) string {
	var left, right []byte
	for i := range levels {
		if shape[i%len(shape)] == 'o' {
			left, right = append(left, `{"k":`...), append(right, '}')
		} else {
			left, right = append(left, '['), append(right, ']')
		}
	}
	for i, j := 0, len(right)-1; i < j; i, j = i+1, j-1 {
		right[i], right[j] = right[j], right[i]
	}
	return string(left) + "1" + string(right)
}

func TestJSON_Depth(t *testing.T) {
	for _, shape := range []string{"a", "o", "ao", "oa", "aoo", "ooaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaao"} {
		for levels := 1; levels <= maxDepth+2; levels++ {
			text := nest(levels, shape)
			if got, want := validPayload([]byte(text)), levels <= maxDepth-1; got != want {
				t.Errorf("shape %q: %d levels: %v, want %v", shape, levels, got, want)
			}
		}
		// Each bracket must be the one that its level began with.
		text := nest(maxDepth-1, shape)
		for i := strings.IndexByte(text, '1') + 1; i < len(text); i++ {
			wrong := []byte(text)
			wrong[i] ^= ']' ^ '}'
			if validPayload(wrong) {
				t.Errorf("shape %q: the bracket at %d may be the wrong one", shape, i)
			}
		}
		// What has been closed does not count.
		wide := "[" + strings.Repeat(nest(maxDepth-2, shape)+",", 3) + nest(maxDepth-2, shape) + "]"
		if !validPayload([]byte(wide)) {
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
		got, ok := unquote([]byte(tc.quoted))
		if string(got) != tc.want || ok != tc.ok {
			t.Errorf("unquote(%s) is %q, %v, want %q, %v", tc.quoted, got, ok, tc.want, tc.ok)
		}
		var std string
		if err := json.Unmarshal([]byte(tc.quoted), &std); err != nil || std != tc.want {
			t.Errorf("encoding/json decodes %s to %q, %v; the test wants %q", tc.quoted, std, err, tc.want)
		}
	}
}

func TestAppendQuoted(t *testing.T) {
	for _, s := range []string{"", "plain", `"`, `\`, "a\"b\\c", "\x00\x01\x1f", "\n\t", "\x7f", "é😀", "<&>", "1234567\"", "12345678\"9", strings.Repeat(`\"`, 20)} {
		quoted := appendQuoted([]byte("before"), s)
		var back string
		if err := json.Unmarshal(quoted[len("before"):], &back); err != nil || back != s {
			t.Errorf("appendQuoted(%q) is %s, which is %q, %v", s, quoted, back, err)
		}
	}
	if got := string(appendQuoted(nil, "a\x1fé\"\\<")); got != `"a\u001fé\"\\<"` {
		t.Errorf("got %s", got)
	}
}
