package main

import (
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// printable returns a line in which a terminal finds nothing to obey: the escape \uXXXX, and two
// of them beyond U+FFFF, stand for what is not printable, such as control characters,
// line and paragraph separators, and marks that turn the direction of writing. What is not UTF-8
// becomes U+FFFD. In a line of JSON, all that can only be within strings, where the
// escapes mean the same.
func printable(line []byte) []byte {
	var out []byte // nil: as the line, so far
	for i := 0; i < len(line); {
		r, n := rune(line[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRune(line[i:])
		}
		if isPrintable(r) && !(r == utf8.RuneError && n == 1) {
			if out != nil {
				out = append(out, line[i:i+n]...)
			}
		} else {
			if out == nil {
				out = append(make([]byte, 0, len(line)+len(line)/4+16), line[:i]...)
			}
			if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
				out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
		}
		i += n
	}
	if out == nil {
		return line
	}
	return out
}

func isPrintable(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r < 0x7F
	}
	return unicode.IsPrint(r)
}
