package main

import (
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// printable returns a line that cannot control a terminal. It replaces each unprintable character
// by \uXXXX, or by two of these escapes if it is above U+FFFF. Unprintable are control characters,
// line and paragraph separators, marks that change the direction of writing, and others. It
// replaces bytes that are not UTF-8 by the escape of U+FFFD. In a line of JSON, all these can only
// be inside strings, where the escapes have the same meaning.
func printable(line []byte) []byte {
	var out []byte // nil while nothing has changed
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
