package iroh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"irohub"
	"irohub/internal/words"
)

// Errors that a caller may want to tell apart, with [errors.Is]. An error of a
// dial or a handshake wraps one of the last five where iroh says which it is;
// what iroh said, in its own words, is wrapped beside it.
var (
	// ErrNoLibrary: the native library was not found. The text lists the
	// places searched and the command that fetches it.
	ErrNoLibrary = errors.New("irohub/iroh: the native library was not found")
	// ErrWrongLibrary: what was found is not the library, or another version.
	ErrWrongLibrary = errors.New("irohub/iroh: not the native library that this package is made for")
	// ErrUnsupported: this program was built without cgo, or for a platform
	// that has no native library.
	ErrUnsupported = errors.New("irohub/iroh: not supported")

	// ErrAddr: an address to bind or to dial, or a ticket, has the wrong form.
	ErrAddr = errors.New("irohub/iroh: bad address")
	// ErrUnreachable: nobody answers at the address, or no address is known.
	ErrUnreachable = errors.New("irohub/iroh: unreachable")
	// ErrWrongPeer: another NodeID answers at the address.
	ErrWrongPeer = errors.New("irohub/iroh: another node answers")
	// ErrALPN: the two ends have no protocol in common.
	ErrALPN = errors.New("irohub/iroh: the peer speaks another protocol")
	// ErrRefused: the peer accepts no connection from us now.
	ErrRefused = errors.New("irohub/iroh: refused")
)

// A failure is an error of the library's: what we did, what we make of it, and
// the library's own words, which its message leaves out where we know better.
type failure struct {
	doing string
	kind  error // nil: unknown
	cause error
}

func (f *failure) Error() string {
	why := f.kind
	if why == nil || errors.Is(f.cause, why) { // the cause says as much, and more
		why = f.cause
	}
	text := why.Error()
	if native, ok := why.(*nativeError); ok {
		text = native.brief()
	}
	return "irohub/iroh: " + f.doing + ": " + strings.TrimPrefix(text, "irohub/iroh: ")
}

func (f *failure) Unwrap() []error {
	if f.kind == nil {
		return []error{f.cause}
	}
	return []error{f.kind, f.cause}
}

// A lostError says that a connection ended without a close code.
type lostError struct {
	why     string
	timeout bool
}

func (e *lostError) Error() string   { return "irohub/iroh: connection lost: " + e.why }
func (e *lostError) Unwrap() error   { return net.ErrClosed }
func (e *lostError) Timeout() bool   { return e.timeout } // with Temporary: a net.Error
func (e *lostError) Temporary() bool { return false }

// maxReason is how many bytes there are of a reason: the library would cut a longer one
// in the middle of a character, and a peer may send many more.
const maxReason = 1024

// A nativeError holds the library's own words: Rust names and source paths.
type nativeError struct {
	kind int32
	text string
}

func (e *nativeError) Error() string { return "iroh: " + words.Printable(e.text) }

// brief is the last of the causes in the text, which says most, without the
// place in a source file that may follow it.
func (e *nativeError) brief() string {
	s := e.text
	if _, cause, ok := strings.Cut(s, "\nCaused by:\n"); ok {
		if _, last, ok := strings.Cut(cause, "\n"); ok {
			cause = last
		}
		s = cause
	}
	s, _, _ = strings.Cut(s, " (/")
	return words.Printable(strings.TrimSpace(s))
}

// errEndpointClosed is what is returned once this side has closed an endpoint.
var errEndpointClosed = fmt.Errorf("irohub/iroh: endpoint closed: %w", net.ErrClosed)

// errSelf says that a node has dialled itself, which the library refuses, with less clear words.
var errSelf = fmt.Errorf("%w: it is this endpoint's own NodeID, and a node cannot dial itself; the other side needs a key of its own", ErrAddr)

