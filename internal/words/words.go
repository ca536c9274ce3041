// Package words makes text from a peer safe to keep, log and print. A hostile peer may choose
// text that misleads a terminal, a log or its reader.
package words

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Shown is how many bytes of a peer's text an error or a log line shows.
const Shown = 256

// Cut shortens s to at most n bytes, without splitting a character.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	end := n
	for end > 0 && n-end < utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	if !utf8.RuneStart(s[end]) { // not UTF-8
		end = n
	}
	return s[:end]
}

// Kept returns the part of a peer's text to keep: valid UTF-8 of at most n bytes.
func Kept(s string, n int) string {
	return Cut(strings.ToValidUTF8(Cut(s, n), "\uFFFD"), n)
}

// Printable returns the part of a peer's text to show: the first [Shown] bytes, on one line,
// with an ellipsis if there are more. It replaces unprintable characters by Go escapes: control
// characters, those that change the direction of writing, all spaces except U+0020, and bytes
// that are not UTF-8. Everything else is unchanged, even a backslash. So text that is printable
// and short does not change.
func Printable(s string) string {
	short := Cut(s, Shown)
	if len(short) < len(s) {
		short += "…"
	}
	return Escape(short)
}

// Escape is Printable without the size limit, for text that is already bounded.
func Escape(s string) string {
	i := 0
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if !printable(r, n) {
			break
		}
		i += n
	}
	if i == len(s) {
		return s
	}
	out := []byte(s[:i])
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if printable(r, n) {
			out = append(out, s[i:i+n]...)
		} else {
			quoted := strconv.Quote(s[i : i+n])
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		i += n
	}
	return string(out)
}

func printable(r rune, n int) bool {
	return strconv.IsPrint(r) && (r != utf8.RuneError || n > 1)
}
