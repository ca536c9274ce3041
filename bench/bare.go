package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"irohub"
)

// A bareSystem does the minimum over the transport, so it is an upper limit. It puts the frames of 64
// events together once and writes them to every connection in one call; the reader splits them. It has no
// topics, subscriptions, checks or limits.
type bareSystem struct {
	network   bareNetwork
	batch     []byte // the batch being filled
	frames    int    // frames in batch
	accepting sync.WaitGroup
	running   sync.WaitGroup // readers and writers

	mu      sync.Mutex
	conns   []bareConn
	closed  bool
	writers []chan []byte
}

const (
	bareBatch  = 64
	bareHeader = 4 // bytes before each event: its length
)

// A bareNetwork makes connections over one transport.
type bareNetwork interface {
	listen() (place, error)
	accept() (bareConn, error) // returns the next connection; an error once the network is closed
	dial(at place) (bareConn, error)
	close()
}

type bareConn interface {
	io.Reader
	io.Writer
	Close() error
}

func newBareTLS() system  { return &bareSystem{network: &bareTLS{}} }
func newBareIroh() system { return &bareSystem{network: &bareIroh{}} }

func (s *bareSystem) serve(to *audience) (place, error) {
	at, err := s.network.listen()
	if err != nil {
		return at, err
	}
	s.accepting.Go(func() {
		for {
			conn, err := s.network.accept()
			if err == nil {
				err = s.join(conn, to)
			}
			if err != nil {
				to.fail(err)
				s.network.close() // so that subscribers do not wait
				return
			}
		}
	})
	return at, nil
}

// keep registers a connection, which the system closes at its end.
func (s *bareSystem) keep(conn bareConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns = append(s.conns, conn); s.closed {
		conn.Close()
	}
}

// join answers a subscriber's first message. From then on, the subscriber receives all events.
func (s *bareSystem) join(conn bareConn, to *audience) error {
	s.keep(conn)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return err
	}
	batches := make(chan []byte, window) // at least one event in each
	s.mu.Lock()
	s.writers = append(s.writers, batches)
	s.mu.Unlock()
	_, err := conn.Write([]byte("x"))
	s.running.Go(func() {
		for p := range batches {
			if _, err := conn.Write(p); err != nil {
				to.fail(fmt.Errorf("writing to a subscriber: %w", err))
			}
		}
	})
	return err
}

func (s *bareSystem) subscribe(i int, at place, to *audience) error {
	conn, err := s.network.dial(at)
	if err != nil {
		return err
	}
	s.keep(conn)
	if _, err := conn.Write([]byte("x")); err != nil { // otherwise an iroh hub would not see the stream
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return err
	}
	s.running.Go(func() { readBare(conn, func(event []byte) { to.deliver(i, event) }) })
	return nil
}

func readBare(from io.Reader, deliver func([]byte)) {
	r := bufio.NewReaderSize(from, 64<<10)
	for {
		h, err := r.Peek(bareHeader)
		if err != nil {
			return
		}
		n := bareHeader + int(binary.BigEndian.Uint32(h))
		frame, err := r.Peek(n)
		if err != nil {
			return
		}
		deliver(frame[bareHeader:])
		r.Discard(n)
	}
}

func (s *bareSystem) publish(event []byte) error {
	if s.batch == nil {
		s.batch = make([]byte, 0, bareBatch*(bareHeader+eventSize))
	}
	s.batch = binary.BigEndian.AppendUint32(s.batch, uint32(len(event)))
	s.batch = append(s.batch, event...)
	if s.frames++; s.frames == bareBatch {
		return s.flush()
	}
	return nil
}

func (s *bareSystem) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frames > 0 {
		for _, batches := range s.writers {
			batches <- s.batch
		}
	}
	s.batch, s.frames = nil, 0
	return nil
}

func (s *bareSystem) close() {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.network.close()
	s.accepting.Wait()
	for _, batches := range s.writers {
		close(batches)
	}
	s.running.Wait()
}

// bareTLS is TCP with TLS 1.3 from the standard library, with one change. The library makes one system call
// for each TLS record, and a batch takes two records. So the server gathers the records of a batch, which
// saves an eighth to a sixth of its CPU time.
type bareTLS struct{ listener net.Listener }

func (t *bareTLS) listen() (at place, err error) {
	if t.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return at, err
	}
	return here(t.listener.Addr().String()), nil
}

func (t *bareTLS) accept() (bareConn, error) {
	raw, err := t.listener.Accept()
	if err != nil {
		return nil, err
	}
	socket := &gatherer{Conn: raw}
	conn := tls.Server(socket, serverTLS())
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	socket.established = true
	return gathered{conn, socket}, nil
}

func (t *bareTLS) dial(at place) (bareConn, error) { return tls.Dial("tcp", at.Addr, at.clientTLS()) }

func (t *bareTLS) close() {
	if t.listener != nil {
		t.listener.Close()
	}
}

// A gatherer buffers what TLS writes after the handshake.
type gatherer struct {
	net.Conn
	established bool
	kept        []byte
}

func (g *gatherer) Write(p []byte) (int, error) {
	if !g.established {
		return g.Conn.Write(p)
	}
	g.kept = append(g.kept, p...)
	return len(p), nil
}

// gathered is a TLS connection over a gatherer. Only one goroutine may write.
type gathered struct {
	*tls.Conn
	socket *gatherer
}

func (c gathered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil {
		_, err = c.socket.Conn.Write(c.socket.kept)
		c.socket.kept = c.socket.kept[:0]
	}
	return n, err
}

// Close may be called during a Write. So it bypasses TLS, which would write a close alert.
func (c gathered) Close() error { return c.socket.Conn.Close() }

// bareIroh is a stream on an iroh connection, over the same binding as irohub's. Every client has its own
// endpoint.
type bareIroh struct {
	server irohub.Endpoint

	mu      sync.Mutex
	clients []irohub.Endpoint
}

func (t *bareIroh) listen() (at place, err error) {
	if t.server, err = bindIroh(); err != nil {
		return at, err
	}
	return place{Addr: t.server.Addr().String()}, nil
}

func (t *bareIroh) accept() (bareConn, error) {
	ctx := context.Background()
	in, err := t.server.Accept(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := in.Handshake(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := conn.AcceptStream(ctx)
	return bareStream{stream, conn}, err
}

func (t *bareIroh) dial(at place) (bareConn, error) {
	ctx := context.Background()
	hub, err := irohub.ParseAddr(at.Addr)
	if err != nil {
		return nil, err
	}
	ep, err := bindIroh()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.clients = append(t.clients, ep)
	t.mu.Unlock()
	conn, err := ep.Dial(ctx, hub)
	if err != nil {
		return nil, err
	}
	stream, err := conn.OpenStream(ctx)
	return bareStream{stream, conn}, err
}

func (t *bareIroh) close() {
	t.mu.Lock()
	all := slices.Clone(t.clients)
	t.mu.Unlock()
	if t.server != nil {
		all = append(all, t.server)
	}
	closeAll(all)
}

type bareStream struct {
	stream irohub.Stream
	conn   irohub.Conn
}

func (s bareStream) Read(p []byte) (int, error)  { return s.stream.Read(context.Background(), p) }
func (s bareStream) Write(p []byte) (int, error) { return s.stream.Write(context.Background(), p) }

func (s bareStream) Close() error {
	s.conn.Close(0, "")
	return nil
}
