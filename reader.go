package irohub

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"irohub/internal/framing"
)

// A member is the hub's side of one spoke, that is, of one stream. This file is its
// reader. It turns frames into operations for the router and asks the application whether
// they are allowed.
type member struct {
	// Immutable.
	hub  *Hub
	peer *peer
	id   NodeID

	// The link, which is immutable, and the subscriptions, which the router owns.
	subscriber

	// Owned by the router. The reader may read number and since after the router's answer to
	// join, and cut after the link's end.
	number        uint64
	since         time.Time
	counted       bool      // is counted in peer.spokes
	expelled      bool      // the router has ended it
	in, out       uint64    // the link's byte counts that are already in the hub's statistics
	cut           SpokeInfo // the state when it was cut off as too slow
	first, second *inbound  // received, but not completed by the router

	// Owned by the reader.
	silent *time.Timer // ends the stream if no whole frame comes in time
	joined bool
	frames framing.Reader
	work   handover[inbound]
	topics namer
	pace   pace
}

func newMember(p *peer, stream Stream) *member {
	opts := &p.hub.opts
	m := &member{
		hub:    p.hub,
		peer:   p,
		id:     p.conn.RemoteID(),
		frames: framing.Reader{Max: min(opts.MaxFrame, maxFirstFrame)},
		pace:   newPace(opts.MaxEventRate, opts.MaxByteRate),
	}
	m.link = newLink(p.ctx, stream, opts.MaxQueue, opts.WriteTimeout)
	m.place = -1
	m.work = newHandover(m.link, p.hub.inbox.inbound, &inbound{from: m}, &inbound{from: m})
	m.link.shut = func(end *CloseError) { p.closed(stream, end) }
	return m
}

// maxFirstFrame is the size limit of a frame before the stream is a spoke, in bytes. It
// bounds what a stranger can make the hub hold.
const maxFirstFrame = 32 << 10

// An inbound is a batch of operations that a reader sends to the router.
type inbound struct {
	from *member
	ops  []op
	lent *[]op   // the pooled array of ops; nil: none
	text *[]byte // the pooled buffer of their events; nil: none
	size int     // bytes that the ops hold

	next int // index of the op that the router does next
}

// encode makes a message that is valid until recycle.
func (in *inbound) encode(topic topicName, payload []byte, from NodeID) (m message) {
	if in.text == nil {
		in.text = encodeBuffers.Get().(*[]byte)
	}
	*in.text, m.run = appendRun(*in.text, topic, payload, from)
	return m
}

// opLists and encodeBuffers lend an inbound its memory, so that an idle reader holds none.
var opLists = sync.Pool{New: func() any { return new(make([]op, 0, maxOps)) }}

func (in *inbound) add(o op) {
	if in.lent == nil {
		in.lent = opLists.Get().(*[]op)
		in.ops = (*in.lent)[:0]
	}
	in.ops = append(in.ops, o)
	in.size += topicSize*len(o.topics) + len(o.reply)
}

// topicSize is the memory that a topic of a request takes besides its text, in bytes.
const topicSize = 32

func (in *inbound) recycle() {
	clear(in.ops) // or the array would keep their contents alive
	if in.lent != nil {
		opLists.Put(in.lent)
	}
	in.lent, in.ops, in.size, in.next = nil, nil, 0, 0
	if in.text != nil {
		recycleText(in.text)
		in.text = nil
	}
}

// An op is the operation that one frame asks of the router.
type op struct {
	kind   opKind
	event  message  // opPublish
	topics []string // opSubscribe, opUnsubscribe
	id     string   // the request's id, for the answer; empty: only a refusal is answered
	reply  []byte   // opRefuse: the answer's frame

	// Owned by the router, which may need several turns for many topics.
	next  int  // index of the next topic
	fresh int  // topics before it that the spoke did not have
	fits  bool // all new topics are within the limit
}

type opKind uint8

const (
	opPublish opKind = iota
	opSubscribe
	opUnsubscribe
	opRefuse // the reader has refused the frame
	opIgnore // a control event of an unknown type
	opEnd    // the spoke has closed its half
)

