package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/centrifugal/protocol"
	"github.com/gorilla/websocket"
)

// A centrifugeSystem is a centrifuge node over WebSocket, with the Protobuf form of its protocol. The
// client here is minimal: it connects, subscribes, answers pings, and decodes with the protocol's own
// module.
type centrifugeSystem struct {
	node *centrifuge.Node
	web  webServer
	webClients
}

func newCentrifuge() system { return &centrifugeSystem{} }

func (s *centrifugeSystem) serve(to *audience) (at place, err error) {
	if s.node, err = centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone}); err != nil {
		return at, err
	}
	s.node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:        &centrifuge.Credentials{},
			MaxMessagesInFrame: -1, // its documentation recommends larger frames for clients with many messages
		}, nil
	})
	s.node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
		c.OnDisconnect(func(e centrifuge.DisconnectEvent) {
			if e.Code != centrifuge.DisconnectConnectionClosed.Code {
				to.fail(fmt.Errorf("centrifuge disconnected a client: %s", e.Reason))
			}
		})
	})
	if err := s.node.Run(); err != nil {
		return at, err
	}
	return s.web.listen(centrifuge.NewWebsocketHandler(s.node, centrifuge.WebsocketConfig{
		WriteBufferSize:    16 << 10,
		UseWriteBufferPool: true,
		WriteTimeout:       patience,
		CheckOrigin:        func(*http.Request) bool { return true },
	}))
}

func (s *centrifugeSystem) subscribe(i int, at place, to *audience) error {
	conn, err := s.dial(at, "centrifuge-protobuf")
	if err != nil {
		return err
	}
	c := &centrifugeClient{conn: conn, ready: make(chan error, 1), deliver: func(event []byte) { to.deliver(i, event) }}
	if err := c.send(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}}); err != nil {
		return err
	}
	s.read(conn, to, c.take)
	select {
	case err := <-c.ready:
		return err
	case <-time.After(patience):
		return errors.New("centrifuge does not answer")
	}
}

func (s *centrifugeSystem) publish(event []byte) error {
	_, err := s.node.Publish(topic, event)
	return err
}

func (s *centrifugeSystem) close() {
	s.webClients.close()
	s.web.close()
	if s.node != nil {
		s.node.Shutdown(context.Background())
	}
}

// A centrifugeClient is used only by the goroutine that reads its connection.
type centrifugeClient struct {
	conn    *websocket.Conn
	deliver func([]byte)
	ready   chan error // capacity 1: the result of subscribing
}

// take handles one message, which contains one or more replies of the server.
func (c *centrifugeClient) take(message []byte) error {
	decoder := protocol.NewProtobufReplyDecoder(message)
	for {
		reply, err := decoder.Decode()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case reply.Push != nil && reply.Push.Pub != nil:
			c.deliver(reply.Push.Pub.Data)
		case reply.Error != nil:
			return errors.New("centrifuge: " + reply.Error.Message)
		case reply.Id == 1:
			err = c.send(&protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: topic}})
		case reply.Id == 2:
			c.ready <- nil
		case reply.Push == nil: // a ping
			err = c.send(&protocol.Command{})
		}
		if err != nil {
			return err
		}
	}
}

func (c *centrifugeClient) send(command *protocol.Command) error {
	p, err := protocol.NewProtobufCommandEncoder().Encode(command)
	if err != nil {
		return err
	}
	return c.conn.WriteMessage(websocket.BinaryMessage, p)
}
