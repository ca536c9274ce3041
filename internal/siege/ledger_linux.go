package siege

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"irohub"
	"irohub/internal/siege/trim"
	"irohub/internal/transports"
)

// BenchmarkLedger puts peers into each state of the ledger. It reports the memory that a hub or
// a spoke then holds for each of them, the ledger's figure, and the ratio. A ratio above 1.2
// fails.
//
// The holder is a separate process. Its figure is its resident memory after garbage collection,
// including the native library's. Hostile peers are in another process, which is stopped once
// it has sent everything that is accepted. A few peers come first, so that one-time costs are
// not counted.
func BenchmarkLedger(b *testing.B) {
	for _, transport := range transports.Names() {
		for _, e := range ledger {
			most, _ := e.held(transport)
			if e.name == "" || most == 0 {
				continue
			}
			b.Run(transport+"/"+e.name, func(b *testing.B) {
				transports.Need(b, transport)
				var held float64
				for b.Loop() {
					held = newSiege(b, transport).fill(e.name)
				}
				ratio := held / float64(most)
				b.ReportMetric(held, "held-KiB")
				b.ReportMetric(float64(most), "ledger-KiB")
				b.ReportMetric(ratio, "held/ledger")
				b.ReportMetric(0, "ns/op") // meaningless here
				if ratio > 1.2 {
					b.Errorf("a peer can have %.0f KiB held, and the ledger says %d", held, most)
				}
			})
		}
	}
}

const mib = 1 << 20

// The peers that come first, and those that are measured.
const warm = 4

func crowdOf(state string) int {
	switch state {
	case "handshake":
		return 400
	case "first-frame", "spoke-greeting":
		return 64
	case "admit", "turned-away":
		return 48
	}
	return 32
}

// fill returns the KiB held for each peer in a state.
func (s *siege) fill(state string) float64 {
	s.Helper()
	n := crowdOf(state)
	if strings.HasPrefix(state, "spoke-") {
		return s.fillSpoke(state, n)
	}
	hub := s.run(fmt.Sprintf("%s ledger-hub %s", s.transport, state))
	addr := hub.ask("addr")
	come := func(from, n int) {
		s.Helper()
		if state == "handshake" {
			s.beginHandshakes(addr, n)
			return
		}
		peers := s.run(fmt.Sprintf("%s ledger-peers %s %s %d %d", s.transport, addr, state, from, n))
		hub.settled() // so that nothing of theirs is in flight
		peers.freeze()
		if state == "spoke" || state == "closing" {
			hub.ask("queues")
		}
	}
	ended := func() {
		if state == "closing" || state == "turned-away" {
			hub.ask("end")
		}
	}
	come(0, warm)
	ended()
	before := hub.settled()
	come(warm, n)
	ended()
	return float64(hub.settled()-before) / float64(n)
}

func (c *child) ask(what string) string {
	c.Helper()
	_, err := fmt.Fprintln(c.in, what)
	c.must(err)
	line, err := c.out.ReadString('\n')
	c.must(err)
	return strings.TrimSpace(line)
}

func (c *child) number(what string) int {
	c.Helper()
	n, err := strconv.Atoi(c.ask(what))
	c.must(err)
	return n
}

// settled returns a child's memory in KiB, once it has not changed for a second.
func (c *child) settled() int {
	c.Helper()
	last, same := c.number("memory"), 0
	for same < 2 {
		time.Sleep(500 * time.Millisecond)
		now := c.number("memory")
		if same++; max(now-last, last-now) > last/200 {
			same = 0
		}
		last = now
	}
	return last
}

// resident returns the resident memory of this process in KiB, after garbage collection and
// without what the allocator of the native library keeps although it is free.
func resident() (kib int, err error) {
	for range 2 { // a sync.Pool is empty only after the second
		debug.FreeOSMemory()
	}
	if !trim.Memory() {
		return 0, errors.New("no access to an allocator that can give memory back: the ledger needs cgo and glibc")
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, err
	}
	return pages * os.Getpagesize() / 1024, nil
}

func init() {
	playLedger = func(ctx context.Context, ep endpoint, role string, args []string) error {
		switch role {
		case "hub":
			return playHolder(ctx, ep, args[0])
		}
		addr, err := irohub.ParseAddr(args[0])
		if err != nil {
			return err
		}
		switch role {
		case "spokes":
			return playSpokes(ctx, ep, addr)
		case "peers":
			from, _ := strconv.Atoi(args[2])
			n, _ := strconv.Atoi(args[3])
			return playPeers(ctx, ep, addr, args[1], from, n)
		}
		return fmt.Errorf("no such role: %s", role)
	}
}

