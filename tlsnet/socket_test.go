package tlsnet

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"irohub"
	"irohub/internal/records"
)

// A key update that requests an answer makes the reader write. The reader must not wait for
// a peer that does not read.
func TestSocket_WritesWhileAFlushIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		s := newSocket(near)
		s.established = true
		s.Write([]byte("first "))
		flushed := make(chan error, 1)
		go func() { flushed <- s.flush() }()
		synctest.Wait()
		s.Write([]byte("second")) // must not block: the bubble would deadlock
		got := make([]byte, len("first second"))
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "first second" {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-flushed; err != nil || s.sealed != nil {
			t.Errorf("flush: %v; left: %v", err, s.sealed)
		}
	})
}

func TestSocket_FloodOfAnswersIsAnErrorOfItsOwn(t *testing.T) {
	near, _ := net.Pipe()
	s := newSocket(near)
	s.established = true
	for range sealedSize / 100 {
		s.Write(make([]byte, 100))
	}
	if _, err := s.Write(make([]byte, 100)); !errors.Is(err, errFlood) || !s.isFlooded() {
		t.Errorf("%v", err)
	}
}

// A lingerer records that the kernel was told to keep nothing after Close.
type lingerer struct {
	net.Conn
	discarded *atomic.Int32
}

func (l lingerer) SetLinger(int) error {
	l.discarded.Add(1)
	return nil
}

// Rejected peers that do not read hold a bounded number of connections, and nothing in the
// kernel.
func TestEndpoint_LingeringIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, peers = 8, 40
		e := bindTest(t, Options{})
		e.patience = most
		var discarded atomic.Int32
		for range peers {
			near, far := net.Pipe()
			go tls.Client(far, testConfig(t)).Handshake() // then reads nothing more
			c, err := e.handshake(t.Context(), lingerer{near, &discarded}, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Close(irohub.CodeForbidden, "not you")
		}
		held := func() (conns, lingering int) {
			synctest.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.conns), len(e.lingering)
		}
		if conns, lingering := held(); conns != most || lingering != most {
			t.Errorf("%d connections are held, of which %d linger, want %d", conns, lingering, most)
		}
		time.Sleep(closeTimeout)
		if conns, lingering := held(); conns != 0 || lingering != 0 {
			t.Errorf("at the end, %d connections are held, of which %d linger", conns, lingering)
		}
		if n := discarded.Load(); n != peers {
			t.Errorf("%d of %d left nothing behind", n, peers)
		}
	})
}

// A peer whose wait is cut short has still been sent the code.
func TestEndpoint_LingeringCutShortHasToldThePeer(t *testing.T) {
	const most, peers = 2, 20
	e := bindTest(t, Options{Addr: "127.0.0.1:0"})
	e.patience = most
	var deaf []net.Conn
	for range peers {
		theirs, ours := hostileOf(t, e)
		deaf = append(deaf, theirs)
		ours.Close(irohub.CodeForbidden, "not you")
		for c := ours.(*conn); ; time.Sleep(time.Millisecond) {
			c.mu.Lock()
			said := c.said
			c.mu.Unlock()
			if said {
				break
			}
		}
	}
	for _, theirs := range deaf {
		said, _ := io.ReadAll(theirs)
		if want := record(records.Close, code(irohub.CodeForbidden)+"not you"); string(said) != want {
			t.Errorf("one was told %q, want %q", said, want)
		}
	}
}