// read is the reader's goroutine. It also calls the application's callbacks for the spoke.
func (m *member) read() {
	opts := &m.hub.opts
	m.silent = cancelAfter(opts.HandshakeTimeout, m.link.cancel, errSilent)
	err := m.link.readLoop(&m.frames, m.take, m.work.flush)
	m.silent.Stop()
	if err == io.EOF && m.joined {
		if err := m.add(op{kind: opEnd}); err == nil {
			m.work.flush()
		}
	} else {
		m.link.cancel(err)
	}
	<-m.link.closed
	m.link.stream.Abort(0) // nobody reads the rest
	if m.joined {
		m.goodbye(m.link.err())
	}
}

func (m *member) goodbye(err error) {
	opts := &m.hub.opts
	info := m.info()
	if m.cut.Number != 0 {
		info = m.cut
		m.log(slog.LevelWarn, "spoke is too slow", "bytes", info.WaitingBytes, "events", info.WaitingEvents)
		if opts.OnBackpressure != nil {
			m.call("OnBackpressure", func() { opts.OnBackpressure(info) })
		}
	}
	m.log(slog.LevelInfo, "spoke disconnected", reasonOf(err)...)
	if opts.OnDisconnect != nil {
		m.call("OnDisconnect", func() { opts.OnDisconnect(info, err) })
	}
}

// info returns what the reader knows about the spoke. The queue and the subscriptions are the
// router's to add.
func (m *member) info() SpokeInfo {
	return SpokeInfo{
		ID: m.id, Number: m.number, Since: m.since, RemoteAddr: m.peer.addr,
		BytesIn: m.link.bytesIn.Load(), BytesOut: m.link.bytesOut.Load(),
	}
}

func (m *member) log(level slog.Level, text string, attrs ...any) {
	m.hub.logs.Add(level, text, append(attrs, "node", m.id, "spoke", m.number, "addr", m.peer.addr)...)
}

func (m *member) call(name string, f func()) {
	m.hub.logs.Guard(name, func() error { f(); return nil })
}

// join makes the stream a spoke, after its first frame.
func (m *member) join() error {
	q := request[*member]{m, make(chan error, 1)}
	if err := m.post(q); err != nil {
		return err
	}
	if err := <-q.reply; err != nil {
		return err
	}
	m.silent.Stop()
	m.joined = true
	opts := &m.hub.opts
	m.frames.Max = opts.MaxFrame
	m.log(slog.LevelInfo, "spoke connected")
	if opts.OnConnect != nil {
		m.call("OnConnect", func() { opts.OnConnect(m.info()) })
	}
	return nil
}

func (m *member) post(q request[*member]) error {
	select {
	case m.hub.inbox.join <- q:
		return nil
	case <-m.link.ctx.Done():
		return m.link.err()
	case <-m.hub.inbox.done:
		return errShutdown
	}
}

// take turns one frame into an op. It copies what it keeps of the frame.
func (m *member) take(frame []byte) error {
	env, err := parseEnvelope(frame[headerSize:])
	if err != nil {
		return err
	}
	if !m.joined {
		if err := m.join(); err != nil {
			return err
		}
	}
	in, err := m.work.open()
	if err != nil {
		return err
	}
	var op op
	if env.isControl() {
		op, err = m.control(&env)
	} else {
		op = m.event(&env, in)
	}
	if err != nil {
		return err
	}
	in.size += len(frame)
	if err := m.add(op); err != nil {
		return err
	}
	return m.slowDown(len(frame))
}

// add adds an op to the batch for the router.
func (m *member) add(op op) error {
	in, err := m.work.open()
	if err != nil {
		return err
	}
	in.add(op)
	if len(in.ops) == maxOps || in.size >= maxOpsSize {
		return m.work.flush()
	}
	return nil
}

// event returns the op for an event that the spoke publishes. It encodes the event in in's
// buffer.
func (m *member) event(env *envelope, in *inbound) op {
	opts := &m.hub.opts
	topic := m.topics.name(env.typ, env.id)
	if err := validTopic(topic.text); err != nil {
		return refuse("", refusedTopic, topic.text, err)
	}
	if err := m.allow("AllowPublish", opts.AllowPublish, topic.text); err != nil {
		return refuse("", refusedForbidden, topic.text, err)
	}
	msg := in.encode(topic, env.payload, m.id)
	if size := len(msg.bytes) - headerSize; size > opts.MaxFrame {
		// A spoke with the same limit could not take it.
		return refuse("", refusedPayload, topic.text, fmt.Errorf("with its from, the frame has %d bytes, the limit is %d", size, opts.MaxFrame))
	}
	msg.sender = &m.subscriber
	if opts.Forward != nil {
		m.call("Forward", func() { msg.forward = opts.Forward(m.id, topic.text) })
	}
	return op{kind: opPublish, event: msg}
}

