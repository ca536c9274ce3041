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

// Errors to test for with [errors.Is]. An error of a dial or a handshake wraps iroh's own
// error, and one of the last five where iroh tells which it is.
var (
	// ErrNoLibrary: the native library was not found. The text lists the places searched
	// and the command that fetches the library.
	ErrNoLibrary = errors.New("irohub/iroh: the native library was not found")
	// ErrWrongLibrary: the file found is not the library, or is another version.
	ErrWrongLibrary = errors.New("irohub/iroh: wrong native library")
	// ErrUnsupported: this program was built without cgo, or for a platform
	// that has no native library.
	ErrUnsupported = errors.New("irohub/iroh: not supported")

	// ErrAddr: an address to bind or dial, or a ticket, is malformed.
	ErrAddr = errors.New("irohub/iroh: bad address")
	// ErrUnreachable: nobody answers at the address, or no address is known.
	ErrUnreachable = errors.New("irohub/iroh: unreachable")
	// ErrWrongPeer: the node that answers has another NodeID than the one dialled.
	ErrWrongPeer = errors.New("irohub/iroh: another node answers")
	// ErrALPN: the two ends have no protocol in common.
	ErrALPN = errors.New("irohub/iroh: the peer speaks another protocol")
	// ErrRefused: the peer refuses the connection for now.
	ErrRefused = errors.New("irohub/iroh: refused")
)

// A failure is an error from the library: what this package did, the kind of error, and the
// library's own error. The message leaves out the library's text if the kind is known.
type failure struct {
	doing string
	kind  error // nil: unknown
	cause error
}

func (f *failure) Error() string {
	why := f.kind
	if why == nil || errors.Is(f.cause, why) { // the cause says the same and more
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

// maxReason is the longest reason, in bytes. The library would cut a longer one in the
// middle of a character, and a peer may send a much longer one.
const maxReason = 1024

// A nativeError holds the library's own text, with Rust names and source paths.
type nativeError struct {
	kind int32
	text string
}

func (e *nativeError) Error() string { return "iroh: " + words.Printable(e.text) }

// brief returns the last cause in the text, which is the most specific one. It leaves out
// the source position that may follow.
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

// errEndpointClosed is returned once this side has closed the endpoint.
var errEndpointClosed = fmt.Errorf("irohub/iroh: endpoint closed: %w", net.ErrClosed)

// errSelf is the error of a node that dials itself. The library refuses that too, but less
// clearly.
var errSelf = fmt.Errorf("%w: it is this endpoint's own NodeID, and a node cannot dial itself; the other side needs a key of its own", ErrAddr)

// parseClosed parses the library's text about why a connection ended:
//
//	closed by peer: 3
//	closed by peer: any reason at all (code 3)
//	timed out
//	closed
//
// The peer chooses the reason, so it may contain anything. The library appends the code, so
// the last parenthesis is never from the peer.
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

// parseStream parses the library's error of a stream. It begins with the name of the event.
// The code of a reset or a stop follows as a number:
//
//	Reset(3)
//	Stopped(3)
//	ConnectionLost(…)
//	ClosedStream
//
// lost reports that the connection ended; the caller must ask why.
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

// connectError classifies the error of a dial or a handshake.
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

// connectKind classifies the library's error of a failed connection. The text is a chain of
// causes; the last one is from QUIC:
//
//	ConnectError::Connecting (…)
//	Caused by:
//	    ConnectingError::ConnectionError (…)
//	    aborted by peer: the server refused to accept a new connection
//
// Text from the peer may follow QUIC's text, so only the beginning of QUIC's text is
// compared.
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

// bindError classifies the error of a bind. If the operating system caused it, the error
// includes the system's error number.
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
