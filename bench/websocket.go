package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// A webSocketSystem is a hub that one could write in an afternoon. One goroutine passes each event to one
// channel per client. One writer per client puts all waiting events into one message, each on its own line.
//
// Without topics, a client receives every line unchanged. With topics, it does the same as the other
// systems: a client names its topic, and an event is JSON with a topic, which encoding/json decodes.
type webSocketSystem struct {
	topics  bool
	web     webServer
	events  chan webLine
	joining chan *webClient
	stopped chan struct{}
	webClients
}

// A webEvent is an event of a hub with topics.
type webEvent struct {
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

// A webLine is an encoded event for the clients of a topic.
type webLine struct {
	topic string
	line  []byte
}

// A webClient is the hub's side of a connection.
type webClient struct {
	conn *websocket.Conn
	want string      // its topic; empty without topics
	send chan []byte // capacity window; closed by the hub
}

func newWebSocket() system       { return &webSocketSystem{} }
func newWebSocketTopics() system { return &webSocketSystem{topics: true} }

func (s *webSocketSystem) serve(to *audience) (place, error) {
	s.events = make(chan webLine, 64)
	s.joining = make(chan *webClient)
	s.stopped = make(chan struct{})
	go s.run(to)
	return s.web.listen(http.HandlerFunc(s.accept))
}

func (s *webSocketSystem) subscribe(i int, at place, to *audience) error {
	conn, err := s.dial(at)
	if err != nil {
		return err
	}
	if s.topics {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(topic)); err != nil {
			return err
		}
	}
	// The hub's greeting means that the client is subscribed.
	if _, _, err := conn.ReadMessage(); err != nil {
		return err
	}
	s.read(conn, to, func(message []byte) error {
		for line := range bytes.Lines(message) {
			event, err := s.decode(bytes.TrimSuffix(line, newline))
			if err != nil {
				return err
			}
			to.deliver(i, event)
		}
		return nil
	})
	return nil
}

// decode decodes an event in the client.
func (s *webSocketSystem) decode(line []byte) ([]byte, error) {
	if !s.topics {
		return line, nil
	}
	var ev webEvent
	err := json.Unmarshal(line, &ev)
	if err == nil && ev.Type != topic {
		err = fmt.Errorf("an event with the topic %q, which was not subscribed", ev.Type)
	}
	return ev.Payload, err
}

var newline = []byte("\n")

var upgrader = websocket.Upgrader{
	ReadBufferSize:  1024,
	WriteBufferSize: 64 << 10,
	WriteBufferPool: &sync.Pool{},
}

func (s *webSocketSystem) accept(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has sent the error
	}
	defer conn.Close()
	c := &webClient{conn: conn, send: make(chan []byte, window)}
	if s.topics {
		_, want, err := conn.ReadMessage()
		if err != nil {
			return
		}
		c.want = string(want)
	}
	select {
	case s.joining <- c:
		go c.write()
	case <-s.stopped:
		return
	}
	for { // detects the end and answers pings
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

// run is the hub's main loop.
func (s *webSocketSystem) run(to *audience) {
	defer close(s.stopped)
	clients := make(map[string][]*webClient) // by topic, which is "" without topics
	defer func() {
		for _, of := range clients {
			for _, c := range of {
				close(c.send)
			}
		}
	}()
	for {
		select {
		case c := <-s.joining:
			clients[c.want] = append(clients[c.want], c)
			c.send <- []byte("welcome")
		case event, ok := <-s.events:
			if !ok {
				return
			}
			for _, c := range clients[event.topic] {
				select {
				case c.send <- event.line:
				default:
					to.fail(errors.New("a WebSocket client is too slow"))
				}
			}
		}
	}
}

func (c *webClient) write() {
	for event := range c.send {
		w, err := c.conn.NextWriter(websocket.TextMessage)
		if err != nil {
			return
		}
		w.Write(event)
		for range len(c.send) {
			w.Write(newline)
			w.Write(<-c.send)
		}
		if w.Close() != nil {
			return
		}
	}
}

func (s *webSocketSystem) publish(event []byte) error {
	if !s.topics {
		s.events <- webLine{line: event}
		return nil
	}
	line, err := json.Marshal(webEvent{Type: topic, Payload: event})
	if err != nil {
		return err
	}
	s.events <- webLine{topic, line}
	return nil
}

func (s *webSocketSystem) close() {
	s.webClients.close()
	if s.events != nil {
		close(s.events)
		<-s.stopped
	}
	s.web.close()
}

// webClients are the client sides of connections.
type webClients struct {
	reading sync.WaitGroup
	mu      sync.Mutex
	conns   []*websocket.Conn
}

func (c *webClients) dial(at place, protocols ...string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{
		TLSClientConfig: at.clientTLS(),
		Subprotocols:    protocols,
		ReadBufferSize:  16 << 10,
		WriteBufferSize: 1024,
	}
	conn, _, err := dialer.DialContext(context.Background(), at.Addr, nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
	return conn, nil
}

// read starts a goroutine that reads a connection to its end, with one buffer.
func (c *webClients) read(conn *websocket.Conn, to *audience, take func([]byte) error) {
	c.reading.Go(func() {
		var buf bytes.Buffer
		for {
			_, r, err := conn.NextReader()
			if err != nil {
				return // the audience detects lost events
			}
			buf.Reset()
			if _, err := buf.ReadFrom(r); err != nil {
				return
			}
			if err := take(buf.Bytes()); err != nil {
				to.fail(err)
				return
			}
		}
	})
}

func (c *webClients) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.reading.Wait()
}

// A webServer serves one WebSocket handler over TLS.
type webServer struct {
	server   http.Server
	listener net.Listener
	served   chan error
}

func (s *webServer) listen(handler http.Handler) (at place, err error) {
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return at, err
	}
	s.server.Handler = handler
	s.server.TLSConfig = serverTLS().Clone()
	s.server.TLSConfig.NextProtos = []string{"http/1.1"}
	s.served = make(chan error, 1)
	go func() { s.served <- s.server.ServeTLS(s.listener, "", "") }()
	return here("wss://" + s.listener.Addr().String() + "/"), nil
}

func (s *webServer) close() {
	if s.listener != nil {
		s.server.Close()
		<-s.served
	}
}
