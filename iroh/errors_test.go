package iroh

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"irohub"
)

func TestParseClosed(t *testing.T) {
	for _, c := range []struct {
		words  string
		code   uint64
		reason string
	}{
		{"closed by peer: 0", 0, ""},
		{"closed by peer: 3", 3, ""},
		{"closed by peer: bye (code 3)", 3, "bye"},
		{"closed by peer: 5 (code 3)", 3, "5"},
		{"closed by peer: a (code 9) (code 3)", 3, "a (code 9)"},
		{"closed by peer:  (code 9) (code 4611686018427387903)", 1<<62 - 1, " (code 9)"},
		{"closed by peer: closed by peer: 7 (code 3)", 3, "closed by peer: 7"},
		{"closed by peer: two\nlines \"quoted\" (code 3)", 3, "two\nlines \"quoted\""},
	} {
		var ce *irohub.CloseError
		if err := parseClosed(c.words); !errors.As(err, &ce) || ce.Code != c.code || ce.Reason != c.reason {
			t.Errorf("%q: %#v, want code %d, reason %q", c.words, err, c.code, c.reason)
		}
	}
	for _, words := range []string{
		"timed out", "closed", "reset by peer", "", "closed by peer: ", "closed by peer: x", "closed by peer: x (code -1)",
		"closed by peer: x (code 3) ", "closed by peer: x (code 99999999999999999999)", "aborted by peer: closed by peer: 3",
	} {
		var ce *irohub.CloseError
		err := parseClosed(words)
		if errors.As(err, &ce) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("%q: %#v", words, err)
		}
		var ne net.Error
		if !errors.As(err, &ne) || ne.Timeout() != (words == "timed out") {
			t.Errorf("%q: %#v is a timeout", words, err)
		}
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("%q: several lines: %q", words, err)
		}
	}
}

func TestParseStream(t *testing.T) {
	for words, code := range map[string]uint64{
		"Reset(3)": 3, "Stopped(4611686018427387903)": 1<<62 - 1, "Stopped(0)": 0,
	} {
		if reset, lost := parseStream(words); lost || reset == nil || reset.Code != code {
			t.Errorf("%q: %v, %v", words, reset, lost)
		}
	}
	if reset, lost := parseStream(`ConnectionLost(ApplicationClosed(ApplicationClose { error_code: 1, reason: b"Reset(3)" }))`); !lost || reset != nil {
		t.Errorf("lost: %v, %v", reset, lost)
	}
	for _, words := range []string{"ClosedStream", "", "Reset", "Reset(x)", "Reset(-3)", "a Reset(3)"} {
		if reset, lost := parseStream(words); lost || reset != nil {
			t.Errorf("%q: %v, %v", words, reset, lost)
		}
	}
}

func TestConnectError(t *testing.T) {
	chain := func(words string) error {
		return &nativeError{2, "ConnectError::Connecting (/a/b.rs:1:2)\nCaused by:\n    ConnectingError::ConnectionError (/c.rs:3:4)\n    " + words}
	}
	for _, c := range []struct {
		err  error
		want error // nil: none of the kinds
	}{
		{chain("aborted by peer: the server refused to accept a new connection"), ErrRefused},
		{chain("aborted by peer: the cryptographic handshake failed: error 120: x"), ErrALPN},
		{chain("the cryptographic handshake failed: error 48: invalid peer certificate: UnknownIssuer"), ErrWrongPeer},
		{chain("timed out"), ErrUnreachable},
		{chain("something else"), nil},
		{chain("aborted by peer: x: \n    timed out"), nil},
		{chain("aborted by peer: x: aborted by peer: the server refused to accept"), nil},
		{context.DeadlineExceeded, ErrUnreachable},
		{context.DeadlineExceeded, context.DeadlineExceeded},
		{context.Canceled, context.Canceled},
	} {
		err := connectError("dial", c.err)
		if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.err, err, c.want)
		}
		for _, kind := range []error{ErrRefused, ErrALPN, ErrWrongPeer, ErrUnreachable, ErrAddr} {
			if errors.Is(err, kind) && kind != c.want && c.want != context.DeadlineExceeded {
				t.Errorf("%q: %v is %v too", c.err, err, kind)
			}
		}
		if !errors.Is(err, c.err) {
			t.Errorf("%q: the cause is not wrapped", c.err)
		}
		if text := err.Error(); strings.ContainsAny(text, "\n/:") && strings.Contains(text, ".rs") {
			t.Errorf("%q: the message shows sources: %q", c.err, text)
		}
	}
	var ce *irohub.CloseError
	err := connectError("dial", chain("closed by peer: no\n    Caused by: (code 9) (code 3)"))
	if !errors.As(err, &ce) || ce.Code != 3 {
		t.Errorf("closed: %#v", err)
	}
}

func TestBindError(t *testing.T) {
	err := bindError("127.0.0.1:80", &nativeError{1, "Failed to bind sockets\n\nCaused by:\n    Permission denied (os error 13)"})
	if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "127.0.0.1:80") {
		t.Errorf("%v", err)
	}
}
