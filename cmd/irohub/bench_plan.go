package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"irohub"
)

// A benchPlan is what the publisher and the workers of one run must agree on. Events are
// numbered from 0; event i is of topic i modulo Topics. Spoke j has Subscriptions topics
// from j*Subscriptions on, past the last of them from the first again.
type benchPlan struct {
	Run           string // tells its topics from those of another run at the same hub
	Spokes        int
	Topics        int
	Subscriptions int // of each spoke
	Size          int // bytes of a payload

	// At full speed, events are published in blocks: each, once every spoke has had what
	// it is to have of the block that is Blocks before it. Blocks 0: events have their
	// times instead.
	Block, Blocks int
}

// At full speed, so many events, or of large ones so many bytes, are undelivered at most:
// no more than half of what may by default wait for a spoke.
const (
	maxUndelivered      = 1024
	maxUndeliveredBytes = 512 << 10
	benchOverhead       = 256 // bytes, and some more than an event of a run adds to its payload
)

// pace divides the events into blocks.
func (p *benchPlan) pace() {
	events := min(max(maxUndeliveredBytes/(p.Size+benchOverhead), 1), maxUndelivered)
	p.Blocks = min(events, 8)
	p.Block = events / p.Blocks
}

// The events of a run are of one type; their ids make the topics.
const benchType = "irohub-bench"

func (p *benchPlan) id(topic int) string { return fmt.Sprintf("%s-%d", p.Run, topic) }

func (p *benchPlan) ids() []string {
	ids := make([]string, p.Topics)
	for i := range ids {
		ids[i] = p.id(i)
	}
	return ids
}

func (p *benchPlan) first(spoke int) int { return spoke * p.Subscriptions % p.Topics }

// topics are those of a spoke.
func (p *benchPlan) topics(spoke int) []string {
	names := make([]string, p.Subscriptions)
	for i := range names {
		names[i] = benchType + ":" + p.id((p.first(spoke)+i)%p.Topics)
	}
	return names
}

// next is the number of the first event that a spoke is to get, from event i on.
func (p *benchPlan) next(spoke, i int) int {
	if ahead := p.ahead(spoke, i); ahead >= p.Subscriptions {
		return i + p.Topics - ahead
	}
	return i
}

// ahead is how far event i's topic is behind the first of a spoke.
func (p *benchPlan) ahead(spoke, i int) int {
	return (i%p.Topics - p.first(spoke) + p.Topics) % p.Topics
}

// due is how many of the first n events a spoke is to get.
func (p *benchPlan) due(spoke, n int) int {
	first, rest := p.first(spoke), n%p.Topics
	count := n / p.Topics * p.Subscriptions
	count += max(min(rest, first+p.Subscriptions)-first, 0)
	if wrapped := first + p.Subscriptions - p.Topics; wrapped > 0 {
		count += min(rest, wrapped)
	}
	return count
}

// limits are what a hub and spokes of a run must let pass: the library's defaults, or more
// where events are large.
func (p *benchPlan) limits() (l struct{ frame, queue int }) {
	l.frame = max(1<<20, p.Size+benchOverhead)
	l.queue = max(1<<20, 4*(p.Size+benchOverhead))
	return l
}

// A payload is {"n":"0…","due":"0…","pad":"x…"}: the number of its event and the time at
// which it was due, with 16 hex digits each, in as many bytes as the plan says.
const (
	payloadHead = `{"n":"`
	payloadDue  = `","due":"`
	payloadPad  = `","pad":"`
	payloadTail = `"}`
	payloadAt   = len(payloadHead)                 // where the number is
	payloadTime = payloadAt + 16 + len(payloadDue) // where the time is
	minPayload  = payloadTime + 16 + len(payloadPad) + len(payloadTail)
)

func newPayload(size int) []byte {
	zero := strings.Repeat("0", 16)
	return []byte(payloadHead + zero + payloadDue + zero + payloadPad + strings.Repeat("x", size-minPayload) + payloadTail)
}

func setPayload(payload []byte, n int, due time.Duration) {
	putHex(payload[payloadAt:], uint64(n))
	putHex(payload[payloadTime:], uint64(due))
}

func putHex(to []byte, v uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	hex.Encode(to, b[:])
}

// readPayload is the other end of setPayload.
func (p *benchPlan) readPayload(payload []byte) (n int, due time.Duration, err error) {
	var b [16]byte
	if len(payload) != p.Size {
		return 0, 0, fmt.Errorf("a payload of %d bytes came, not of %d", len(payload), p.Size)
	}
	_, err1 := hex.Decode(b[:8], payload[payloadAt:payloadAt+16])
	_, err2 := hex.Decode(b[8:], payload[payloadTime:payloadTime+16])
	return int(binary.BigEndian.Uint64(b[:])), time.Duration(binary.BigEndian.Uint64(b[8:])), errors.Join(err1, err2)
}

// event is the n-th; it shares payload.
func (p *benchPlan) event(n int, due time.Duration, payload []byte, ids []string) irohub.Event {
	setPayload(payload, n, due)
	return irohub.Event{Type: benchType, ID: ids[n%p.Topics], Payload: payload}
}

// A benchClock tells a time that all processes of a run share, as the time since 1970. It
// reads the wall clock once, and from then on goes with the monotonic clock, which nobody
// sets: so processes of one machine disagree by no more than what the wall clock was set
// between their starts. For that, the first exchange with each of them is a check.
type benchClock struct{ start time.Time }

func newBenchClock() benchClock { return benchClock{time.Now()} }

func (c benchClock) now() time.Duration {
	return time.Duration(c.start.UnixNano()) + time.Since(c.start)
}
