package simulation

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"irohub"
)

// A hostile is an attacker: a spoke that attacks a hub, or a hub that attacks spokes.
type hostile struct {
	w    *world
	name string
	ctx  context.Context
	stop context.CancelFunc
}

func (w *world) hostile(name string, do func(e *hostile)) {
	e := &hostile{w: w, name: name}
	e.ctx, e.stop = context.WithCancel(context.Background())
	w.evil = append(w.evil, e)
	w.logf("hostile: %s", name)
	go func() {
		defer e.stop()
		do(e)
	}()
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func subscribeFrame(typ, id string, names ...string) []byte {
	list, _ := json.Marshal(names)
	return frame(fmt.Sprintf(`{"type":"%s","id":"%s","payload":{"topics":%s}}`, typ, id, list))
}

// many returns as many topic names as a request may have.
func many(n, from int) (names []string) {
	for i := range n {
		names = append(names, "m:"+strconv.Itoa(from+i))
	}
	return names
}

func (e *hostile) pause(most time.Duration) bool {
	return sleep(e.ctx, time.Duration(e.w.pick(int(most)))) == nil
}

// dial connects to the hub as a separate node.
func (e *hostile) dial() *conn {
	w := e.w
	n := w.node()
	ep := w.net.endpoint(idOf(n), fmt.Sprintf("hostile-%d", n))
	ctx, cancel := context.WithTimeout(e.ctx, 10*time.Second)
	defer cancel()
	c, err := ep.Dial(ctx, irohub.Addr{ID: w.hubID, Hosts: []string{hubHost}})
	if err != nil {
		return nil
	}
	conn := c.(*conn)
	context.AfterFunc(e.ctx, func() {
		if e.w.pick(2) == 0 {
			conn.Close(uint64(e.w.pick(7)), "enough")
		} else {
			conn.vanish()
		}
	})
	return conn
}

func (e *hostile) write(s irohub.Stream, p []byte) bool {
	_, err := s.Write(e.ctx, p)
	return err == nil
}

// garbage returns bytes that are not frames, or almost frames.
func (e *hostile) garbage() []byte {
	w := e.w
	switch w.pick(6) {
	case 0:
		return []byte(strings.Repeat("\xff", 1+w.pick(100)))
	case 1:
		return frame(`{"type":"t","id":"0","payload":`)
	case 2:
		return frame(strings.Repeat("[", 200))
	case 3:
		return frame(`{"type":"__subscribe","id":"x","payload":{"topics":["a","a","__b","direct:x"]}}`)
	case 4:
		p := subscribeFrame("__subscribe", "1", "t:*", "t:1")
		p[w.pick(len(p))] ^= byte(1 << w.pick(8))
		return p
	}
	return frame(`{"type":"__unknown"}`)[:1+w.pick(20)]
}

// noise connects and sends garbage in pieces.
func noise(e *hostile) {
	c := e.dial()
	if c == nil {
		return
	}
	s, err := c.OpenStream(e.ctx)
	if err != nil {
		return
	}
	if e.w.pick(2) == 0 && !e.write(s, subscribeFrame("__subscribe", "1")) {
		return
	}
	p := e.garbage()
	for _, b := range p {
		if !e.write(s, []byte{b}) {
			return
		}
		if e.w.pick(4) == 0 && !e.pause(3*time.Second) {
			return
		}
	}
	switch e.w.pick(4) {
	case 0:
		s.CloseWrite(e.ctx)
	case 1:
		s.Abort(uint64(e.w.pick(8)))
	case 2:
		c.vanish()
	}
	<-e.ctx.Done()
}

// silent connects and sends nothing, or one byte now and then.
func silent(e *hostile) {
	c := e.dial()
	if c == nil {
		return
	}
	if s, err := c.OpenStream(e.ctx); err == nil && e.w.pick(2) == 0 {
		for _, b := range frame(`{"type":"t","payload":"` + strings.Repeat("x", 100) + `"}`) {
			if !e.write(s, []byte{b}) || !e.pause(6*time.Second) {
				return
			}
		}
	}
	<-e.ctx.Done()
}

// streams keeps connections and opens one stream after another over each; few become spokes.
func streams(e *hostile) {
	for range 1 + e.w.pick(4) {
		go func() {
			c := e.dial()
			pace := e.w.plan.hub.HandshakeTimeout >> e.w.pick(5)
			for range 30 {
				if c == nil || c.single || !e.stream(c) || !e.pause(pace) {
					return
				}
			}
		}()
	}
	<-e.ctx.Done()
}

// stream opens a stream, on which it begins a frame, or sends a good or a bad one.
func (e *hostile) stream(c *conn) bool {
	s, err := c.OpenStream(e.ctx)
	if err != nil {
		return false
	}
	switch e.w.pick(4) {
	case 0:
		e.write(s, subscribeFrame("__subscribe", "1", "t:*"))
	case 1:
		e.write(s, e.garbage())
	default:
		e.write(s, []byte{0})
	}
	switch e.w.pick(6) {
	case 0:
		s.Abort(7)
	case 1:
		go s.CloseWrite(e.ctx)
	}
	return true
}

// crowd occupies places at the hub.
func crowd(e *hostile) {
	for range e.w.plan.hub.MaxSpokes {
		c := e.dial()
		if c == nil {
			return
		}
		if s, err := c.OpenStream(e.ctx); err == nil {
			e.write(s, subscribeFrame("__subscribe", "1"))
			go e.read(s)
		}
	}
	<-e.ctx.Done()
}

// open dials and opens a stream; nil if it was rejected.
func (e *hostile) open() irohub.Stream {
	c := e.dial()
	if c == nil {
		return nil
	}
	s, err := c.OpenStream(e.ctx)
	if err != nil {
		return nil
	}
	return s
}

// read reads and discards everything.
func (e *hostile) read(s irohub.Stream) {
	p := make([]byte, 4096)
	for {
		if _, err := s.Read(e.ctx, p); err != nil {
			return
		}
	}
}

// restless subscribes to published topics and reads nothing. It keeps subscribing and
// unsubscribing until it is cut off, and then starts again.
func restless(e *hostile) {
	for range 10 {
		e.pause(time.Second)
		s := e.open()
		if s == nil {
			continue
		}
		for range 12 {
			h := e.w.lastHub()
			go h.publish(e.w.source(h, nil), 4, 300)
			var p []byte
			for range 1 + e.w.pick(30) {
				p = append(p, subscribeFrame("__subscribe", "", "t:*", "noise:*")...)
				if e.w.pick(4) == 0 {
					p = append(p, subscribeFrame("__unsubscribe", "", "t:*")...)
				}
			}
			if !e.write(s, p) || e.w.pick(2) == 0 && !e.pause(50*time.Millisecond) {
				break
			}
		}
	}
}

// dear sends the most expensive requests, as often as it can.
func dear(e *hostile) {
	s := e.open()
	if s == nil {
		return
	}
	reads := e.w.pick(2) == 0
	if reads {
		go e.read(s)
	}
	n := e.w.plan.hub.MaxSubscriptions
	on, off := subscribeFrame("__subscribe", "", many(n, 0)...), subscribeFrame("__unsubscribe", "", many(n, 0)...)
	for range 5 {
		var p []byte
		for range 3 {
			p = append(append(p, on...), off...)
		}
		if !e.write(s, p) || !e.pause(time.Second) {
			return
		}
	}
}

// flood publishes as fast as it can.
func flood(e *hostile) {
	s := e.open()
	if s == nil {
		return
	}
	for range 15 {
		var p []byte
		for range 50 {
			p = append(p, frame(`{"type":"noise","id":"`+strconv.Itoa(e.w.pick(3))+`","payload":"`+strings.Repeat("n", e.w.pick(200))+`"}`)...)
		}
		if !e.write(s, p) || !e.pause(300*time.Millisecond) {
			return
		}
	}
}

// badHub is a hub with arbitrary answers.
func badHub(host string, id irohub.NodeID) func(e *hostile) {
	return func(e *hostile) {
		ep := e.w.net.endpoint(id, host)
		e.w.net.mu.Lock()
		ep.single = ep.single || e.w.net.chance(0.7) // a single-stream endpoint can send first
		e.w.net.mu.Unlock()
		context.AfterFunc(e.ctx, func() { ep.Close() })
		answers := []string{}
		for {
			in, err := ep.Accept(e.ctx)
			if err != nil {
				return
			}
			if e.w.pick(10) == 0 {
				in.Refuse()
				continue
			}
			c, err := in.Handshake(e.ctx)
			if err != nil {
				continue
			}
			e.serve(c.(*conn), &answers)
		}
	}
}

// serve runs one connection of a bad hub. The hub remembers the requests of all connections.
func (e *hostile) serve(c *conn, answers *[]string) {
	s, err := c.AcceptStream(e.ctx)
	if err != nil {
		return
	}
	if len(*answers) > 0 && e.w.pick(4) > 0 { // an answer before the request
		for _, id := range *answers {
			e.write(s, frame(`{"type":"__ack","id":"`+id+`"}`))
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, time.Duration(e.w.pick(1<<(20+e.w.pick(13)))))
	defer cancel()
	patience := 1 << 30 // how many requests it answers
	if e.w.pick(2) == 0 {
		patience = e.w.pick(4)
	}
	var buf []byte
	for {
		p := make([]byte, 4096)
		n, err := s.Read(ctx, p)
		if err != nil {
			break
		}
		buf = append(buf, p[:n]...)
		for len(buf) >= 4 {
			n := 4 + int(binary.BigEndian.Uint32(buf))
			if len(buf) < n {
				break
			}
			var ev struct{ Type, ID string }
			json.Unmarshal(buf[4:n], &ev)
			buf = buf[n:]
			if ev.Type != "__subscribe" {
				continue
			}
			*answers = append(*answers, ev.ID)
			if patience--; patience < 0 {
				continue
			}
			switch e.w.pick(12) {
			case 0:
				e.write(s, frame(`{"type":"__error","id":"`+ev.ID+`","payload":{"code":"forbidden","topic":"t","message":"no"}}`))
			case 1:
				if e.w.pick(4) == 0 {
					e.write(s, e.garbage())
				}
			case 2:
			case 3:
				e.write(s, frame(`{"type":"__ack","id":"`+strconv.Itoa(e.w.pick(30))+`"}`))
			case 4:
				e.write(s, frame(`{"type":"t","id":"1","payload":{}}`))
				fallthrough
			default:
				e.write(s, frame(`{"type":"__ack","id":"`+ev.ID+`"}`))
			}
		}
	}
	switch e.w.pick(5) {
	case 0:
		s.CloseWrite(ctx)
		c.Close(0, "")
	case 1:
		s.Abort([]uint64{0, 1, 4, 6, 7}[e.w.pick(5)])
	case 2:
		c.vanish()
	default:
		c.Close([]uint64{0, 1, 4, 6}[e.w.pick(4)], "bad")
	}
}
