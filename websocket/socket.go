package websocket

import (
	"net"
	"sync/atomic"
)

// A socket is the network connection below a WebSocket. On the side that dialled it is below TLS,
// on the other side above it, if TLS ends here. It counts reads, and any goroutine can cut it at
// any time; the library has no such call.
type socket struct {
	net.Conn

	heard  atomic.Uint32 // number of reads that returned something
	failed atomic.Bool   // a Read has failed or reached the end
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.heard.Add(1)
	}
	if err != nil {
		s.failed.Store(true)
	}
	return n, err
}

// cut closes the connection at once, without TLS's close message. Without trace, it discards unsent
// data, which the kernel would otherwise keep for minutes if the peer does not read.
func (s *socket) cut(trace bool) {
	bottom := s.Conn
	for {
		above, ok := bottom.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		bottom = above.NetConn()
	}
	if c, ok := bottom.(interface{ SetLinger(int) error }); ok && !trace {
		c.SetLinger(0)
	}
	bottom.Close()
}
