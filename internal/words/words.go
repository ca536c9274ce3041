// Package words makes the words of a stranger fit to be kept, logged and printed: a peer
// chooses them, and may choose them so that a terminal, a log or its reader is misled.
package words

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Shown is how many bytes of a peer's words an error or a line of a log shows.
const Shown = 256

// Cut shortens s to n bytes at most, between characters.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	end := n
	for end > 0 && n-end < utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	if !utf8.RuneStart(s[end]) { // no UTF-8
		end = n
	}
	return s[:end]
}

// Kept is what is kept of a peer's words: n bytes of valid UTF-8 at most.
func Kept(s string, n int) string {
	return Cut(strings.ToValidUTF8(Cut(s, n), "\uFFFD"), n)
}

// Printable is what is shown of a peer's words: the first [Shown] bytes, on one line, with
// an ellipsis where there are more. What is not printable stands as an escape of Go's:
// control characters, those that turn the direction of writing, all spaces but the plain
// one, and bytes that are no UTF-8. All else stays as it is, a backslash too, so that what is
// printable already does not change.
func Printable(s string) string {
	short := Cut(s, Shown)
	if len(short) < len(s) {
		short += "…"
	}
	return Escape(short)
}

// Escape is Printable without the limit: for texts that are bounded already.
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
