package tlsnet

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"irohub/internal/records"
)

// A socket is the connection that crypto/tls uses. After the handshake, it gathers in
// memory what TLS writes, and flush sends it. This has two advantages. The up to five TLS
// records of a Write take one system call. And a write can be interrupted without harm:
// crypto/tls considers a connection dead after a write timeout, but here the remaining
// bytes wait for the next flush, so that a close code can follow them.
type socket struct {
	net.Conn

	heard atomic.Uint32 // number of reads that returned bytes

	// Owned by the goroutine of the handshake; not changed afterwards.
	established bool
	budget      int // bytes that the handshake may still read

	mu      sync.Mutex
	sealed  *[]byte // TLS records that wait for flush; nil: none
	sent    int     // bytes of sealed that have been written
	flooded bool    // Write has returned errFlood
}

// handshakeBudget is the most bytes read from a peer before it is authenticated. It also
// limits the certificate that crypto/tls parses. Our own handshake takes about 2 KiB.
const handshakeBudget = 16 << 10

var errLongHandshake = errors.New("the handshake exceeds 16 KiB")

func newSocket(raw net.Conn) *socket { return &socket{Conn: raw, budget: handshakeBudget} }

func (s *socket) Read(p []byte) (int, error) {
	if s.established {
		n, err := s.Conn.Read(p)
		if n > 0 {
			s.heard.Add(1)
		}
		return n, err
	}
	// The last read of a handshake may include data that follows it, so one read may exceed
	// the budget.
	if s.budget <= 0 {
		return 0, errLongHandshake
	}
	n, err := s.Conn.Read(p)
	s.budget -= n
	return n, err
}

// sealedSize is enough for the TLS records of one seal, with room to spare.
const sealedSize = records.MaxData + 8<<10

var sealedBuffers = sync.Pool{New: func() any {
	buf := make([]byte, 0, sealedSize)
	return &buf
}}

// errFlood: the peer requests TLS answers, such as key updates, but does not read them.
var errFlood = errors.New("the peer requests TLS answers but does not read them")

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
		s.flooded = true // remembered, as TLS reports another error
		return 0, errFlood
	}
	*s.sealed = append(*s.sealed, p...)
	return len(p), nil
}

// flush writes the gathered bytes to the network. After an error it may be called again and
// continues where it stopped. Only one goroutine may call it at a time. It does not hold
// the lock during a network write: the reader, which writes when the peer requests new
// keys, would have to wait.
func (s *socket) flush() error {
	for rest := s.rest(0); len(rest) > 0; {
		n, err := s.Conn.Write(rest)
		if rest = s.rest(n); err != nil {
			return err
		}
	}
	return nil
}

// rest notes that n more bytes were written and returns the bytes that remain. Write may
// append behind them meanwhile.
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

// SetWriteDeadline does nothing. crypto/tls sets a deadline for its close alert, but the
// network write happens elsewhere.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// finish closes the sending half of TCP.
func (s *socket) finish() {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// drain reads and discards until reading fails. Closing a TCP socket with unread data would
// reset the connection; the peer would lose what it has not read yet, including the close
// code.
func (s *socket) drain() {
	p := records.Chunks.Get().(*records.Chunk)
	defer records.Chunks.Put(p)
	for {
		if _, err := s.Conn.Read(p[:]); err != nil {
			return
		}
	}
}

// reset makes the next Close discard unsent data. The kernel would otherwise keep it for
// minutes if the peer does not read.
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