// playHolder runs the hub.
func playHolder(ctx context.Context, ep endpoint, state string) error {
	opts := irohub.HubOptions{
		MaxSpokesPerNode: 4096, // its peers share a key
		HandshakeTimeout: time.Hour, WriteTimeout: time.Hour,
		AllowPublish: func(irohub.NodeID, string) error { // used for a peer that should fill its window
			<-ctx.Done()
			return ctx.Err()
		},
	}
	away := make(chan struct{})
	if state == "admit" || state == "turned-away" {
		opts.Admit = func(ctx context.Context, _ irohub.NodeID) error {
			select {
			case <-away:
				return errors.New("not now")
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	hub, err := irohub.NewHub(opts, ep)
	if err != nil {
		return err
	}
	go hub.Serve(ctx)
	defer hub.Close()
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var answer any = "done"
		var err error
		switch words := strings.Fields(lines.Text()); words[0] {
		case "addr":
			answer = ep.Addr()
		case "memory":
			answer, err = resident()
		case "queues":
			err = fillQueues(ctx, hub)
		case "end":
			err = endAll(ctx, hub, away)
		}
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}

// fillQueues publishes separate events to each spoke, until one more would cut it off.
func fillQueues(ctx context.Context, hub *irohub.Hub) error {
	const size = 16 << 10
	const most = mib - (size+200)*9/8 - 64
	payload := []byte(`"` + strings.Repeat("x", size) + `"`) // the hub copies it
	before := hub.Stats().CutOff
	for full := 0; full < 5; full++ {
		for _, info := range hub.Spokes() {
			if info.WaitingBytes > most {
				continue
			}
			full = 0
			ev := irohub.Event{Type: "q", ID: fmt.Sprint(info.Number), Payload: payload}
			published := hub.Stats().Published
			if err := hub.Publish(ctx, ev); err != nil {
				return err
			}
			for hub.Stats().Published == published {
			}
		}
		time.Sleep(50 * time.Millisecond) // the transport may accept more
	}
	if cut := hub.Stats().CutOff - before; cut > 0 {
		return fmt.Errorf("%d were cut off", cut)
	}
	return nil
}

// endAll cuts off each spoke with a full queue, and rejects the peers that wait for Admit.
func endAll(ctx context.Context, hub *irohub.Hub, away chan<- struct{}) error {
	for _, info := range hub.Spokes() {
		ev := irohub.Event{Type: "q", ID: fmt.Sprint(info.Number), Payload: []byte(`"` + strings.Repeat("x", 64<<10) + `"`)}
		if err := hub.Publish(ctx, ev); err != nil {
			return err
		}
	}
	for stats := hub.Stats(); stats.Spokes+stats.Pending > 0; stats = hub.Stats() {
		select {
		case away <- struct{}{}:
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// playPeers connects n peers to a hub and brings them into a state. The first one becomes the
// spoke with the number from+1.
func playPeers(ctx context.Context, ep endpoint, addr irohub.Addr, state string, from, n int) error {
	var all []irohub.Stream
	var sending sync.WaitGroup
	for i := from; i < from+n; i++ {
		conn, err := ep.Dial(ctx, addr)
		if err != nil {
			return err
		}
		stream, err := conn.OpenStream(ctx)
		if err != nil {
			return err
		}
		all = append(all, stream)
		switch state {
		case "admit", "turned-away":
			sending.Go(func() { flood(ctx, stream) })
			continue
		case "first-frame":
			part := make([]byte, 4+32<<10-1)
			binary.BigEndian.PutUint32(part, 32<<10)
			if _, err := stream.Write(ctx, part); err != nil {
				return err
			}
			continue
		}
		if err := request(ctx, stream, fmt.Sprintf("q:%d", i+1)); err != nil {
			return err
		}
		var topics []string
		for j := range 1023 {
			topics = append(topics, fmt.Sprintf("%d:%d:%0980d", i, j, 0))
		}
		if err := request(ctx, stream, topics...); err != nil {
			return err
		}
		large := frame(`{"type":"stall","payload":"` + strings.Repeat("x", mib-200) + `"}`)
		if state == "closing" {
			_, err := stream.Write(ctx, large[:len(large)-1])
			if err != nil {
				return err
			}
			continue
		}
		sending.Go(func() {
			stream.Write(ctx, large)
			flood(ctx, stream)
		})
	}
	fmt.Println("ready")
	sending.Wait()
	io.Copy(io.Discard, os.Stdin) // blocks until it is killed
	for _, stream := range all {
		stream.Abort(0)
	}
	return nil
}

// request subscribes and waits for the answer.
func request(ctx context.Context, stream irohub.Stream, topics ...string) error {
	list := `"` + strings.Join(topics, `","`) + `"`
	if _, err := stream.Write(ctx, frame(`{"type":"__subscribe","id":"1","payload":{"topics":[`+list+`]}}`)); err != nil {
		return err
	}
	return readAll(ctx, stream, make([]byte, len(frame(`{"type":"__ack","id":"1"}`))))
}

func readAll(ctx context.Context, stream irohub.Stream, p []byte) error {
	for len(p) > 0 {
		n, err := stream.Read(ctx, p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// flood writes until writing fails.
func flood(ctx context.Context, stream irohub.Stream) {
	for p := make([]byte, 64<<10); ; {
		if _, err := stream.Write(ctx, p); err != nil {
			return
		}
	}
}

// beginHandshakes begins n handshakes that make the hub hold as much memory as possible.
func (s *siege) beginHandshakes(addr string, n int) {
	s.Helper()
	hub, err := irohub.ParseAddr(addr)
	s.must(err)
	if stall := transports.Stall(s.transport); stall != nil {
		stall(s, hub, n, true)
		return
	}
	if s.transport != "tls" {
		s.stallQUIC(hub, n)
		return
	}
	record := func(n int) []byte { return append([]byte{22, 3, 1, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	// A message of 64 KiB, and bytes that double the buffer of its beginning; then an
	// incomplete record. A handshake reads no more than this.
	begun := append(record(14000), record(400)...)
	copy(begun[5:], []byte{1, 0, 255, 255})
	s.stallTCP(hub.Hosts[0], n, append(begun, record(1900)[:1500]...))
}

// fillSpoke is like fill, for spokes of a hostile hub. The hub runs in this process.
func (s *siege) fillSpoke(state string, n int) float64 {
	s.Helper()
	hub := s.bind()
	accepting, stop := context.WithCancel(s.ctx)
	defer stop()
	var tasks sync.WaitGroup
	s.Cleanup(tasks.Wait)
	tasks.Go(func() {
		for {
			in, err := hub.Accept(accepting)
			if err != nil {
				return
			}
			tasks.Go(func() {
				conn, err := in.Handshake(accepting)
				if err == nil {
					err = besiege(accepting, conn, state)
				}
				if err != nil && accepting.Err() == nil {
					s.Errorf("a hostile hub: %v", err)
				}
			})
		}
	})
	spokes := s.run(fmt.Sprintf("%s ledger-spokes %s", s.transport, hub.Addr()))
	spokes.ask(fmt.Sprintf("dial %d", warm))
	before := spokes.settled()
	spokes.ask(fmt.Sprintf("dial %d", n))
	return float64(spokes.settled()-before) / float64(n)
}

var requestID = regexp.MustCompile(`"id":"([0-9]+)"`)

// besiege runs a hub that attacks a spoke until ctx ends.
func besiege(ctx context.Context, conn irohub.Conn, state string) error {
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	if state == "spoke-streams" {
		for range 100 {
			s, err := conn.OpenStream(ctx)
			if err != nil {
				return err
			}
			go flood(ctx, s) // blocks until the process is stopped
		}
	}
	// The hub answers the greeting and one request, or nothing.
	for answers := 0; state != "spoke-greeting" && answers < 2; {
		p := make([]byte, 4096)
		n, err := stream.Read(ctx, p)
		if err != nil {
			return err
		}
		for _, id := range requestID.FindAllSubmatch(p[:n], -1) {
			answers++
			if _, err := stream.Write(ctx, frame(fmt.Sprintf(`{"type":"__ack","id":"%s"}`, id[1]))); err != nil {
				return err
			}
		}
	}
	event := frame(`{"type":"q","payload":"` + strings.Repeat("x", 16<<10) + `"}`)
	for range 2 * mib / len(event) {
		if _, err := stream.Write(ctx, event); err != nil {
			return err
		}
	}
	large := frame(`{"type":"q","payload":"` + strings.Repeat("x", mib-100) + `"}`)
	_, err = stream.Write(ctx, large[:len(large)-1])
	<-ctx.Done()
	stream.Abort(0)
	return err
}

// playSpokes connects spokes whose Subscriptions nobody reads.
func playSpokes(ctx context.Context, ep endpoint, addr irohub.Addr) error {
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var answer any = "done"
		var err error
		switch words := strings.Fields(lines.Text()); words[0] {
		case "dial":
			n, _ := strconv.Atoi(words[1])
			for range n {
				go func() { // ends with the process
					spoke, err := irohub.Dial(ctx, ep, addr, irohub.SpokeOptions{})
					var sub *irohub.Subscription
					if err == nil {
						sub, err = spoke.Subscribe(ctx, "q")
					}
					if err != nil {
						fmt.Fprintln(os.Stderr, "child:", err)
					}
					<-ctx.Done()
					runtime.KeepAlive(sub)
				}()
			}
		case "memory":
			answer, err = resident()
		}
		if err != nil {
			return err
		}
		fmt.Println(answer)
	}
	return nil
}
