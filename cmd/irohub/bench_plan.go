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

// A benchPlan holds what the publisher and the workers of one run must agree on. Events are
// numbered from 0. Event i has topic i modulo Topics. Spoke j subscribes to Subscriptions
// consecutive topics from j*Subscriptions on, modulo Topics.
type benchPlan struct {
	Run           string // distinguishes the topics of this run from those of another at the same hub
	Spokes        int
	Topics        int
	Subscriptions int // of each spoke
	Size          int // bytes of a payload

	// At full speed, the publisher sends blocks of Block events. At most Blocks blocks may be
	// undelivered: it begins block i once all spokes have received block i-Blocks. Blocks is 0
	// if there is a rate: each event then has a time at which it is due.
	Block, Blocks int
}

// The limits of undelivered events and bytes at full speed. The bytes are half the default MaxQueue.
const (
	maxUndelivered      = 1024 // events
	maxUndeliveredBytes = 512 << 10
	benchOverhead       = 256 // bytes; the rest of a frame is smaller than this
)

// pace sets Block and Blocks.
func (p *benchPlan) pace() {
	events := min(max(maxUndeliveredBytes/(p.Size+benchOverhead), 1), maxUndelivered)
	p.Blocks = min(events, 8)
	p.Block = events / p.Blocks
}

// All events of a run have this type. Their ids distinguish the topics.
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

// topics returns the topics of a spoke.
func (p *benchPlan) topics(spoke int) []string {
	names := make([]string, p.Subscriptions)
	for i := range names {
		names[i] = benchType + ":" + p.id((p.first(spoke)+i)%p.Topics)
	}
	return names
}

// next returns the first event from i on that the spoke is subscribed to.
func (p *benchPlan) next(spoke, i int) int {
	if ahead := p.ahead(spoke, i); ahead >= p.Subscriptions {
		return i + p.Topics - ahead
	}
	return i
}

// ahead returns how many topics after the spoke's first one the topic of event i comes.
func (p *benchPlan) ahead(spoke, i int) int {
	return (i%p.Topics - p.first(spoke) + p.Topics) % p.Topics
}

// due returns how many of the first n events the spoke is subscribed to.
func (p *benchPlan) due(spoke, n int) int {
	first, rest := p.first(spoke), n%p.Topics
	count := n / p.Topics * p.Subscriptions
	count += max(min(rest, first+p.Subscriptions)-first, 0)
	if wrapped := first + p.Subscriptions - p.Topics; wrapped > 0 {
		count += min(rest, wrapped)
	}
	return count
}

// limits returns MaxFrame and MaxQueue for the hub and the spokes of a run: the library's
// defaults, or more if events are large.
func (p *benchPlan) limits() (l struct{ frame, queue int }) {
	l.frame = max(1<<20, p.Size+benchOverhead)
	l.queue = max(1<<20, 4*(p.Size+benchOverhead))
	return l
}

// A payload is {"n":"0…","due":"0…","pad":"x…"}. n is the event's number and due the time at
// which it was due, both with 16 hex digits. pad fills the payload to the plan's size.
const (
	payloadHead = `{"n":"`
	payloadDue  = `","due":"`
	payloadPad  = `","pad":"`
	payloadTail = `"}`
	payloadAt   = len(payloadHead)                 // index of the number
	payloadTime = payloadAt + 16 + len(payloadDue) // index of the time
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

// readPayload is the reverse of setPayload.
func (p *benchPlan) readPayload(payload []byte) (n int, due time.Duration, err error) {
	var b [16]byte
	if len(payload) != p.Size {
		return 0, 0, fmt.Errorf("a payload has %d bytes instead of %d", len(payload), p.Size)
	}
	_, err1 := hex.Decode(b[:8], payload[payloadAt:payloadAt+16])
	_, err2 := hex.Decode(b[8:], payload[payloadTime:payloadTime+16])
	return int(binary.BigEndian.Uint64(b[:])), time.Duration(binary.BigEndian.Uint64(b[8:])), errors.Join(err1, err2)
}

// event returns event n. It writes into payload and shares its bytes.
func (p *benchPlan) event(n int, due time.Duration, payload []byte, ids []string) irohub.Event {
	setPayload(payload, n, due)
	return irohub.Event{Type: benchType, ID: ids[n%p.Topics], Payload: payload}
}

// A benchClock is a clock that all processes of a run share. It counts from 1970. It reads the
// wall clock once at its start, and then follows the monotonic clock, which cannot be set. So
// two processes disagree only if the wall clock was set between their starts. crew.begin
// checks for that.
type benchClock struct{ start time.Time }

func newBenchClock() benchClock { return benchClock{time.Now()} }

func (c benchClock) now() time.Duration {
	return time.Duration(c.start.UnixNano()) + time.Since(c.start)
}
