package tlsnet

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A socket is what crypto/tls has for its connection. Once the handshake is done, what TLS
// writes is gathered in memory, and flush writes it out. That makes one system call of the
// up to five TLS records of a Write, and lets a write be cut short without harm: crypto/tls
// takes a write that timed out for the end of the connection, but here what was left waits
// for the next flush, so that a close code can follow it.
type socket struct {
	net.Conn

	heard atomic.Uint32 // how often something came

	// Owned by who does the handshake, and never changed after it.
	established bool
	budget      int // bytes that the handshake may still read

	mu      sync.Mutex
	sealed  *[]byte // TLS records that wait for flush; nil: none
	sent    int     // bytes of them that are out
	flooded bool    // errFlood was returned
}

// handshakeBudget bounds what is read of a peer before it is known, and so the size of
// the certificate that crypto/tls parses. Ours takes about 2 KiB in all.
const handshakeBudget = 16 << 10

var errLongHandshake = errors.New("the handshake is longer than any of a sound peer")

func newSocket(raw net.Conn) *socket { return &socket{Conn: raw, budget: handshakeBudget} }

func (s *socket) Read(p []byte) (int, error) {
	if s.established {
		n, err := s.Conn.Read(p)
		if n > 0 {
			s.heard.Add(1)
		}
		return n, err
	}
	// The last read of a handshake may bring data that follows it, so that the budget
	// may be overdrawn, once.
	if s.budget <= 0 {
		return 0, errLongHandshake
	}
	n, err := s.Conn.Read(p)
	s.budget -= n
	return n, err
}

// sealedSize holds what one seal makes, in TLS records, with room for the rest.
const sealedSize = maxData + 8<<10

var sealedBuffers = sync.Pool{New: func() any {
	buf := make([]byte, 0, sealedSize)
	return &buf
}}

// errFlood: the peer makes TLS answer, key updates, and does not let the answers out.
var errFlood = errors.New("too many answers of TLS wait to be sent")

func (s *socket) Write(p []byte) (int, error) {
	if !s.established {
		return s.Conn.Write(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed == nil {
		s.sealed = sealedBuffers.Get().(*[]byte)
	}
	if len(*s.sealed)+len(p) > sealedSize {
		s.flooded = true // TLS will say something else
		return 0, errFlood
	}
	*s.sealed = append(*s.sealed, p...)
	return len(p), nil
}

// flush writes out what waits. After an error it may be called again, to go on from there.
// One goroutine at a time may call it. The lock is not held while the network is busy, or else
// the reader would wait for that: it writes too, when the peer wants new keys.
func (s *socket) flush() error {
	for rest := s.rest(0); len(rest) > 0; {
		n, err := s.Conn.Write(rest)
		if rest = s.rest(n); err != nil {
			return err
		}
	}
	return nil
}

// rest returns what waits, of which so much more is out. What Write adds meanwhile, it puts
// behind that.
func (s *socket) rest(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed == nil {
		return nil
	}
	if s.sent += n; s.sent < len(*s.sealed) {
		return (*s.sealed)[s.sent:]
	}
	*s.sealed = (*s.sealed)[:0]
	sealedBuffers.Put(s.sealed)
	s.sealed, s.sent = nil, 0
	return nil
}

// SetWriteDeadline does nothing: crypto/tls sets one as it says goodbye, for a write that
// it does not do here.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// finish tells the peer that no more will come.
func (s *socket) finish() {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// drain reads until nothing more can come. To close a TCP socket with something unread
// would reset the connection, and take from the peer what it has not read yet, the close
// code among it.
func (s *socket) drain() {
	p := chunks.Get().(*chunk)
	defer chunks.Put(p)
	for {
		if _, err := s.Conn.Read(p[:]); err != nil {
			return
		}
	}
}

// reset has Close leave nothing behind: what a peer has not taken, the kernel would else keep
// for minutes.
func reset(raw net.Conn) {
	if c, ok := raw.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
}

func (s *socket) isFlooded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flooded
}