// parseClosed reads the words in which the library says why a connection ended:
//
//	closed by peer: 3
//	closed by peer: any reason at all (code 3)
//	timed out
//	closed
//
// The reason is the peer's, so it may hold anything, but the library puts the
// code behind it: the last parenthesis is never the peer's.
func parseClosed(s string) error {
	rest, ok := strings.CutPrefix(s, "closed by peer: ")
	if !ok {
		return &lostError{why: words.Printable(s), timeout: s == "timed out"}
	}
	if code, err := strconv.ParseUint(rest, 10, 64); err == nil {
		return &irohub.CloseError{Code: code}
	}
	const before, after = " (code ", ")"
	if i := strings.LastIndex(rest, before); i >= 0 && strings.HasSuffix(rest, after) {
		digits := rest[i+len(before) : len(rest)-len(after)]
		if code, err := strconv.ParseUint(digits, 10, 64); err == nil {
			return &irohub.CloseError{Code: code, Reason: words.Kept(rest[:i], maxReason)}
		}
	}
	return &lostError{why: words.Printable(s)}
}

// parseStream reads the library's error of a stream, which begins with the name
// of what happened. The code of a reset or a stop follows as a number:
//
//	Reset(3)
//	Stopped(3)
//	ConnectionLost(…)
//	ClosedStream
//
// lost reports that the connection is at fault, and must be asked why.
func parseStream(s string) (reset *irohub.CloseError, lost bool) {
	name, rest, _ := strings.Cut(s, "(")
	switch name {
	case "Reset", "Stopped":
		digits, _, _ := strings.Cut(rest, ")")
		if code, err := strconv.ParseUint(digits, 10, 64); err == nil {
			return &irohub.CloseError{Code: code}, false
		}
	case "ConnectionLost":
		return nil, true
	}
	return nil, false
}

// connectError names the error of a dial or a handshake.
func connectError(doing string, err error) error {
	f := &failure{doing: doing, cause: err}
	native, ok := errors.AsType[*nativeError](err)
	switch {
	case ok:
		f.kind = connectKind(native.text)
	case errors.Is(err, context.DeadlineExceeded):
		f.kind = ErrUnreachable
	case errors.Is(err, ErrAddr):
		f.kind = ErrAddr
	}
	return f
}

// connectKind reads the library's error of a connection that did not come about:
// a chain of causes, of which the last is QUIC's:
//
//	ConnectError::Connecting (…)
//	Caused by:
//	    ConnectingError::ConnectionError (…)
//	    aborted by peer: the server refused to accept a new connection
//
// What a peer may have written stands behind QUIC's own words, so only the
// beginning of these counts.
func connectKind(s string) error {
	words := s
	if _, rest, ok := strings.Cut(s, "ConnectingError::ConnectionError"); ok {
		_, words, _ = strings.Cut(rest, "\n")
		words = strings.TrimLeft(words, " ")
	}
	const failed = "the cryptographic handshake failed: error "
	for _, known := range []struct {
		prefix string
		kind   error
	}{
		{"aborted by peer: the server refused", ErrRefused},
		{"aborted by peer: " + failed + "120", ErrALPN},
		{failed + "120", ErrALPN},
		{"TransportError(Error { code: Code::crypto(78)", ErrALPN}, // 120 in hexadecimal
		{failed + "48: invalid peer certificate", ErrWrongPeer},
		{"timed out", ErrUnreachable},
	} {
		if strings.HasPrefix(words, known.prefix) {
			return known.kind
		}
	}
	if strings.HasPrefix(words, "closed by peer: ") {
		return parseClosed(words)
	}
	if strings.HasPrefix(s, badRelay) || strings.Contains(s, "Connecting to ourself is not supported") {
		return ErrAddr
	}
	return nil
}

const badRelay = "Failed to parse relay URL"

// bindError names the error of a bind, with the system's error number if it was
// the system that said no.
func bindError(addr string, err error) error {
	f := &failure{doing: strings.TrimSpace("bind " + addr), cause: err}
	if native, ok := errors.AsType[*nativeError](err); ok {
		if strings.HasPrefix(native.text, badRelay) {
			f.kind = ErrAddr
		}
		if _, rest, ok := strings.Cut(native.text, "(os error "); ok {
			digits, _, _ := strings.Cut(rest, ")")
			if n, err := strconv.Atoi(digits); err == nil {
				f.kind = syscall.Errno(n)
			}
		}
	}
	return f
}
