package websocket

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/records"
	"irohub/internal/weakkey"
	"irohub/internal/words"
	"irohub/key"
)

// The messages of the handshake, which come before the records. Each begins with a byte that
// says what it is. A side may send records.Close in place of any.
const (
	msgHello  = 16 // from the side that dials: its NodeID, its nonce, the host that it has dialled
	msgAnswer = 17 // from the hub: its NodeID, its nonce, its signature
	msgProof  = 18 // from the side that dials: its signature

	nonceSize  = 32
	maxMessage = 1 + 8 + records.MaxReason // in a handshake: the longest records.Close
)

// tag separates these signatures from all others that are made with the same keys.
const tag = "irohub websocket handshake 1"

// The roles of the signers. So neither side can present the other's signature as its own.
const (
	roleSpoke = 1
	roleHub   = 2
)

// A statement is what both sides sign.
type statement struct {
	hub, spoke           irohub.NodeID
	hubNonce, spokeNonce [nonceSize]byte
	protocol             string // the subprotocol
	host                 string // that was dialled
}

// bytes returns what the side with this role signs.
func (s *statement) bytes(role byte) []byte {
	p := append([]byte(tag), 0, role)
	p = append(p, s.hub[:]...)
	p = append(p, s.spoke[:]...)
	p = append(p, s.hubNonce[:]...)
	p = append(p, s.spokeNonce[:]...)
	p = append(p, byte(len(s.protocol)))
	p = append(p, s.protocol...)
	return append(p, s.host...)
}

func (s *statement) sign(role byte, secret key.Secret) []byte {
	seed := secret.Seed()
	return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), s.bytes(role))
}

// verify checks the signature of the side with this role.
func (s *statement) verify(role byte, signature []byte) error {
	id := s.spoke
	if role == roleHub {
		id = s.hub
	}
	if !ed25519.Verify(id[:], s.bytes(role), signature) {
		return fmt.Errorf("%w: invalid signature of %s", ErrIdentity, id)
	}
	return nil
}

// hello returns the first message, from the spoke.
func (s *statement) hello() []byte {
	return slices.Concat([]byte{msgHello}, s.spoke[:], s.spokeNonce[:], []byte(s.host))
}

// answer returns the second message, from the hub.
func (s *statement) answer(secret key.Secret) []byte {
	return slices.Concat([]byte{msgAnswer}, s.hub[:], s.hubNonce[:], s.sign(roleHub, secret))
}

// proof returns the last message, from the spoke.
func (s *statement) proof(secret key.Secret) []byte {
	return append([]byte{msgProof}, s.sign(roleSpoke, secret)...)
}

// strong refuses the keys for which anybody can forge signatures.
func strong(id irohub.NodeID) error {
	if weakkey.Is(id) {
		return fmt.Errorf("%w: anybody can forge signatures for the key %s", ErrIdentity, id)
	}
	return nil
}

// A handshake is a connection whose peer is not authenticated yet.
type handshake struct {
	ws        *websocket.Conn
	secret    key.Secret
	statement statement
}

func newHandshake(ws *websocket.Conn, secret key.Secret) *handshake {
	ws.SetReadLimit(maxMessage)
	return &handshake{ws: ws, secret: secret, statement: statement{protocol: ws.Subprotocol()}}
}

// dial does the handshake of the side that dials.
func (h *handshake) dial(ctx context.Context, want irohub.NodeID, host string) error {
	s := &h.statement
	s.spoke, s.host = h.secret.ID(), host
	rand.Read(s.spokeNonce[:])
	if err := h.ws.Write(ctx, websocket.MessageBinary, s.hello()); err != nil {
		return err
	}
	answer, err := h.read(ctx, msgAnswer, 2*32+ed25519.SignatureSize, 2*32+ed25519.SignatureSize)
	if err != nil {
		return err
	}
	s.hub, s.hubNonce = [32]byte(answer), [nonceSize]byte(answer[32:])
	if s.hub != want {
		return fmt.Errorf("%w: %s", ErrWrongPeer, s.hub)
	}
	if err := strong(s.hub); err != nil {
		return err
	}
	if err := s.verify(roleHub, answer[64:]); err != nil {
		return err
	}
	return h.ws.Write(ctx, websocket.MessageBinary, s.proof(h.secret))
}

// accept does the handshake of the side that was dialled. hosts are its own.
func (h *handshake) accept(ctx context.Context, hosts map[string]bool) error {
	s := &h.statement
	hello, err := h.read(ctx, msgHello, 2*32+1, 2*32+maxHost)
	if err != nil {
		return err
	}
	s.spoke, s.spokeNonce, s.host = [32]byte(hello), [nonceSize]byte(hello[32:]), string(hello[64:])
	if err := strong(s.spoke); err != nil {
		return err
	}
	if !hosts[s.host] {
		return fmt.Errorf("%w: %q", ErrHost, s.host)
	}
	s.hub = h.secret.ID()
	rand.Read(s.hubNonce[:])
	if err := h.ws.Write(ctx, websocket.MessageBinary, s.answer(h.secret)); err != nil {
		return err
	}
	proof, err := h.read(ctx, msgProof, ed25519.SignatureSize, ed25519.SignatureSize)
	if err != nil {
		return err
	}
	return s.verify(roleSpoke, proof)
}

// read returns the next message without its first byte.
func (h *handshake) read(ctx context.Context, want byte, least, most int) ([]byte, error) {
	typ, p, err := h.ws.Read(ctx)
	switch {
	case err != nil:
		return nil, err
	case typ != websocket.MessageBinary || len(p) == 0:
		return nil, fmt.Errorf("%w: a message that is no record", records.Err)
	case p[0] == byte(records.Close) && len(p) >= 9:
		// The peer is not authenticated, so its code does not count. The reason is for people.
		return nil, fmt.Errorf("%w: code %d: %s", ErrRefused, binary.BigEndian.Uint64(p[1:]), words.Printable(string(p[9:])))
	case p[0] != want:
		return nil, fmt.Errorf("%w: a message of the kind %d in the handshake, not %d", records.Err, p[0], want)
	case len(p)-1 < least || len(p)-1 > most:
		return nil, fmt.Errorf("%w: a message of the kind %d with %d bytes", records.Err, p[0], len(p)-1)
	}
	return p[1:], nil
}

// refusal returns what to tell the peer about a failed handshake. It is nil if the peer is gone
// or has refused us.
func refusal(err error) *irohub.CloseError {
	switch {
	case isOneOf(err, ErrWrongPeer, ErrIdentity, ErrHost):
		return &irohub.CloseError{Code: irohub.CodeForbidden, Reason: words.Printable(strings.TrimPrefix(err.Error(), prefix))}
	case errors.Is(err, records.Err):
		return &irohub.CloseError{Code: irohub.CodeProtocol, Reason: err.Error()}
	}
	return nil
}
