package irohub

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// What this file does encoding/json cannot: find the members of an object in one
// pass that also checks the whole text, refuse repeated members and half
// surrogate pairs, and compare names exactly. It accepts what json.Valid accepts,
// up to maxDepth; FuzzEnvelope holds it to that. UTF-8 is checked elsewhere.

// An object walks over the members of the JSON object that text holds.
type object struct {
	text  []byte
	depth int // of the object itself, the outermost being 1
	at    int // where the next member begins
	state walkState

	name  []byte // decoded
	value []byte // as it stands in text
}

// An array walks over the elements of the JSON array that text holds.
type array struct {
	text  []byte
	only  []byte // where set, the walk is over this value alone
	at    int
	state walkState

	value []byte
}

type walkState uint8

const (
	walkStart walkState = iota
	walkOn
	walkEnd
	walkBroken
)

// open steps into text[at], which must be the bracket that begins it.
func open(text []byte, left, right byte) (at int, state walkState) {
	at = skipSpace(text, 0)
	if at == len(text) || text[at] != left {
		return at, walkBroken
	}
	at = skipSpace(text, at+1)
	if at < len(text) && text[at] == right {
		return at + 1, walkEnd
	}
	return at, walkOn
}

// step goes over what follows a value: a comma, or the bracket that ends the text.
func step(text []byte, at int, right byte) (next int, state walkState) {
	at = skipSpace(text, at)
	switch {
	case at == len(text):
		return at, walkBroken
	case text[at] == ',':
		return skipSpace(text, at+1), walkOn
	case text[at] == right:
		return at + 1, walkEnd
	}
	return at, walkBroken
}

// next goes to the next member and reports whether there is one.
func (o *object) next() bool {
	if o.state == walkStart {
		o.at, o.state = open(o.text, '{', '}')
	}
	if o.state != walkOn {
		return false
	}
	o.state = walkBroken // until the member has proven sound
	at := o.at
	if at == len(o.text) || o.text[at] != '"' {
		return false
	}
	end, ok := skipString(o.text, at+1)
	if !ok {
		return false
	}
	// A name with half a surrogate pair is none of ours, but it is JSON.
	o.name, _ = unquote(o.text[at:end])
	at = skipSpace(o.text, end)
	if at == len(o.text) || o.text[at] != ':' {
		return false
	}
	at = skipSpace(o.text, at+1)
	end, ok = skipValue(o.text, at, o.depth)
	if !ok {
		return false
	}
	o.value = o.text[at:end:end]
	var state walkState
	if o.at, state = step(o.text, end, '}'); state == walkBroken {
		return false
	}
	o.state = state
	return true
}

// complete reports whether text was one whole object and nothing else.
func (o *object) complete() bool {
	return o.state == walkEnd && skipSpace(o.text, o.at) == len(o.text)
}

// next goes to the next element and reports whether there is one.
func (a *array) next() bool {
	if a.only != nil {
		a.value, a.only, a.state = a.only, nil, walkEnd
		return true
	}
	if a.state == walkStart {
		a.at, a.state = open(a.text, '[', ']')
	}
	if a.state != walkOn {
		return false
	}
	a.state = walkBroken
	end, ok := skipValue(a.text, a.at, 0)
	if !ok {
		return false
	}
	a.value = a.text[a.at:end:end]
	var state walkState
	if a.at, state = step(a.text, end, ']'); state == walkBroken {
		return false
	}
	a.state = state
	return true
}

