package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/attempts"
	"irohub/internal/records"
	"irohub/internal/words"
)

// Errors to test for with [errors.Is]. An error of a dial or a handshake wraps its cause,
// and one of these where the kind of failure is known.
var (
	// ErrAddr: a URL is malformed, or the endpoint has no URL.
	ErrAddr = errors.New("irohub/websocket: bad address")
	// ErrUnreachable: nobody answers at the URL, or no URL is known.
	ErrUnreachable = errors.New("irohub/websocket: unreachable")
	// ErrWrongPeer: the node that answers has another NodeID than the one dialled.
	ErrWrongPeer = errors.New("irohub/websocket: another node answers")
	// ErrIdentity: the peer has not proven its key, or its key proves nothing. This is also
	// the error if a man in the middle has changed the handshake.
	ErrIdentity = errors.New("irohub/websocket: the peer has not proven its key")
	// ErrHost: the peer has dialled a host of none of this endpoint's URLs. Either there is a
	// man in the middle, or a URL is missing in the Options.
	ErrHost = errors.New("irohub/websocket: another host was dialled")
	// ErrALPN: the two ends have no protocol in common, or the peer does not speak WebSocket.
	ErrALPN = errors.New("irohub/websocket: the peer speaks another protocol")
	// ErrRefused: the peer refuses the connection.
	ErrRefused = errors.New("irohub/websocket: refused")
)

const prefix = "irohub/websocket: "

var errEndpointClosed = fmt.Errorf(prefix+"endpoint closed: %w", net.ErrClosed)

// fail returns the error of a dial or a handshake. kind is nil if it is unknown.
func fail(doing string, kind, cause error) *attempts.Failure {
	return &attempts.Failure{Prefix: prefix, Doing: doing, Kind: kind, Cause: cause}
}

// handshakeError classifies the error of a dial or a handshake. The result never wraps
// net.ErrClosed, which is for a closed endpoint, nor a close code, which would be that of a
// peer that is not authenticated.
func handshakeError(ctx context.Context, doing string, dialling bool, err error) error {
	f := fail(doing, nil, err)
	switch {
	case ctx.Err() != nil:
		f.Cause = ctx.Err()
		if dialling && errors.Is(f.Cause, context.DeadlineExceeded) {
			f.Kind = ErrUnreachable
		}
	case isOneOf(err, ErrAddr, ErrWrongPeer, ErrIdentity, ErrHost, ErrALPN, ErrRefused):
	case lostNetwork(err):
		f.Cause = errors.New("the peer hung up: " + brief(err))
		if dialling {
			f.Kind = ErrRefused
		}
	default:
		f.Kind, f.Cause = ErrALPN, errors.New(brief(err))
	}
	return f
}

func isOneOf(err error, kinds ...error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// lostNetwork reports whether an error of the library comes from the network and not from what
// the peer has sent.
func lostNetwork(err error) bool {
	var n net.Error
	return errors.As(err, &n) ||
		isOneOf(err, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled, context.DeadlineExceeded)
}

// brief returns an error's text without the prefixes that the libraries add.
func brief(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op != "remote error" && op.Op != "proxyconnect" {
		return op.Err.Error()
	}
	return err.Error()
}

// A lostError says that a connection ended without a close code.
type lostError struct {
	why     string
	timeout bool
}

func (e *lostError) Error() string   { return prefix + "connection lost: " + words.Printable(e.why) }
func (e *lostError) Unwrap() error   { return net.ErrClosed }
func (e *lostError) Timeout() bool   { return e.timeout } // with Temporary: a net.Error
func (e *lostError) Temporary() bool { return false }

// explain returns how and why a connection ended, given the error of its reader.
func explain(err error) (how ending, why error) {
	if end, ok := errors.AsType[*irohub.CloseError](err); ok {
		return endPeer, end
	}
	switch status := websocket.CloseStatus(err); {
	case errors.Is(err, records.Err):
		return endLocal, &irohub.CloseError{Code: irohub.CodeProtocol, Reason: err.Error()}
	case status == websocket.StatusProtocolError, status == websocket.StatusUnsupportedData,
		status == websocket.StatusInvalidFramePayloadData, status == websocket.StatusMessageTooBig:
		return endPeer, &irohub.CloseError{Code: irohub.CodeProtocol, Reason: fmt.Sprintf("WebSocket status %d", status)}
	case status >= 0:
		return endPeer, &lostError{why: fmt.Sprintf("closed with the WebSocket status %d alone", status)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return endLost, &lostError{why: "the peer is gone"}
	case lostNetwork(err):
		return endLost, &lostError{why: brief(err)}
	}
	return endLocal, &irohub.CloseError{Code: irohub.CodeProtocol, Reason: "no WebSocket: " + brief(err)}
}
