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

// A line is a line of standard input: an event, or the error that it has.
type line struct {
	number int
	event  irohub.Event
	err    error // an inputError, or the error of reading
}

// wrap makes an inputError, with the line's number, of an event that the library does not allow.
// It returns other errors unchanged.
func (l *line) wrap(err error) error {
	if errors.Is(err, irohub.ErrInvalid) {
		return inputError{fmt.Errorf("line %d: %w", l.number, err)}
	}
	return err
}

// lineSlack is how many bytes a line may have more than a frame. A line may have spaces and
// escapes that the frame does not need.
const lineSlack = 64 << 10

// readEvents iterates over the lines that are not empty. It yields a bad line, of whatever
// length, with its error, and goes on with the next one.
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

// readLine appends the next line to text. If the line is too long, readLine reads it to its end,
// keeps nothing of it and returns errTooLong. At the end of the input it returns the rest and
// io.EOF.
func readLine(in *bufio.Reader, text []byte, limit int) ([]byte, error) {
	var tooLong bool
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(text)+len(part) > limit; !tooLong {
			text = append(text, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
		case tooLong && (err == nil || err == io.EOF): // at the end of the input, the next call returns io.EOF
			return text[:0], errTooLong
		default:
			return text, err
		}
	}
}

// parseEvent parses an event as the protocol does, with one exception: an unknown member, which
// the protocol ignores, is an error, because the user has probably misspelt a name. The member
// from is ignored, so that the output of sub can be published again.
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
	// The event is read token by token. Decoding into a struct would ignore the case of names,
	// and accept repeated ones. The syntax has been checked above.
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

// parseString parses a string as the protocol does: an unpaired surrogate is an error.
// encoding/json would read it as U+FFFD.
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
				return "", fmt.Errorf("has an unpaired surrogate: %s", value[i:i+6])
			}
			i += 6
		}
		i++ // skip the escaped character, which may be a backslash
	}
	return s, json.Unmarshal(value, &s)
}

// escaped returns the character of an escape \uXXXX at the beginning of text, which is part of
// valid JSON. It returns -1 if there is no such escape.
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
