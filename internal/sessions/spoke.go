package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"irohub"
)

// A spokePlayer plays the hub of a script, and the application at its spoke.
type spokePlayer struct {
	player
	place irohub.Endpoint // the hub's
	links []*link
	*link // the newest one

	spoke      *irohub.Spoke // set once it is connected
	dialled    chan dialling
	told       chan error // lost connections; nil: connected again
	subscribed chan error
	flushed    chan error
	left       chan error
	subs       map[string]*subscription
	may        []json.RawMessage // events that may arrive
	tasks      sync.WaitGroup
}

type dialling struct {
	spoke *irohub.Spoke
	err   error
}

// A subscription is one of the application's subscriptions. All those without a name count as
// one.
type subscription struct {
	events chan irohub.Event
	ended  chan struct{} // closed when a named one ends
	*irohub.Subscription
}

// A link is the hub's end of a connection.
type link struct {
	conn   irohub.Conn
	frames frameReader
	got    chan []byte // frames for the script; closed at the end of the stream

	mu     sync.Mutex // guards the fields below; one goroutine writes at a time
	silent bool
	held   []string      // ids of unanswered requests without topics
	holds  chan struct{} // capacity 1: gets a token for each addition to held
}

// PlaySpoke plays a script against a Spoke. See Again for lossy.
func PlaySpoke(t *testing.T, ctx context.Context, script *SpokeScript, lossy bool, hub, spoke irohub.Endpoint) {
	p := &spokePlayer{
		place:      hub,
		dialled:    make(chan dialling, 1),
		told:       make(chan error, 100),
		subscribed: make(chan error, 100),
		flushed:    make(chan error, 100),
		left:       make(chan error, 1),
		subs:       make(map[string]*subscription),
	}
	p.player = player{T: t, ctx: ctx, lossy: lossy, id: make(map[string][]string), node: func(name string) irohub.NodeID {
		if name == "hub" {
			return hub.ID()
		}
		return spoke.ID()
	}}
	go func() {
		s, err := irohub.Dial(ctx, spoke, hub.Addr(), irohub.SpokeOptions{
			MaxFrame:   script.Options.MaxFrame,
			MaxQueue:   script.Options.MaxQueue,
			MinBackoff: time.Millisecond,
			MaxBackoff: 100 * time.Millisecond,
			OnDisconnect: func(err error) {
				if _, code := errors.AsType[*irohub.CloseError](err); !code {
					p.lost.Store(true)
				}
				p.told <- err
			},
			OnReconnect: func() { p.told <- nil },
		})
		p.dialled <- dialling{s, err}
	}()
	defer func() {
		for _, l := range p.links { // so that the end of the spoke need not wait for its hub
			l.conn.Close(0, "")
		}
		hub.Close()
		if p.spoke == nil {
			select {
			case d := <-p.dialled:
				p.spoke = d.spoke
			case <-ctx.Done():
			}
		}
		if p.spoke != nil {
			p.spoke.Close()
		}
		p.tasks.Wait()
		spoke.Close()
	}()
	for i := range script.Steps {
		p.at = i
		p.do(&script.Steps[i])
	}
}

func (p *spokePlayer) do(s *step) {
	p.Helper()
	switch s.verb {
	case "accept":
		p.accept(s.Silent)
	case "greet":
		p.hold()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, id := range p.held {
			p.link.send(p.ctx, ack(id))
		}
		p.held = nil
	case "hold":
		p.hold()
	case "request":
		p.request(s)
	case "send", "hex":
		p.mu.Lock()
		defer p.mu.Unlock()
		p.link.send(p.ctx, p.stream(s))
	case "publishes":
		if got, ok := p.next(); !ok || !p.like(got, s.arg) {
			p.fail("got %s, want %s", short(got), s.arg)
		}
	case "eof":
		if got, ok := p.next(); ok {
			p.fail("got %s, want the end of the stream", short(got))
		}
	case "end":
		err := p.frames.stream.CloseWrite(p.ctx)
		if end := (*irohub.CloseError)(nil); !errors.As(err, &end) || end.Code != 0 { // otherwise the spoke was faster
			p.must(err)
		}
		p.conn.Close(p.code(s), "")
	case "finish":
		l := p.link
		p.tasks.Go(func() { l.frames.stream.CloseWrite(p.ctx) })
	case "abort":
		p.frames.stream.Abort(p.code(s))
	case "close":
		p.conn.Close(p.code(s), "")
	case "closed":
		p.wantCode(p.conn.Wait(p.ctx), p.code(s))
	default:
		p.application(s)
	}
}

// await waits for a callback to the application.
func await[T any](p *spokePlayer, what string, c <-chan T) T {
	p.Helper()
	select {
	case v := <-c:
		return v
	case <-p.ctx.Done():
		p.fail("waits for %s in vain", what)
		panic("not reached")
	}
}