// control returns the op for a control event.
func (m *member) control(env *envelope) (op, error) {
	o := op{id: string(env.id)}
	switch string(env.typ) {
	case typeSubscribe:
		o.kind = opSubscribe
	case typeUnsubscribe:
		o.kind = opUnsubscribe
	default:
		return op{kind: opIgnore}, nil
	}
	if len(o.id) > maxTopic {
		return refuse("", refusedPayload, "", fmt.Errorf("the id has %d bytes, the limit is %d", len(o.id), maxTopic)), nil
	}
	topics, ok, err := controlTopics(env.payload, m.hub.opts.MaxSubscriptions)
	if err != nil {
		return o, err
	}
	if !ok {
		return refuse(o.id, refusedPayload, "", errors.New(`the payload is neither {"topic":string} nor {"topics":[string]}`)), nil
	}
	if most := m.hub.opts.MaxSubscriptions; len(topics) > most {
		return refuse(o.id, refusedTooMany, topics[most], limitOfTopics(most)), nil
	}
	o.topics = topics
	for _, topic := range o.topics {
		if err := validTopic(topic); err != nil {
			return refuse(o.id, refusedTopic, topic, err), nil
		}
		if o.kind == opUnsubscribe {
			continue
		}
		// Only its owner may subscribe to a mailbox. So nobody may subscribe to direct:*.
		if owner, direct := strings.CutPrefix(topic, directPrefix); direct && owner != m.id.String() {
			why := "the mailbox of another node"
			if strings.EqualFold(owner, m.id.String()) {
				why = "the NodeID of a mailbox is written in lower case"
			}
			return refuse(o.id, refusedForbidden, topic, errors.New(why)), nil
		}
		if err := m.allow("AllowSubscribe", m.hub.opts.AllowSubscribe, topic); err != nil {
			return refuse(o.id, refusedForbidden, topic, err), nil
		}
	}
	return o, nil
}

func (m *member) allow(name string, policy func(NodeID, string) error, topic string) error {
	if policy == nil {
		return nil
	}
	return m.hub.permission(name, func() error { return policy(m.id, topic) })
}

// refuse returns the op for a frame that the reader refuses. The answer passes the router,
// to stay in order with other answers.
func refuse(id, code, topic string, err error) op {
	return op{kind: opRefuse, reply: errorFrame(id, code, topic, err.Error())}
}

// A pace limits how fast a spoke may send. It has two token buckets, each of which holds the
// tokens of one second. Only the reader uses it.
type pace struct {
	frames, bytes bucket
}

type bucket struct {
	rate float64 // tokens per second, and the bucket's capacity; 0: no limit
	have float64 // tokens; negative: a debt
	at   time.Time
}

func newPace(frames, bytes int) pace {
	return pace{newBucket(frames), newBucket(bytes)}
}

func newBucket(rate int) bucket {
	r := float64(max(rate, 0))
	return bucket{rate: r, have: r}
}

// spend takes the tokens of one frame and returns how long to wait before the next frame.
func (p *pace) spend(bytes int) time.Duration {
	if p.frames.rate == 0 && p.bytes.rate == 0 {
		return 0
	}
	now := time.Now()
	return max(p.frames.spend(1, now), p.bytes.spend(float64(bytes), now))
}

func (b *bucket) spend(n float64, now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	if !b.at.IsZero() {
		b.have = min(b.rate, b.have+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.have -= n; b.have >= 0 {
		return 0
	}
	return time.Duration(-b.have / b.rate * float64(time.Second))
}

// slowDown waits if the spoke has sent more than it may. Before waiting, it sends the batch to
// the router. It does not wait once the connection has ended: little is left to read then, and
// the hub should learn soon that the spoke is gone.
func (m *member) slowDown(bytes int) error {
	wait := m.pace.spend(bytes)
	if wait == 0 {
		return nil
	}
	if err := m.work.flush(); err != nil {
		return err
	}
	select {
	case <-time.After(wait):
		return nil
	case <-m.peer.over:
		return nil
	case <-m.link.ctx.Done():
		return m.link.err()
	}
}

// limitOfTopics returns the message of a refusedTooMany.
func limitOfTopics(most int) error { return fmt.Errorf("the limit is %d topics", most) }