// complete reports whether text was one whole array and nothing else.
func (a *array) complete() bool {
	return a.state == walkEnd && skipSpace(a.text, a.at) == len(a.text)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns where the value that begins at b[i] ends. depth counts the
// objects and arrays around it. A loop rather than recursion: what it nests is a
// peer's choice, and a bit a level is all it has to remember.
func skipValue(b []byte, i, depth int) (end int, ok bool) {
	var objects [2]uint64 // of the levels opened here: 1 an object, 0 an array
	level := 0
value:
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; c {
	case '"':
		if i, ok = skipString(b, i+1); !ok {
			return i, false
		}
	case '{', '[':
		if depth+level == maxDepth {
			return i, false
		}
		if c == '{' {
			objects[level>>6] |= 1 << (level & 63)
		} else {
			objects[level>>6] &^= 1 << (level & 63)
		}
		level++
		i = skipSpace(b, i+1)
		if i < len(b) && b[i] == c+2 { // '}' and ']' stand two behind '{' and '['
			level--
			i++
			break
		}
		if c == '{' {
			goto name
		}
		goto value
	case 't':
		if i, ok = skipWord(b, i, "true"); !ok {
			return i, false
		}
	case 'f':
		if i, ok = skipWord(b, i, "false"); !ok {
			return i, false
		}
	case 'n':
		if i, ok = skipWord(b, i, "null"); !ok {
			return i, false
		}
	default:
		if i, ok = skipNumber(b, i); !ok {
			return i, false
		}
	}
after:
	if level == 0 {
		return i, true
	}
	i = skipSpace(b, i)
	if i == len(b) {
		return i, false
	}
	if objects[(level-1)>>6]>>((level-1)&63)&1 == 0 {
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
			goto value
		case ']':
			level--
			i++
			goto after
		}
		return i, false
	}
	switch b[i] {
	case ',':
		i = skipSpace(b, i+1)
		goto name
	case '}':
		level--
		i++
		goto after
	}
	return i, false
name:
	if i == len(b) || b[i] != '"' {
		return i, false
	}
	if i, ok = skipString(b, i+1); !ok {
		return i, false
	}
	i = skipSpace(b, i)
	if i == len(b) || b[i] != ':' {
		return i, false
	}
	i = skipSpace(b, i+1)
	goto value
}

func skipWord(b []byte, i int, word string) (int, bool) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, false
	}
	return i + len(word), true
}

func skipNumber(b []byte, i int) (int, bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	first := i
	if i = skipDigits(b, i); i == first || b[first] == '0' && i > first+1 {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		first = i + 1
		if i = skipDigits(b, first); i == first {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		first = i
		if i = skipDigits(b, first); i == first {
			return i, false
		}
	}
	return i, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

// skipString returns what follows the string whose first byte, behind the quote,
// is b[i].
func skipString(b []byte, i int) (end int, ok bool) {
	for {
		i += plainPrefix(b[i:])
		if i == len(b) {
			return i, false
		}
		switch b[i] {
		case '"':
			return i + 1, true
		case '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				return i, false
			}
			i += n
		default:
			return i, false
		}
	}
}

// plainPrefix counts the bytes before the first quote, backslash or control
// character; eight at a time, by the classic tests for a zero byte and for a byte
// below a bound in a word.
func plainPrefix(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote := w ^ ones*'"'
		slash := w ^ ones*'\\'
		hit := ((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)
		if hit &= tops; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// escapeLen is the length of the escape at b's start; 0: there is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if hex4(b) >= 0 {
			return 6
		}
	}
	return 0
}

// hex4 reads the escape \uXXXX at b's start; -1: there is none.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// unquote decodes a string that skipString has passed, its quotes included. ok is
// false where an escape stands for half a surrogate pair.
func unquote(quoted []byte) (s []byte, ok bool) {
	s = quoted[1 : len(quoted)-1 : len(quoted)-1]
	if bytes.IndexByte(s, '\\') < 0 {
		return s, true
	}
	ok = true
	var out []byte
	for len(s) > 0 {
		n := bytes.IndexByte(s, '\\')
		if n < 0 {
			n = len(s)
		}
		out = append(out, s[:n]...)
		if s = s[n:]; len(s) == 0 {
			break
		}
		switch c := s[1]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(s)
			if utf16.IsSurrogate(r) {
				if r = utf16.DecodeRune(r, hex4(s[6:])); r == utf8.RuneError {
					ok = false
				} else {
					s = s[6:]
				}
			}
			out = utf8.AppendRune(out, r)
			s = s[4:]
		default:
			out = append(out, c)
		}
		s = s[2:]
	}
	return out, ok
}