func (p *spokePlayer) application(s *step) {
	p.Helper()
	switch s.verb {
	case "connected":
		d := await(p, "the connection", p.dialled)
		p.must(d.err)
		p.spoke = d.spoke
	case "subscribe":
		var topics []string
		p.must(json.Unmarshal(s.arg, &topics))
		sub := p.sub(s.Sub)
		p.tasks.Go(func() { p.subscribe(s.Sub, sub, topics) })
	case "subscribed":
		p.must(await(p, "the subscription", p.subscribed))
	case "unsubscribe":
		p.sub(p.name(s)).Close()
	case "read":
		sub := p.sub(p.name(s))
		p.tasks.Go(func() { p.read(sub) })
	case "sub_ends":
		p.subEnds(s)
	case "refused":
		p.wantRefusal(s, await(p, "the refusal", p.subscribed))
	case "publish":
		p.must(p.spoke.Publish(p.ctx, p.event(s)))
	case "flush":
		p.tasks.Go(func() { p.flushed <- p.spoke.Flush(p.ctx) })
	case "flushed":
		err := await(p, "the flush", p.flushed)
		switch string(s.arg) {
		case "true":
			p.must(err)
		case `"lost"`:
			if end := (*irohub.CloseError)(nil); !errors.As(err, &end) {
				p.fail("%v, want that the connection was lost", err)
			}
		default:
			p.wantRefusal(s, err)
		}
	case "may_deliver":
		p.may = append(p.may, s.arg)
	case "delivers":
		p.delivers(s)
	case "lost":
		if err := await(p, "the loss", p.told); err == nil {
			p.fail("it is back")
		} else {
			p.wantCode(err, p.code(s))
		}
	case "back":
		if err := await(p, "the spoke to be back", p.told); err != nil {
			p.fail("%v; want that it is back", err)
		}
	case "ends":
		p.ends(p.code(s))
	case "leave":
		go func() { p.left <- p.spoke.Close() }()
	case "left":
		err := await(p, "the end of Close", p.left)
		if string(s.arg) == "true" {
			p.must(err)
		} else if err == nil {
			p.fail("it has gone well")
		}
	default:
		p.fail("there is no verb %q", s.verb)
	}
}

// accept accepts the spoke's next connection.
func (p *spokePlayer) accept(silent bool) {
	p.Helper()
	in, err := p.place.Accept(p.ctx)
	p.must(err)
	conn, err := in.Handshake(p.ctx)
	p.must(err)
	stream, err := conn.AcceptStream(p.ctx)
	p.must(err)
	l := &link{
		conn:   conn,
		frames: frameReader{stream: stream},
		got:    make(chan []byte, 100),
		silent: silent,
		holds:  make(chan struct{}, 1),
	}
	p.links, p.link = append(p.links, l), l
	p.tasks.Go(func() { l.read(p.ctx) })
}

// read answers the frames that the script leaves to the player, and passes on the rest.
func (l *link) read(ctx context.Context) {
	defer close(l.got)
	for {
		got, err := l.frames.next(ctx)
		if err != nil {
			return
		}
		typ, id, topics := request(got)
		if typ == "__unsubscribe" || typ == "__subscribe" && len(topics) == 0 {
			l.answer(ctx, id, typ == "__subscribe")
			continue
		}
		l.got <- got
	}
}

func (l *link) answer(ctx context.Context, id string, empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case id == "":
	case l.silent && empty:
		l.held = append(l.held, id)
		select {
		case l.holds <- struct{}{}:
		default:
		}
	default:
		l.send(ctx, ack(id))
	}
}

func ack(id string) []byte {
	text, _ := json.Marshal(map[string]string{"type": "__ack", "id": id})
	return frame(string(text))
}

// send is called with mu held. It ignores errors: the script checks how the spoke closes.
func (l *link) send(ctx context.Context, bytes []byte) { l.frames.stream.Write(ctx, bytes) }

// request reads a spoke's request.
func request(frame []byte) (typ, id string, topics []string) {
	var env struct {
		Type, ID string
		Payload  struct {
			Topic  *string
			Topics []string
		}
	}
	json.Unmarshal(frame, &env) // fails for events, whose payload differs
	if env.Payload.Topic != nil {
		env.Payload.Topics = append(env.Payload.Topics, *env.Payload.Topic)
	}
	return env.Type, env.ID, env.Payload.Topics
}

// hold waits until a request without topics is unanswered.
func (p *spokePlayer) hold() {
	p.Helper()
	select {
	case <-p.holds:
	case <-p.ctx.Done():
		p.fail("no request without topics has come")
	}
}

