// Package jsonscan reads JSON where encoding/json cannot: it finds the members of an object in
// one pass that also checks the whole text and its UTF-8, refuses half surrogate pairs, keeps
// repeated members, and compares names exactly. It accepts what json.Valid and utf8.Valid
// accept, up to MaxDepth; its fuzz tests hold it to that.
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

// Valid says whether text is one JSON value in UTF-8, inside so many objects and arrays.
func Valid(text []byte, depth int) bool {
	end, ok := SkipValue(text, SkipSpace(text, 0), depth)
	return ok && SkipSpace(text, end) == len(text)
}

// An Object walks over the members of the JSON object that Text holds.
type Object struct {
	Text  []byte
	Depth int // of the object itself, the outermost being 1

	Name  []byte // of the member that Next went to, decoded
	Value []byte // as it stands in Text

	at    int // where the next member begins
	state walkState
}

// An Array walks over the elements of the JSON array that Text holds.
type Array struct {
	Text []byte
	Only []byte // where set, the walk is over this value alone

	Value []byte // of the element that Next went to

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

// open steps into text[at], which must be the bracket that begins it.
func open(text []byte, left, right byte) (at int, state walkState) {
	at = SkipSpace(text, 0)
	if !IsAt(text, at, left) {
		return at, walkBroken
	}
	at = SkipSpace(text, at+1)
	if IsAt(text, at, right) {
		return at + 1, walkEnd
	}
	return at, walkOn
}

// step goes over what follows a value: a comma, or the bracket that ends the text.
func step(text []byte, at int, right byte) (next int, state walkState) {
	at = SkipSpace(text, at)
	switch {
	case IsAt(text, at, ','):
		return SkipSpace(text, at+1), walkOn
	case IsAt(text, at, right):
		return at + 1, walkEnd
	}
	return at, walkBroken
}

// Next goes to the next member and reports whether there is one.
func (o *Object) Next() bool {
	if o.state == walkStart {
		o.at, o.state = open(o.Text, '{', '}')
	}
	if o.state != walkOn {
		return false
	}
	at := o.at // a member that is broken ends the walk here for ever
	if !IsAt(o.Text, at, '"') {
		return false
	}
	end, ok := skipString(o.Text, at+1)
	if !ok {
		return false
	}
	// A name with half a surrogate pair is none of ours, but it is JSON.
	o.Name, _ = Unquote(o.Text[at:end])
	at = SkipSpace(o.Text, end)
	if !IsAt(o.Text, at, ':') {
		return false
	}
	at = SkipSpace(o.Text, at+1)
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
	return o.state == walkEnd && SkipSpace(o.Text, o.at) == len(o.Text)
}

// Next goes to the next element and reports whether there is one.
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
	return a.state == walkEnd && SkipSpace(a.Text, a.at) == len(a.Text)
}

// IsAt reports whether b[i] is c. Compared as unsigned numbers, one check does for
// both ends of b, and the compiler adds none of its own.
func IsAt(b []byte, i int, c byte) bool { return uint(i) < uint(len(b)) && b[i] == c }

// SkipSpace returns where, from b[i] on, the first byte is that is not space.
func SkipSpace(b []byte, i int) int {
	const spaces uint64 = 1<<' ' | 1<<'\n' | 1<<'\t' | 1<<'\r'
	for uint(i) < uint(len(b)) && b[i] <= ' ' && spaces>>b[i]&1 != 0 {
		i++
	}
	return i
}

// SkipValue returns where the value that begins at b[i] ends. depth counts the
// objects and arrays around it. A loop rather than recursion: what it nests is a
// peer's choice, and a bit a level is all it has to remember.
func SkipValue(b []byte, i, depth int) (end int, ok bool) {
	level := 0            // objects and arrays that are open
	var last, rest uint64 // a bit for each, the innermost lowest in last: 1 an object, 0 an array
value:
	for {
		if last&1 != 0 {
			if !IsAt(b, i, '"') {
				return i, false
			}
			if i, ok = skipString(b, i+1); !ok {
				return i, false
			}
			i = SkipSpace(b, i)
			if !IsAt(b, i, ':') {
				return i, false
			}
			i = SkipSpace(b, i+1)
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
			last = last<<1 | uint64(c>>5&1) // the bit that '{' and '[' differ in
			i = SkipSpace(b, i+1)
			if !IsAt(b, i, c+2) { // '}' and ']' stand two behind '{' and '['
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
			i = SkipSpace(b, i)
			if uint(i) >= uint(len(b)) {
				return i, false
			}
			switch b[i] {
			case ',':
				i = SkipSpace(b, i+1)
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
	if uint(i) >= uint(len(b)) || b[i] < '.' { // most often a comma
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

// skipString returns what follows the string whose first byte, behind the quote,
// is b[i].
func skipString(b []byte, i int) (end int, ok bool) {
	if i >= 0 && i <= len(b)-8 { // i >= 0 for the compiler, which then checks no bounds
		hit := marks(binary.LittleEndian.Uint64(b[i:])) & tops
		if hit != 0 {
			if end := i + bits.TrailingZeros64(hit)/8; IsAt(b, end, '"') { // a short one, as most are
				return end + 1, true
			}
		}
	}
	return skipLong(b, i)
}

// skipLong is skipString without its short way.
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

// SkipPlain returns where, from b[i] on, the first byte is that is not plain ASCII: a
// quote, a backslash, a control character, or one beyond ASCII. Most strings have but the
// quote that ends them, and are looked at once, eight bytes at a time.
func SkipPlain(b []byte, i int) int {
	for ; i >= 0 && i <= len(b)-8; i += 8 { // i >= 0 for the compiler, which then checks no bounds
		if hit := marks(binary.LittleEndian.Uint64(b[i:])) & tops; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for uint(i) < uint(len(b)) && b[i] >= ' ' && b[i] < utf8.RuneSelf && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// skipWide returns what follows the string of which b[i] begins a character. It
// checks the UTF-8 from there on.
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
	ones = 0x0101010101010101 // a word's eight bytes are 1 each
	tops = ones << 7
)

// marks finds the quotes, backslashes, control characters and bytes beyond ASCII
// among eight bytes: of the bits in tops, the lowest that is set in the result is
// that of the first such byte. By the classic test, taking n from a byte sets its top
// bit if it is less than n. It also leaves most bytes beyond ASCII theirs, and no byte
// loses it in both; and it sets that of a byte from which a lower one has borrowed,
// which is why only the lowest counts. Turning over the bit that a quote and a
// space differ in puts the quote right behind the control characters, and one
// subtraction finds both.
func marks(w uint64) uint64 {
	quote := (w ^ ones*('"'^' ')) - ones*(' '+1)
	slash := (w ^ ones*'\\') - ones
	return quote | slash
}

// plainPrefix counts the bytes before the first quote, backslash or control
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

// escapeLen is the length of the escape at b's start; 0: there is none.
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

// hex4 reads the escape \uXXXX at b's start, in a string that skipString has passed; -1: there
// is none.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		if c > '9' {
			c += 9 // a letter, whose last four bits count from one
		}
		r = r<<4 | rune(c&15)
	}
	return r
}

// Unquote decodes a string that skipString has passed, its quotes included. ok is
// false where an escape stands for half a surrogate pair.
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

// AppendQuoted appends s as a JSON string. s is valid UTF-8.
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
