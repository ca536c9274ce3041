// Package jsonscan parses JSON in ways that encoding/json does not offer. It finds the members
// of an object in the same pass that checks the whole text and its UTF-8. It reports repeated
// members, compares names exactly and detects unpaired surrogates. It accepts the texts that
// both json.Valid and utf8.Valid accept, up to MaxDepth. Its fuzz tests check that.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how many objects and arrays may be nested.
const MaxDepth = 128

// Valid reports whether text is one JSON value in UTF-8. depth is the number of objects and
// arrays around it.
func Valid(text []byte, depth int) bool {
	end, ok := SkipValue(text, skipSpace(text, 0), depth)
	return ok && skipSpace(text, end) == len(text)
}

// An Object iterates over the members of the JSON object in Text.
type Object struct {
	Text  []byte
	Depth int // of the object itself; the outermost has 1

	Name  []byte // the current member's name, decoded
	Value []byte // the current member's value, raw

	at    int // index of the next member in Text
	state walkState
}

// An Array iterates over the elements of the JSON array in Text.
type Array struct {
	Text []byte
	Only []byte // if set, the only element; Text is then ignored

	Value []byte // the current element, raw

	at    int
	state walkState
}

type walkState uint8

const (
	walkStart walkState = iota
	walkOn
	walkEnd
	walkBroken
)

// open skips the bracket left, with which text must begin. It returns the index of the first
// element.
func open(text []byte, left, right byte) (at int, state walkState) {
	at = skipSpace(text, 0)
	if !IsAt(text, at, left) {
		return at, walkBroken
	}
	at = skipSpace(text, at+1)
	if IsAt(text, at, right) {
		return at + 1, walkEnd
	}
	return at, walkOn
}

// step skips the comma after a value or the bracket that ends the text.
func step(text []byte, at int, right byte) (next int, state walkState) {
	at = skipSpace(text, at)
	switch {
	case IsAt(text, at, ','):
		return skipSpace(text, at+1), walkOn
	case IsAt(text, at, right):
		return at + 1, walkEnd
	}
	return at, walkBroken
}

// Next advances to the next member and reports whether there is one.
func (o *Object) Next() bool {
	if o.state == walkStart {
		o.at, o.state = open(o.Text, '{', '}')
	}
	if o.state != walkOn {
		return false
	}
	at := o.at // at an invalid member, o.at and o.state stay, so every further Next fails
	if !IsAt(o.Text, at, '"') {
		return false
	}
	end, ok := skipString(o.Text, at+1)
	if !ok {
		return false
	}
	// A name with an unpaired surrogate is JSON too. It never equals a name of the protocol.
	o.Name, _ = Unquote(o.Text[at:end])
	at = skipSpace(o.Text, end)
	if !IsAt(o.Text, at, ':') {
		return false
	}
	at = skipSpace(o.Text, at+1)
	end, ok = SkipValue(o.Text, at, o.Depth)
	if !ok {
		return false
	}
	o.Value = o.Text[at:end:end]
	o.at, o.state = step(o.Text, end, '}')
	return o.state != walkBroken
}

// Complete reports whether Text was one whole object and nothing else.
func (o *Object) Complete() bool {
	return o.state == walkEnd && skipSpace(o.Text, o.at) == len(o.Text)
}

// Next advances to the next element and reports whether there is one.
func (a *Array) Next() bool {
	if a.Only != nil {
		a.Value, a.Only, a.state = a.Only, nil, walkEnd
		return true
	}
	if a.state == walkStart {
		a.at, a.state = open(a.Text, '[', ']')
	}
	if a.state != walkOn {
		return false
	}
	end, ok := SkipValue(a.Text, a.at, 0)
	if !ok {
		return false
	}
	a.Value = a.Text[a.at:end:end]
	a.at, a.state = step(a.Text, end, ']')
	return a.state != walkBroken
}

// Complete reports whether Text was one whole array and nothing else.
func (a *Array) Complete() bool {
	return a.state == walkEnd && skipSpace(a.Text, a.at) == len(a.Text)
}

