package siege

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"irohub"
)

// fleetSize is the number of spokes that flood at the same time.
const fleetSize = 64

// floods are what the fleet sends repeatedly: events, or the most expensive request, which
// makes the hub change its table 1,024 times.
var floods = map[string][]byte{
	"events":   bytes.Repeat(frame(`{"type":"flood","payload":"`+strings.Repeat("x", 254)+`"}`), 64),
	"requests": slicesOfTopics(),
}

func slicesOfTopics() (p []byte) {
	var topics []string
	for i := range 1024 {
		topics = append(topics, fmt.Sprintf(`"%d"`, i))
	}
	list := `"payload":{"topics":[` + strings.Join(topics, ",") + `]}}`
	for range 8 {
		p = append(p, frame(`{"type":"__subscribe",`+list)...)
		p = append(p, frame(`{"type":"__unsubscribe",`+list)...)
	}
	return p
}

// playFleet connects spokes that all send one of the floods, from a line that names it until
// the line "rest".
func playFleet(ctx context.Context, ep endpoint, addr irohub.Addr) error {
	var streams []irohub.Stream
	for range fleetSize {
		conn, err := ep.Dial(ctx, addr)
		if err != nil {
			return err
		}
		stream, err := conn.OpenStream(ctx)
		if err != nil {
			return err
		}
		if _, err := stream.Write(ctx, frame(`{"type":"__subscribe","id":"1","payload":{"topics":[]}}`)); err != nil {
			return err
		}
		if _, err := stream.Read(ctx, make([]byte, 1)); err != nil { // the first byte of the answer
			return err
		}
		streams = append(streams, stream)
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		flood := floods[lines.Text()]
		flooding, rest := context.WithCancel(ctx)
		var sending sync.WaitGroup
		for _, stream := range streams {
			sending.Go(func() {
				for flooding.Err() == nil {
					if _, err := stream.Write(ctx, flood); err != nil {
						fmt.Fprintln(os.Stderr, "child:", err)
						return
					}
				}
			})
		}
		fmt.Println("ready")
		ok := lines.Scan()
		rest()
		if !ok {
			break
		}
		sending.Wait()
		fmt.Println("ready")
	}
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// BenchmarkDearest measures the latency between two spokes while 64 others send the most
// expensive request as fast as they can, relative to the latency while these send events. The
// target is a ratio of the medians of at most 3.
func BenchmarkDearest(b *testing.B) {
	benchEach(b, func(s *siege, b *testing.B) {
		s.serve(irohub.HubOptions{MaxSpokesPerNode: fleetSize, Forward: func(irohub.NodeID, string) bool { return true }})
		from := s.dial(irohub.SpokeOptions{NoReconnect: true})
		sub := s.subscribe(s.dial(irohub.SpokeOptions{NoReconnect: true}), "n")
		fleet := s.child("fleet", "nice", "-n", "19")
		var c comparison // of the flood of events, which counts as quiet here, and the flood of requests
		for b.Loop() {
			for kind, m := range map[string]*meter{"events": &c.quiet, "requests": &c.loud} {
				fleet.tell(kind)
				time.Sleep(sampling / 4) // until the flood is established
				s.measure(m, sub, from)
				fleet.tell("rest")
				s.wantServed()
			}
			c.lap()
		}
		c.report(b)
	})
}