// next returns the spoke's next frame; false: its half of the stream has ended.
func (p *spokePlayer) next() ([]byte, bool) {
	p.Helper()
	select {
	case got, ok := <-p.got:
		return got, ok
	case <-p.ctx.Done():
		p.fail("the spoke sends nothing")
		panic("not reached")
	}
}

func (p *spokePlayer) request(s *step) {
	p.Helper()
	var want string
	p.must(json.Unmarshal(s.arg, &want))
	rest := slices.Clone(s.Topics)
	p.id[s.As] = nil
	for len(rest) > 0 {
		got, ok := p.next()
		typ, id, topics := request(got)
		if !ok || typ != want || id == "" {
			p.fail("got %s, want %s of %q", short(got), want, rest)
		}
		for _, topic := range topics {
			i := slices.Index(rest, topic)
			if i < 0 {
				p.fail("got %s, want %s of %q", short(got), want, rest)
			}
			rest = slices.Delete(rest, i, i+1)
		}
		p.id[s.As] = append(p.id[s.As], id)
	}
}

// name returns a step's argument as a name.
func (p *spokePlayer) name(s *step) (name string) {
	p.Helper()
	p.must(json.Unmarshal(s.arg, &name))
	return name
}

// sub returns the subscription of a name. A later step may make it.
func (p *spokePlayer) sub(name string) *subscription {
	sub := p.subs[name]
	if sub == nil {
		sub = &subscription{events: make(chan irohub.Event, 100), ended: make(chan struct{})}
		p.subs[name] = sub
	}
	return sub
}

// subscribe sets a subscription's Subscription before it signals that it exists.
func (p *spokePlayer) subscribe(name string, sub *subscription, topics []string) {
	got, err := p.spoke.Subscribe(p.ctx, topics...)
	if name == "" {
		sub = &subscription{events: sub.events, ended: make(chan struct{})}
	}
	sub.Subscription = got
	p.subscribed <- err
	if err == nil && !strings.HasPrefix(name, "unread") {
		p.read(sub)
	}
}

func (p *spokePlayer) read(sub *subscription) {
	defer close(sub.ended)
	for ev := range sub.Events() {
		select {
		case sub.events <- ev:
		case <-p.ctx.Done():
		}
	}
}

// subEnds checks that a subscription has ended, and with which error.
func (p *spokePlayer) subEnds(s *step) {
	p.Helper()
	sub := p.sub(s.Sub)
	await(p, "the end of the subscription", sub.ended)
	if len(sub.events) > 0 {
		p.fail("%s has come before", (<-sub.events).Topic())
	}
	switch err := sub.Err(); s.arg[0] {
	case 't':
		p.must(err)
	case '"':
		p.wantRefusal(s, err)
	default:
		p.wantCode(err, p.code(s))
	}
}

// wantRefusal checks an error caused by a hub's refusal. A Spoke treats unknown codes as
// invalid.
func (p *spokePlayer) wantRefusal(s *step, err error) {
	p.Helper()
	want := irohub.ErrInvalid
	switch string(s.arg) {
	case `"forbidden"`:
		want = irohub.ErrForbidden
	case `"too_many_subscriptions"`:
		want = irohub.ErrTooMany
	}
	if !errors.Is(err, want) {
		p.fail("%v, want the refusal %s", err, s.arg)
	}
}

func (p *spokePlayer) delivers(s *step) {
	p.Helper()
	closed := make(chan error, 1)
	if s.OrClosed != nil {
		l := p.link
		p.tasks.Go(func() { closed <- l.conn.Wait(p.ctx) })
	}
	for {
		select {
		case ev := <-p.sub(s.Sub).events:
			got, err := json.Marshal(ev)
			p.must(err)
			if p.like(got, s.arg) {
				p.may = nil
				return
			}
			i := slices.IndexFunc(p.may, func(may json.RawMessage) bool { return p.like(got, may) })
			if i < 0 {
				p.fail("got %s, want %s", short(got), s.arg)
			}
			p.may = slices.Delete(p.may, i, i+1)
		case err := <-closed:
			p.wantCode(err, *s.OrClosed)
			p.ends(*s.OrClosed)
			return
		case <-p.ctx.Done():
			p.fail("waits for the event in vain")
		}
	}
}

// ends checks that the spoke, or the attempt to connect, has ended finally.
func (p *spokePlayer) ends(code uint64) {
	p.Helper()
	if p.spoke == nil {
		d := await(p, "the end", p.dialled)
		p.dialled <- d
		p.wantCode(d.err, code)
		return
	}
	var err error
	for err == nil { // it may queue a few before it learns of the end
		err = p.spoke.Publish(p.ctx, irohub.Event{Type: "ended"})
	}
	p.wantCode(err, code)
}
