package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"irohub"
)

// A bareSystem is the least that can be done with the transport, and so a ceiling: the frames
// of 64 events are put together once and written to every connection in one call; the
// reader splits them. There is no topic, no subscription, no check and no limit.
type bareSystem struct {
	network bareNetwork
	batch   []byte // being filled
	frames  int    // in it
	writers []chan []byte
	running sync.WaitGroup
	conns   []bareConn
}

const (
	bareBatch  = 64
	bareHeader = 4 // bytes before each event: its length
)

// A bareNetwork makes connections over one transport.
type bareNetwork interface {
	listen() error
	connect() (server, client bareConn, err error)
	close()
}

type bareConn interface {
	io.Reader
	io.Writer
	Close() error
}

func newBareTLS() system  { return &bareSystem{network: &bareTLS{}} }
func newBareIroh() system { return &bareSystem{network: &bareIroh{}} }

func (s *bareSystem) start(n int, to *audience) error {
	if err := s.network.listen(); err != nil {
		return err
	}
	for i := range n {
		server, client, err := s.network.connect()
		if err != nil {
			return err
		}
		s.conns = append(s.conns, server, client)
		batches := make(chan []byte, window) // at least one event in each
		s.writers = append(s.writers, batches)
		s.running.Go(func() {
			for p := range batches {
				if _, err := server.Write(p); err != nil {
					to.fail(fmt.Errorf("writing to subscriber %d: %w", i, err))
				}
			}
		})
		s.running.Go(func() { readBare(client, func(event []byte) { to.deliver(i, event) }) })
	}
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
	if s.frames > 0 {
		for _, batches := range s.writers {
			batches <- s.batch
		}
	}
	s.batch, s.frames = nil, 0
	return nil
}

func (s *bareSystem) close() {
	for _, batches := range s.writers {
		close(batches)
	}
	for _, c := range s.conns {
		c.Close()
	}
	s.running.Wait()
	s.network.close()
}

// bareTLS is TCP with TLS 1.3 as the standard library has it.
type bareTLS struct{ listener net.Listener }

func (t *bareTLS) listen() (err error) {
	t.listener, err = tls.Listen("tcp", "127.0.0.1:0", serverTLS())
	return err
}

func (t *bareTLS) connect() (server, client bareConn, err error) {
	shook := make(chan error, 1)
	var accepted *tls.Conn
	go func() {
		c, err := t.listener.Accept()
		if err == nil {
			accepted = c.(*tls.Conn)
			err = accepted.Handshake()
		}
		shook <- err
	}()
	dialled, err := tls.Dial("tcp", t.listener.Addr().String(), clientTLS())
	if err != nil {
		return nil, nil, err
	}
	if err := <-shook; err != nil {
		return nil, nil, err
	}
	return accepted, dialled, nil
}

func (t *bareTLS) close() {
	if t.listener != nil {
		t.listener.Close()
	}
}

// bareIroh is a stream on a connection of iroh, by the same binding as irohub's. Every
// client has an endpoint of its own.
type bareIroh struct {
	server  endpoint
	clients []endpoint
}

func (t *bareIroh) listen() (err error) {
	t.server, err = bindIroh()
	return err
}

func (t *bareIroh) connect() (server, client bareConn, err error) {
	ctx := context.Background()
	ep, err := bindIroh()
	if err != nil {
		return nil, nil, err
	}
	t.clients = append(t.clients, ep)
	type result struct {
		stream bareStream
		err    error
	}
	accepted := make(chan result, 1)
	go func() {
		stream, err := acceptBare(ctx, t.server)
		accepted <- result{stream, err}
	}()
	conn, err := ep.Dial(ctx, t.server.Addr())
	if err != nil {
		return nil, nil, err
	}
	out, err := conn.OpenStream(ctx)
	if err != nil {
		return nil, nil, err
	}
	if _, err := out.Write(ctx, []byte("x")); err != nil { // or the hub would not see it
		return nil, nil, err
	}
	got := <-accepted
	return got.stream, bareStream{out, conn}, got.err
}

func acceptBare(ctx context.Context, ep endpoint) (bareStream, error) {
	in, err := ep.Accept(ctx)
	if err != nil {
		return bareStream{}, err
	}
	conn, err := in.Handshake(ctx)
	if err != nil {
		return bareStream{}, err
	}
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return bareStream{}, err
	}
	_, err = stream.Read(ctx, make([]byte, 1))
	return bareStream{stream, conn}, err
}

func (t *bareIroh) close() {
	if t.server != nil {
		closeAll(append(t.clients, t.server))
	}
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
