package siege

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"irohub"
	"irohub/internal/transports"
)

// 500 stalled handshakes of every kind and one good peer: once with room for all of them, and
// once with room for few.
func TestAccept_StalledHandshakesAndAGoodPeer(t *testing.T) {
	const stalled = 500
	for _, pending := range []int{2 * stalled, 16} {
		t.Run(fmt.Sprintf("MaxPending=%d", pending), func(t *testing.T) {
			overEach(t, func(s *siege) {
				s.serve(irohub.HubOptions{MaxPending: pending, HandshakeTimeout: time.Hour})
				s.stall(stalled)
				s.eventually("all have come", func() bool {
					stats := s.hub.Stats()
					return stats.Pending+int(stats.Rejected) >= stalled && stats.Pending >= min(stalled, pending)
				})
				if n := s.hub.Stats().Pending; n > pending {
					s.Errorf("%d are pending", n)
				}
				if pending >= stalled {
					s.wantServed()
				} else {
					s.wantServedAtLast()
				}
				if n := s.hub.Stats().Spokes; n != 1 {
					s.Errorf("%d spokes, want the good one", n)
				}
			})
		})
	}
}

// wantServedAtLast is like wantServed, but later peers may take the good peer's place before it
// is connected. Then it tries again.
func (s *siege) wantServedAtLast() {
	s.Helper()
	for from := s.bind(); ; {
		spoke, err := irohub.Dial(s.ctx, from, s.endpoint.Addr(), irohub.SpokeOptions{NoReconnect: true})
		if err == nil {
			s.Cleanup(func() { spoke.Close() })
			s.wantServes(spoke)
			return
		}
		s.Logf("a good peer was not let in: %v", err)
		if s.ctx.Err() != nil {
			s.FailNow()
		}
	}
}

// stall begins n handshakes, in equal parts of each kind. They stop after the transport's first
// packet, after its handshake, or half a frame later.
func (s *siege) stall(n int) {
	s.Helper()
	from := s.bind()
	for range n / 4 {
		conn, err := from.Dial(s.ctx, s.endpoint.Addr())
		s.must(err)
		s.Cleanup(func() { conn.Close(0, "") })
	}
	for range n / 4 {
		s.raw(from).write([]byte("\x00\x00\x10\x00{"))
	}
	if stall := transports.Stall(s.transport); stall != nil {
		stall(s, s.endpoint.Addr(), n/2, false)
	} else if s.transport == "tls" {
		s.stallTCP(s.hostV4(), n/4, nil)
		s.stallTCP(s.hostV4(), n/4, []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) // half a ClientHello
	} else {
		s.stallQUIC(irohub.Addr{ID: s.endpoint.ID(), Hosts: []string{s.hostV4()}}, n/2+n/10) // a few more, as some packets are lost in the crowd
		s.noise()
	}
}

// stallTCP makes n TCP connections, each of which sends the given bytes.
func (s *siege) stallTCP(host string, n int, p []byte) {
	s.Helper()
	for range n {
		c, err := net.Dial("tcp", host)
		s.must(err)
		s.Cleanup(func() { c.Close() })
		_, err = c.Write(p)
		s.must(err)
	}
}

// stallQUIC starts n diallers behind a wire that carries their packets to the hub and none
// back. So each handshake stops after the hub's answer to the first packet.
func (s *siege) stallQUIC(to irohub.Addr, n int) {
	s.Helper()
	hub, err := net.ResolveUDPAddr("udp", to.Hosts[0])
	s.must(err)
	wire, err := net.ListenPacket("udp", "127.0.0.1:0")
	s.must(err)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for p := make([]byte, 64<<10); ; {
			k, from, err := wire.ReadFrom(p)
			if err != nil {
				return
			}
			if from.String() != hub.String() {
				wire.WriteTo(p[:k], hub)
			}
		}
	})
	dialling, stop := context.WithCancel(s.ctx)
	s.Cleanup(func() {
		stop()
		wire.Close()
		tasks.Wait()
	})
	addr := irohub.Addr{ID: to.ID, Hosts: []string{wire.LocalAddr().String()}}
	from := s.bind()
	for range n {
		tasks.Go(func() {
			if c, err := from.Dial(dialling, addr); err == nil {
				c.Close(0, "")
				s.Error("a dialler that hears nothing has connected")
			}
		})
	}
}

// noise sends packets that are not QUIC.
func (s *siege) noise() {
	s.Helper()
	c, err := net.Dial("udp", s.hostV4())
	s.must(err)
	defer c.Close()
	for range 1000 {
		p := make([]byte, 1+rand.IntN(1400))
		for i := range p {
			p[i] = byte(rand.Uint32())
		}
		c.Write(p)
	}
}

// hostV4 returns the hub's IPv4 address.
func (s *siege) hostV4() string {
	s.Helper()
	for _, host := range s.endpoint.Addr().Hosts {
		if addr, err := net.ResolveUDPAddr("udp", host); err == nil && addr.IP.To4() != nil {
			return host
		}
	}
	s.Fatalf("no IPv4 address in %v", s.endpoint.Addr())
	return ""
}

// A newcomer never takes the place of another node's spoke.
func TestAccept_NewcomersEvictNobodyElse(t *testing.T) {
	const room = 8
	overEach(t, func(s *siege) {
		s.serve(irohub.HubOptions{MaxSpokes: room, MaxSpokesPerNode: 2})
		var subs []*irohub.Subscription
		for range room {
			subs = append(subs, s.subscribe(s.dial(irohub.SpokeOptions{NoReconnect: true}), "n"))
		}
		for range room {
			_, err := irohub.Dial(s.ctx, s.bind(), s.endpoint.Addr(), irohub.SpokeOptions{})
			s.wantCode(err, irohub.CodeTooMany)
		}
		s.must(s.hub.Publish(s.ctx, numbered("n", 0)))
		for _, sub := range subs {
			s.wantNumbered(sub, 1)
		}
	})
}
