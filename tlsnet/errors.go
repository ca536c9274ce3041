package tlsnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"irohub"
	"irohub/internal/attempts"
	"irohub/internal/words"
)

// Errors to test for with [errors.Is]. An error of a dial or a handshake wraps its cause,
// and one of these where the kind of failure is known.
var (
	// ErrAddr: an address to bind or dial is malformed.
	ErrAddr = errors.New("irohub/tlsnet: bad address")
	// ErrUnreachable: nobody answers at the address, or no address is known.
	ErrUnreachable = errors.New("irohub/tlsnet: unreachable")
	// ErrWrongPeer: the node that answers has another NodeID than the one dialled. The side
	// that was dialled gets this error too.
	ErrWrongPeer = errors.New("irohub/tlsnet: another node answers")
	// ErrIdentity: the peer presents no certificate, one whose key is not Ed25519, or one
	// whose key proves nothing.
	ErrIdentity = errors.New("irohub/tlsnet: the peer has no Ed25519 key")
	// ErrALPN: the two ends have no protocol in common, or the peer does not speak TLS 1.3.
	ErrALPN = errors.New("irohub/tlsnet: the peer speaks another protocol")
	// ErrRefused: the peer refuses the connection for now.
	ErrRefused = errors.New("irohub/tlsnet: refused")
)

const prefix = "irohub/tlsnet: "

var errEndpointClosed = fmt.Errorf(prefix+"endpoint closed: %w", net.ErrClosed)

// fail returns the error of a dial or a handshake. kind is nil if it is unknown.
func fail(doing string, kind, cause error) *attempts.Failure {
	return &attempts.Failure{Prefix: prefix, Doing: doing, Kind: kind, Cause: cause}
}

// A scarcity is a temporary error of Accept: descriptors or memory are lacking.
type scarcity struct{ cause error }

func (e *scarcity) Error() string   { return prefix + "accept (temporary): " + e.cause.Error() }
func (e *scarcity) Unwrap() error   { return e.cause }
func (e *scarcity) Timeout() bool   { return false } // with Temporary: a net.Error
func (e *scarcity) Temporary() bool { return true }

// A lostError says that a connection ended without a close code.
type lostError struct {
	why     string
	timeout bool
	cause   error // may be nil
}

func (e *lostError) Error() string   { return prefix + "connection lost: " + words.Printable(e.why) }
func (e *lostError) Unwrap() []error { return append([]error{net.ErrClosed}, e.causes()...) }
func (e *lostError) Timeout() bool   { return e.timeout } // with Temporary: a net.Error
func (e *lostError) Temporary() bool { return false }

func (e *lostError) causes() []error {
	if e.cause == nil {
		return nil
	}
	return []error{e.cause}
}

// lost returns why a connection ended, given the error of its reader.
func lost(err error) *lostError {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &lostError{why: "the peer is gone", cause: err}
	case remoteAlert(err) == alertCertificate:
		return &lostError{why: "the peer does not accept this node's certificate", cause: err}
	}
	return &lostError{why: brief(err), cause: err}
}

// brief returns an error's text without the prefix that package net adds.
func brief(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "remote error" {
		err = op.Err
	}
	return err.Error()
}

// A briefly is an error whose text is shortened by brief.
type briefly struct{ error }

func (e briefly) Error() string { return brief(e.error) }
func (e briefly) Unwrap() error { return e.error }

// The texts of a peer's alerts in crypto/tls, which does not export their type.
const (
	alertCertificate = "tls: bad certificate"
	alertALPN        = "tls: no application protocol"
	alertVersion     = "tls: protocol version not supported"
)

// remoteAlert returns the text of the alert in err, or "" if err is not an alert from the
// peer.
func remoteAlert(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// handshakeError classifies the error of a TLS handshake.
func handshakeError(ctx context.Context, doing string, dialling bool, err error) error {
	f := fail(doing, nil, err)
	alert := remoteAlert(err)
	text := err.Error()
	garbage := tls.RecordHeaderError{}
	switch {
	case ctx.Err() != nil:
		f.Cause = ctx.Err()
		if dialling && errors.Is(f.Cause, context.DeadlineExceeded) {
			f.Kind = ErrUnreachable
		}
	case errors.Is(err, ErrWrongPeer), errors.Is(err, ErrIdentity), errors.Is(err, ErrALPN):
	case errors.Is(err, net.ErrClosed):
		f.Cause = errEndpointClosed
	case alert == alertCertificate && !dialling:
		f.Cause = fmt.Errorf("%w: the peer dialled another NodeID than this node's (%w)", ErrWrongPeer, err)
	case alert == alertALPN, alert == alertVersion, errors.As(err, &garbage),
		strings.HasPrefix(text, "tls: client requested unsupported application protocols"),
		strings.HasPrefix(text, "tls: client offered only unsupported versions"),
		strings.HasPrefix(text, "tls: server selected unsupported protocol version"):
		f.Kind = ErrALPN
	case strings.HasPrefix(text, "tls: client didn't provide a certificate"):
		f.Kind = ErrIdentity
	case dialling && hungUp(err):
		f.Kind, f.Cause = ErrRefused, fmt.Errorf("the peer hung up: %w", briefly{err})
	default:
		f.Cause = briefly{err}
	}
	return f
}

// hungUp reports whether err is what the dialler sees when the peer calls Incoming.Refuse.
func hungUp(err error) bool { return errors.Is(err, io.EOF) || isOneOf(err, resets) }

func isOneOf(err error, kinds []error) bool {
	return slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) })
}

// wrongPeer returns the dialler's error when the node got answers.
func wrongPeer(got irohub.NodeID) error { return fmt.Errorf("%w: %s", ErrWrongPeer, got) }
