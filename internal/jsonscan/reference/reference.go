// Package reference has what the tests of irohub's JSON scanner, and of what uses it, compare
// with: written for being plainly right, with encoding/json and no thought of speed.
package reference

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Values are texts that a payload may or may not be. What json.Valid and
// utf8.Valid say of each is what the codec must say.
var Values = []string{
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

// Nest is a value of so many levels, each an object where shape has an 'o' in turn,
// else an array.
func Nest(levels int, shape string) string {
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

// Members are an object's members as they stand in text; ok is false where text
// is not one JSON object in UTF-8, or nested deeper than depth.
func Members(text []byte, depth int) (members [][2]string, ok bool) {
	if !utf8.Valid(text) || !json.Valid(text) || Depth(text) > depth {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, false
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, false
		}
		members = append(members, [2]string{name.(string), string(value)})
	}
	return members, true
}

// Depth is how deep a JSON text is nested.
func Depth(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// String decodes a JSON string; whole is false where it has an unpaired surrogate.
func String(text string) (s string, isString, whole bool) {
	if json.Unmarshal([]byte(text), &s) != nil || text[0] != '"' {
		return "", false, false
	}
	var high bool // the escape before was a high surrogate
	for i := 1; i < len(text)-1; i++ {
		var unit uint64
		if text[i] == '\\' {
			i++
			if text[i] == 'u' {
				unit, _ = strconv.ParseUint(text[i+1:i+5], 16, 16)
				i += 4
			}
		}
		low := unit >= 0xDC00 && unit < 0xE000
		if low != high {
			return s, true, false
		}
		high = unit >= 0xD800 && unit < 0xDC00
	}
	return s, true, !high
}

// Kinds make payloads of about size bytes that try different parts of the
// check: runs of plain bytes, short tokens, bytes beyond ASCII, brackets, digits.
var Kinds = []struct {
	Name string
	Make func(size int) []byte
}{
	{"ascii", func(size int) []byte {
		return repeated(size, `"`, "the quick brown fox jumps over the lazy dog. ", "", `"`)
	}},
	{"object", func(size int) []byte {
		const member = `{"seq":18342,"user":"u-81f3","text":"see you at nine","ok":true,"price":12.75,"tags":["a","new"],"ref":null}`
		return repeated(size, `[`, member, ",", `]`)
	}},
	{"spaced", func(size int) []byte {
		const member = "\n  {\n    \"seq\": 18342,\n    \"user\": \"u-81f3\",\n    \"text\": \"see you at nine\",\n    \"ok\": true\n  }"
		return repeated(size, `[`, member, ",", "\n]")
	}},
	{"cyrillic", func(size int) []byte {
		return repeated(size, `"`, "съешь же ещё этих мягких булок ", "", `"`)
	}},
	{"cjk", func(size int) []byte { return repeated(size, `"`, "敏捷的棕色狐狸跳过了懒狗。", "", `"`) }},
	{"escapes", func(size int) []byte { return repeated(size, `"`, `line\n\"said\" \u00e9t\u00e9 `, "", `"`) }},
	{"nested", func(size int) []byte {
		const deep = 60
		return repeated(size, `[`, strings.Repeat(`{"a":[`, deep)+strings.Repeat(`]}`, deep), ",", `]`)
	}},
	{"numbers", func(size int) []byte { return repeated(size, `[`, `1048576,-3.25,0,6.02e23,17`, ",", `]`) }},
}

// repeated is at most size bytes, and at least one unit.
func repeated(size int, left, unit, between, right string) []byte {
	n := max(1, (size-len(left)-len(right)+len(between))/(len(unit)+len(between)))
	return []byte(left + strings.Repeat(unit+between, n-1) + unit + right)
}

// Sizes are those of payloads.
var Sizes = []struct {
	Name  string
	Bytes int
}{{"64", 64}, {"256", 256}, {"1k", 1 << 10}, {"64k", 64 << 10}}
