package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"irohub"
)

// doze runs the life of a spoke whose Subscription is not read until it ends as too slow. The queue then
// holds the first of the events that arrived, and the Spoke itself continues.
func (a *actor) doze() (again bool) {
	l := a.dial(4 * largePad)
	if l == nil {
		return false
	}
	defer l.end()
	for end := time.Now().Add(around(10 * a.pace)); time.Now().Before(end); {
		if !l.dozeOnce() {
			break
		}
	}
	select {
	case <-a.rest:
		l.settle()
		return false
	default:
		l.finish()
		return true
	}
}

// dozeOnce returns whether the Subscription ended as expected; false if the soak has ended.
func (l *life) dozeOnce() bool {
	topics := []int{0, l.topics}
	w := l.ledger.newWatch(nil, nil, topics...)
	ctx, cancel := l.patience()
	defer cancel()
	sub, err := l.spoke.Subscribe(ctx, topicName(0), topicName(l.topics))
	if err != nil {
		l.failSubscribing(err)
		return false
	}
	defer sub.Close()
	w.begin()
	for sub.Err() == nil {
		select {
		case <-l.rest:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	listener := l.listen(l.String(), sub, w)
	<-listener.done
	if code, ok := closedWith(sub.Err()); !ok || code != irohub.CodeSlow {
		l.fail("%s: a Subscription that nobody read ended with %v", l, sub.Err())
		return false
	}
	l.dozes.Add(1)
	return true
}

// freeze runs the life of a spoke that does not read from its connection until the hub has cut it off. Then
// it reads what was in flight.
func (a *actor) freeze() (again bool) {
	cut := make(chan struct{}, 1)
	a.frozen.Store(a.endpoint.ID(), cut)
	err := a.freezeOnce(cut)
	select {
	case <-a.rest:
	default:
		if err == nil {
			return true
		}
	}
	if err != nil {
		a.fail("%s, frozen: %v", a, err)
	}
	a.atRest()
	return false
}

func (a *actor) freezeOnce(cut <-chan struct{}) error {
	w := a.ledger.newWatch(nil, nil, a.topics)
	var conn irohub.Conn
	var stream irohub.Stream
	err := a.persist(func(ctx context.Context) (err error) {
		if conn, err = a.endpoint.Dial(ctx, a.addr); err != nil {
			return err
		}
		if stream, err = subscribeByHand(ctx, conn, topicName(a.topics)); err != nil {
			conn.Close(0, "")
		}
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close(0, "")
	a.connects.Add(1)
	w.begin()
	ctx, cancel := a.patience()
	defer cancel()
	select {
	case <-cut:
	case <-a.rest:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the hub did not cut it off within %v, although it did not read", patience)
	}
	for frames := (frames{ctx, stream}); ; {
		ev, err := frames.next()
		if err != nil {
			switch code, ok := closedWith(err); {
			case ok && tooSlow(code):
				return nil
			case !ok && errors.Is(err, net.ErrClosed):
				a.unheard.Add(1) // over UDP, the packet with the close code may be lost
				return nil
			}
			return fmt.Errorf("it was cut off with %w", err)
		}
		a.checked.Add(1)
		if err := w.see(ev); err != nil {
			return err
		}
	}
}

// subscribeByHand opens a stream and subscribes by writing the frames itself.
func subscribeByHand(ctx context.Context, conn irohub.Conn, topic string) (irohub.Stream, error) {
	stream, err := conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	request := fmt.Sprintf(`{"type":"__subscribe","id":"1","payload":{"topic":%q}}`, topic)
	if _, err := stream.Write(ctx, append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)); err != nil {
		return nil, err
	}
	ack, err := frames{ctx, stream}.next()
	if err == nil && ack.Type != "__ack" {
		err = fmt.Errorf("%s instead of an acknowledgement", ack.Type)
	}
	return stream, err
}

// frames yields the frames of a stream.
type frames struct {
	ctx    context.Context
	stream irohub.Stream
}

func (f frames) next() (ev irohub.Event, err error) {
	var head [4]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return ev, err
	}
	text := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(f, text); err != nil {
		return ev, err
	}
	return ev, json.Unmarshal(text, &ev)
}

func (f frames) Read(p []byte) (int, error) { return f.stream.Read(f.ctx, p) }
