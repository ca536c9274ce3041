package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"irohub"
)

// A line of standard input is an event, or what is wrong with it.
type line struct {
	number int
	event  irohub.Event
	err    error // an inputError, or one of reading
}

// wrap says which line an error is about. What the library does not allow is as bad
// as JSON that it cannot read.
func (l *line) wrap(err error) error {
	if errors.Is(err, irohub.ErrInvalid) {
		return inputError{fmt.Errorf("line %d: %w", l.number, err)}
	}
	return err
}

// lineSlack is what a line may have beyond the largest frame: spaces, and escapes
// that the frame does without.
const lineSlack = 64 << 10

// readEvents iterates over the lines, empty ones left out. A bad line is not the
// end: it is skipped, whatever its length, if the loop goes on.
func readEvents(r io.Reader, maxFrame int) iter.Seq[line] {
	return func(yield func(line) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		var text []byte
		for l := (line{number: 1}); ; l.number++ {
			var readErr, err error
			text, readErr = readLine(in, text[:0], maxFrame+lineSlack)
			l.event, err = irohub.Event{}, nil
			switch text = bytes.TrimSpace(text); {
			case readErr == errTooLong:
				err = readErr
			case len(text) > 0 && (readErr == nil || readErr == io.EOF):
				l.event, err = parseEvent(text)
			}
			if l.err = nil; err != nil {
				l.err = inputError{fmt.Errorf("line %d: %w", l.number, err)}
			}
			if (len(text) > 0 || l.err != nil) && !yield(l) {
				return
			}
			switch readErr {
			case nil, errTooLong:
			case io.EOF:
				return
			default:
				l.err = fmt.Errorf("reading standard input: %w", readErr)
				yield(l)
				return
			}
		}
	}
}

var errTooLong = errors.New("the line is longer than --max-frame allows")

// readLine appends the next line to text. Of one that is too long it reads, but does
// not keep, the rest. At the end of the input it returns what is there and io.EOF.
func readLine(in *bufio.Reader, text []byte, limit int) ([]byte, error) {
	var tooLong bool
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(text)+len(part) > limit; !tooLong {
			text = append(text, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
		case tooLong && (err == nil || err == io.EOF): // the next call finds the end again
			return text[:0], errTooLong
		default:
			return text, err
		}
	}
}

// parseEvent reads an event as the protocol does, but for members that it does not
// know: the protocol ignores them, while a user will have misspelt a name. A from
// is let pass, so that what sub prints can be published again.
func parseEvent(text []byte) (ev irohub.Event, err error) {
	if !utf8.Valid(text) {
		return ev, errors.New("not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return ev, fmt.Errorf("not JSON: %w", err)
	}
	if text[0] != '{' {
		return ev, errors.New("not a JSON object")
	}
	// Token by token, because a struct would take names in any case, and the last of
	// several alike. The syntax is known to be right.
	members := json.NewDecoder(bytes.NewReader(text))
	members.Token() // {
	seen := make(map[string]bool)
	for members.More() {
		token, err := members.Token()
		if err != nil {
			return ev, err
		}
		name, _ := token.(string)
		if seen[name] {
			return ev, fmt.Errorf("the member %q is repeated", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := members.Decode(&value); err != nil {
			return ev, err
		}
		switch name {
		case "type":
			ev.Type, err = parseString(value)
		case "id":
			ev.ID, err = parseString(value)
		case "payload":
			ev.Payload = value // as it stands
		case "from":
		default:
			return ev, fmt.Errorf("unknown member %q; an event has type, id and payload", name)
		}
		if err != nil {
			return ev, fmt.Errorf("the member %q %w", name, err)
		}
	}
	return ev, nil
}

// parseString reads a string as the protocol does: half a surrogate pair, which encoding/json
// reads as U+FFFD, is no character.
func parseString(value json.RawMessage) (s string, err error) {
	if value[0] != '"' {
		return "", errors.New("is not a string")
	}
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		if r := escaped(value[i:]); utf16.IsSurrogate(r) {
			if utf16.DecodeRune(r, escaped(value[i+6:])) == utf8.RuneError {
				return "", fmt.Errorf("has half a surrogate pair: %s", value[i:i+6])
			}
			i += 6
		}
		i++ // what is escaped is no backslash that escapes
	}
	return s, json.Unmarshal(value, &s)
}

// escaped is what an escape \uXXXX at the beginning of sound JSON stands for; -1: there is none.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	r, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(r)
}
