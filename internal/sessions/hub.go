package sessions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"irohub"
)

// A hubPlayer plays the spokes of a script, and the application at its hub.
type hubPlayer struct {
	player
	script      *HubScript
	newEndpoint func(zero bool) irohub.Endpoint
	endpoints   map[string]irohub.Endpoint // the spokes' endpoints, by name
	place       irohub.Endpoint            // the hub's
	hub         *irohub.Hub
	heard       chan irohub.Event
	spokes      map[string]*raw
	tasks       sync.WaitGroup
	shutdowns   sync.WaitGroup
}

// A raw is a spoke that the player controls frame by frame.
type raw struct {
	conn   irohub.Conn
	frames frameReader
	over   bool
}

// PlayHub plays a script against a Hub. newEndpoint makes an endpoint; if asked to, one of the
// zero node. See Again for lossy.
func PlayHub(t *testing.T, ctx context.Context, script *HubScript, lossy bool, newEndpoint func(zero bool) irohub.Endpoint) {
	p := &hubPlayer{
		script:      script,
		newEndpoint: newEndpoint,
		endpoints:   make(map[string]irohub.Endpoint),
		place:       newEndpoint(false),
		heard:       make(chan irohub.Event, 1000),
		spokes:      make(map[string]*raw),
	}
	p.player = player{T: t, ctx: ctx, lossy: lossy, node: func(name string) irohub.NodeID {
		if name == "hub" {
			return p.place.ID()
		}
		return p.endpoint(name).ID()
	}}
	var err error
	p.hub, err = irohub.NewHub(p.options(), p.place)
	p.must(err)
	sub, err := p.hub.Subscribe(ctx)
	p.must(err)
	p.tasks.Go(func() {
		for ev := range sub.Events() {
			p.heard <- ev
		}
	})
	p.tasks.Go(func() {
		if err := p.hub.Serve(ctx); !errors.Is(err, irohub.ErrHubClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	defer func() {
		for _, r := range p.spokes {
			r.conn.Close(0, "")
		}
		p.shutdowns.Wait() // otherwise Close would cut them short
		p.hub.Close()
		p.tasks.Wait()
		p.place.Close()
		for _, e := range p.endpoints {
			e.Close()
		}
	}()
	for i := range script.Steps {
		p.at = i
		p.do(&script.Steps[i])
	}
	for name, r := range p.spokes {
		if !r.over {
			p.at = len(script.Steps)
			p.write(r, frame(`{"type":"__subscribe","id":"end","payload":{"topics":[]}}`))
			p.receive(r, &step{On: name, arg: json.RawMessage(`{"type":"__ack","id":"end"}`)})
		}
	}
}

func (p *hubPlayer) options() irohub.HubOptions {
	o := &p.script.Options
	opts := irohub.HubOptions{
		MaxFrame:          o.MaxFrame,
		MaxQueue:          o.MaxQueue,
		MaxSpokes:         o.MaxSpokes,
		MaxSpokesPerNode:  o.MaxSpokesPerNode,
		MaxStreamsPerConn: o.MaxStreams,
		MaxSubscriptions:  o.MaxTopics,
		HandshakeTimeout:  time.Duration(o.FirstFrameMS) * time.Millisecond,
		AllowSubscribe:    deny(o.DenySubscribe),
		AllowPublish:      deny(o.DenyPublish),
		Forward:           func(irohub.NodeID, string) bool { return o.Forward },
	}
	var nodes []irohub.NodeID
	for _, name := range o.DenyNodes {
		nodes = append(nodes, p.endpoint(name).ID())
	}
	opts.Admit = func(_ context.Context, id irohub.NodeID) error {
		if slices.Contains(nodes, id) {
			return errors.New("denied")
		}
		return nil
	}
	return opts
}

func deny(topics []string) func(irohub.NodeID, string) error {
	return func(_ irohub.NodeID, topic string) error {
		if slices.Contains(topics, topic) {
			return fmt.Errorf("%q is denied", topic)
		}
		return nil
	}
}

// endpoint returns the endpoint of a spoke.
func (p *hubPlayer) endpoint(name string) irohub.Endpoint {
	place := p.script.Spokes[name]
	if other := cmp.Or(place.Node, place.Connection); other != "" && other != zero {
		return p.endpoint(other)
	}
	if p.endpoints[name] == nil {
		p.endpoints[name] = p.newEndpoint(place.Node == zero)
	}
	return p.endpoints[name]
}

func (p *hubPlayer) spoke(s *step) *raw {
	p.Helper()
	name := s.On
	if name == "" {
		name = "a"
	}
	if r := p.spokes[name]; r != nil {
		return r
	}
	r := &raw{}
	if other := p.script.Spokes[name].Connection; other != "" {
		r.conn = p.spokes[other].conn
	} else {
		conn, err := p.endpoint(name).Dial(p.ctx, p.place.Addr())
		p.must(err)
		r.conn = conn
	}
	p.spokes[name] = r
	stream, err := r.conn.OpenStream(p.ctx)
	p.unlessClosed(err)
	r.frames.stream = stream
	return r
}

// unlessClosed ignores that the hub closed: the script checks the code.
func (p *hubPlayer) unlessClosed(err error) {
	p.Helper()
	var end *irohub.CloseError
	if !errors.As(err, &end) {
		p.must(err)
	}
}

func (p *hubPlayer) write(r *raw, bytes []byte) {
	p.Helper()
	if r.frames.stream != nil {
		_, err := r.frames.stream.Write(p.ctx, bytes)
		p.unlessClosed(err)
	}
}

func (r *raw) next(ctx context.Context) ([]byte, error) {
	if r.frames.stream == nil {
		return nil, r.conn.Wait(ctx)
	}
	return r.frames.next(ctx)
}

func (p *hubPlayer) do(s *step) {
	p.Helper()
	switch s.verb {
	case "publish":
		ev := p.event(s)
		for range max(1, s.Times) {
			p.must(p.hub.Publish(p.ctx, ev))
		}
		return
	case "heard":
		p.hears(s)
		return
	case "shutdown":
		p.shutdowns.Go(func() {
			if err := p.hub.Shutdown(p.ctx); err != nil {
				p.Errorf("Shutdown: %v", err)
			}
		})
		return
	}
	r := p.spoke(s)
	switch s.verb {
	case "send", "hex":
		p.write(r, p.stream(s))
	case "finish":
		r.over = true
		p.tasks.Go(func() { r.frames.stream.CloseWrite(p.ctx) })
	case "abort":
		r.over = true
		r.frames.stream.Abort(p.code(s))
	case "close":
		r.over = true
		r.conn.Close(p.code(s), "")
	case "receive":
		p.receive(r, s)
	case "eof":
		r.over = true
		if got, err := r.next(p.ctx); err != io.EOF {
			p.fail("%s, %v; want the end of the stream", short(got), err)
		}
	case "aborted":
		r.over = true
		got, err := r.next(p.ctx)
		if err == nil {
			p.fail("%s; want that the stream is aborted", short(got))
		}
		p.wantCode(err, p.code(s))
	case "closed":
		r.over = true
		got, err := r.next(p.ctx)
		for s.Skip && err == nil {
			got, err = r.next(p.ctx)
		}
		if err == nil {
			p.fail("%s; want that the connection is closed", short(got))
		}
		p.wantCode(r.conn.Wait(p.ctx), p.code(s))
	default:
		p.fail("there is no verb %q", s.verb)
	}
}

func (p *hubPlayer) receive(r *raw, s *step) {
	p.Helper()
	got, err := r.next(p.ctx)
	for s.Skip && err == nil && !p.like(got, s.arg) {
		got, err = r.next(p.ctx)
	}
	if err != nil {
		p.fail("%v; want %s", err, s.arg)
	}
	if !p.like(got, s.arg) {
		p.fail("got %s, want %s", short(got), s.arg)
	}
	var env struct {
		ID      string
		Payload json.RawMessage
	}
	p.must(json.Unmarshal(got, &env))
	if s.Payload != nil && string(env.Payload) != *s.Payload {
		p.fail("payload %s, want %s", env.Payload, *s.Payload)
	}
	if s.Most > 0 && len(got)-len(env.ID) > s.Most {
		p.fail("%d bytes besides an id of %d, want %d at most", len(got)-len(env.ID), len(env.ID), s.Most)
	}
}

func (p *hubPlayer) hears(s *step) {
	p.Helper()
	select {
	case ev := <-p.heard:
		if want := p.event(s); want.From == (irohub.NodeID{}) {
			ev.From = want.From
		}
		got, err := json.Marshal(ev)
		p.must(err)
		if !p.like(got, s.arg) {
			p.fail("heard %s, want %s", short(got), s.arg)
		}
	case <-p.ctx.Done():
		p.fail("heard nothing")
	}
}