// IsAt reports whether i is an index of b and b[i] is c. The unsigned comparison checks both
// bounds at once, and the compiler adds no bounds check.
func IsAt(b []byte, i int, c byte) bool { return uint(i) < uint(len(b)) && b[i] == c }

// skipSpace returns the index of the first byte from b[i] on that is not white space.
func skipSpace(b []byte, i int) int {
	const spaces uint64 = 1<<' ' | 1<<'\n' | 1<<'\t' | 1<<'\r'
	for uint(i) < uint(len(b)) && b[i] <= ' ' && spaces>>b[i]&1 != 0 {
		i++
	}
	return i
}

// SkipValue returns the index after the value that begins at b[i]. depth counts the objects
// and arrays around it. It loops instead of recursing, because the peer chooses the nesting.
// One bit per level is all the state it needs.
func SkipValue(b []byte, i, depth int) (end int, ok bool) {
	level := 0 // open objects and arrays
	// One bit for each level: 1 is an object, 0 an array. The innermost is the lowest bit of
	// last; rest has the bits that are shifted out of last.
	var last, rest uint64
value:
	for {
		if last&1 != 0 {
			if !IsAt(b, i, '"') {
				return i, false
			}
			if i, ok = skipString(b, i+1); !ok {
				return i, false
			}
			i = skipSpace(b, i)
			if !IsAt(b, i, ':') {
				return i, false
			}
			i = skipSpace(b, i+1)
		}
		if uint(i) >= uint(len(b)) {
			return i, false
		}
		switch c := b[i]; c {
		case '"':
			i, ok = skipString(b, i+1)
		case '{', '[':
			if ok = depth+level < MaxDepth; !ok {
				break
			}
			level++
			rest = rest<<1 | last>>63
			last = last<<1 | uint64(c>>5&1) // '{' and '[' differ in this bit
			i = skipSpace(b, i+1)
			if !IsAt(b, i, c+2) { // '}' is '{'+2, and ']' is '['+2
				continue value
			}
		case 't':
			i, ok = skipWord(b, i, "true")
		case 'f':
			i, ok = skipWord(b, i, "false")
		case 'n':
			i, ok = skipWord(b, i, "null")
		default:
			i, ok = skipNumber(b, i)
		}
		if !ok {
			return i, false
		}
		for level > 0 {
			i = skipSpace(b, i)
			if uint(i) >= uint(len(b)) {
				return i, false
			}
			switch b[i] {
			case ',':
				i = skipSpace(b, i+1)
				continue value
			case ']' | byte(last&1)<<5: // or '}' in an object
				i++
				level--
				last = last>>1 | rest<<63
				rest >>= 1
			default:
				return i, false
			}
		}
		return i, true
	}
}

func skipWord(b []byte, i int, word string) (int, bool) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, false
	}
	return i + len(word), true
}

func skipNumber(b []byte, i int) (int, bool) {
	if IsAt(b, i, '-') {
		i++
	}
	first := i
	if i = skipDigits(b, i); i == first || b[first] == '0' && i > first+1 {
		return i, false
	}
	if uint(i) >= uint(len(b)) || b[i] < '.' { // usually a comma
		return i, true
	}
	if b[i] == '.' {
		first = i + 1
		if i = skipDigits(b, first); i == first {
			return i, false
		}
	}
	if IsAt(b, i, 'e') || IsAt(b, i, 'E') {
		i++
		if IsAt(b, i, '+') || IsAt(b, i, '-') {
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
	for uint(i) < uint(len(b)) && b[i]-'0' < 10 {
		i++
	}
	return i
}

// skipString returns the index after the string whose first byte after the opening quote is
// b[i].
func skipString(b []byte, i int) (end int, ok bool) {
	if i >= 0 && i <= len(b)-8 { // i >= 0 lets the compiler omit bounds checks
		hit := marks(binary.LittleEndian.Uint64(b[i:])) & tops
		if hit != 0 {
			if end := i + bits.TrailingZeros64(hit)/8; IsAt(b, end, '"') { // most strings are short
				return end + 1, true
			}
		}
	}
	return skipLong(b, i)
}

// skipLong is skipString without the fast path.
func skipLong(b []byte, i int) (end int, ok bool) {
	for {
		if i = SkipPlain(b, i); IsAt(b, i, '"') {
			return i + 1, true
		}
		if !IsAt(b, i, '\\') {
			return skipWide(b, i)
		}
		n := escapeLen(b[i:])
		if n == 0 {
			return i, false
		}
		i += n
	}
}

// SkipPlain returns the index of the first byte from b[i] on that is not plain ASCII: a
// quote, a backslash, a control character, or a byte beyond ASCII. In most strings, that is
// the closing quote. It checks eight bytes at a time.
func SkipPlain(b []byte, i int) int {
	for ; i >= 0 && i <= len(b)-8; i += 8 { // i >= 0 lets the compiler omit bounds checks
		if hit := marks(binary.LittleEndian.Uint64(b[i:])) & tops; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for uint(i) < uint(len(b)) && b[i] >= ' ' && b[i] < utf8.RuneSelf && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// skipWide returns the index after the string that b[i] is in. b[i] begins a character.
// skipWide checks the UTF-8 from there on.
func skipWide(b []byte, i int) (end int, ok bool) {
	first := i
	for {
		i += plainPrefix(b[i:])
		if i == len(b) {
			return i, false
		}
		switch b[i] {
		case '"':
			return i + 1, utf8.Valid(b[first:i])
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

const (
	ones = 0x0101010101010101 // each of the eight bytes is 1
	tops = ones << 7          // the top bit of each byte
)

// marks finds the first quote, backslash, control character or byte beyond ASCII in eight
// bytes. It is marked by the lowest top bit (see tops) that is set in the result.
//
// Subtracting n from a byte sets its top bit if the byte is less than n. The top bit of a byte
// beyond ASCII stays set in at least one of the two subtractions. A borrow may set the top bit
// of the next higher byte, so only the lowest set bit is valid. Flipping the bit in which a
// quote and a space differ turns the quote into the number after the control characters, so
// that one subtraction finds both.
func marks(w uint64) uint64 {
	quote := (w ^ ones*('"'^' ')) - ones*(' '+1)
	slash := (w ^ ones*'\\') - ones
	return quote | slash
}

// plainPrefix returns how many bytes come before the first quote, backslash or control
// character.
func plainPrefix(b []byte) int {
	i := 0
	for ; i <= len(b)-8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if hit := marks(w) &^ w & tops; hit != 0 {
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

// escapeLen returns the length of the escape at the start of b, or 0 if there is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && isHex(b[2]) && isHex(b[3]) && isHex(b[4]) && isHex(b[5]) {
			return 6
		}
	}
	return 0
}

func isHex(c byte) bool { return c-'0' < 10 || c|0x20-'a' < 6 }

// hex4 decodes the escape \uXXXX at the start of b, in a string that skipString has accepted.
// It returns -1 if there is none.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		if c > '9' {
			c += 9 // the last four bits of a letter count from 1
		}
		r = r<<4 | rune(c&15)
	}
	return r
}

// Unquote decodes a JSON string with its quotes, as Next or SkipValue found it. ok is false
// if the string has an escape for an unpaired surrogate.
func Unquote(quoted []byte) (s []byte, ok bool) {
	s = quoted[1 : len(quoted)-1 : len(quoted)-1]
	if bytes.IndexByte(s, '\\') < 0 {
		return s, true
	}
	ok = true
	var out []byte
	for {
		n := bytes.IndexByte(s, '\\')
		if n < 0 {
			return append(out, s...), ok
		}
		out, s = append(out, s[:n]...), s[n:]
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
}

// AppendQuoted appends s as a JSON string. s must be valid UTF-8.
func AppendQuoted(buf []byte, s string) []byte {
	const digits = "0123456789abcdef"
	buf = append(buf, '"')
	first := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		buf = append(buf, s[first:i]...)
		first = i + 1
		if c >= ' ' {
			buf = append(buf, '\\', c)
		} else {
			buf = append(buf, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(buf, s[first:]...), '"')
}
