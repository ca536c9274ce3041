package websocket

import (
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"irohub"
	"irohub/internal/records"
)

var discard = log.New(io.Discard, "", 0)

func record(k records.Kind, body string) string { return string([]byte{byte(k)}) + body }

func number(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// full is a window of data.
func full() (messages []string) {
	for range records.Window / records.MaxData {
		messages = append(messages, record(records.Data, strings.Repeat("x", records.MaxData)))
	}
	return messages
}

func TestRecords_ProtocolErrors(t *testing.T) {
	e := serveTest(t, Options{})
	for name, messages := range map[string][]string{
		"an empty message":   {""},
		"unknown kind":       {record(records.Kinds, "")},
		"kind 255":           {"\xffabc"},
		"another hello":      {mHello + strings.Repeat("x", 80)},
		"empty data":         {record(records.Data, "")},
		"data too long":      {record(records.Data, strings.Repeat("x", records.MaxData+1))},
		"far too long":       {record(records.Data, strings.Repeat("x", 1<<20))},
		"short credit":       {record(records.Credit, "abc")},
		"long credit":        {record(records.Credit, "abcde")},
		"no credit":          {record(records.Credit, "\x00\x00\x00\x00")},
		"credit for nothing": {record(records.Credit, "\x00\x00\x00\x01")},
		"huge credit":        {record(records.Credit, "\xff\xff\xff\xff")},
		"fin with a body":    {record(records.Fin, "x")},
		"two fins":           {record(records.Fin, ""), record(records.Fin, "")},
		"data after fin":     {record(records.Fin, ""), record(records.Data, "x")},
		"ack of nothing":     {record(records.Ack, "")},
		"ack with a body":    {record(records.Ack, "x")},
		"short abort":        {record(records.Abort, "1234567")},
		"long abort":         {record(records.Abort, "123456789")},
		"short close":        {record(records.Close, "1234567")},
		"close with a novel": {record(records.Close, number(1)+strings.Repeat("x", records.MaxReason+1))},
		"alive with a body":  {record(records.Alive, "x")},
		"over the window":    append(full(), record(records.Data, "x")),
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := besieged(t, e)
			go theirs.send(messages...)
			wantCode(t, ours.Wait(testContext(t)), irohub.CodeProtocol)
			theirs.wantTold(irohub.CodeProtocol)
		})
	}
	t.Run("a text", func(t *testing.T) {
		theirs, ours := besieged(t, e)
		theirs.Write(theirs.ctx, websocket.MessageText, []byte("\x06"))
		wantCode(t, ours.Wait(testContext(t)), irohub.CodeProtocol)
		theirs.wantTold(irohub.CodeProtocol)
	})
}

// What is no WebSocket ends the connection too. The library may have said so in its own way.
func TestRecords_BrokenWebSocket(t *testing.T) {
	e := serveTest(t, Options{})
	for name, bytes := range map[string]string{
		"without a mask":        "\x82\x01\x06",
		"an unknown opcode":     "\x83\x81\x00\x00\x00\x00\x06",
		"a compressed message":  "\xc2\x81\x00\x00\x00\x00\x06",
		"a negative length":     "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"a continuation alone":  "\x80\x81\x00\x00\x00\x00\x06",
		"a message in another":  "\x02\x81\x00\x00\x00\x00\x00\x82\x81\x00\x00\x00\x00\x06",
		"a ping in parts":       "\x09\x80\x00\x00\x00\x00",
		"a close with one byte": "\x88\x81\x00\x00\x00\x00\x06",
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := besieged(t, e)
			io.WriteString(theirs.below, bytes)
			wantCode(t, ours.Wait(testContext(t)), irohub.CodeProtocol)
		})
	}
	for name, bytes := range map[string]string{
		"nothing":                  "",
		"half a header":            "\x82",
		"a header alone":           "\x82\x81\x00\x00\x00\x00",
		"half a record":            "\x82\x89\x00\x00\x00\x00\x05",
		"half a large one":         "\x82\xfe\x04\x00\x00\x00\x00\x00\x00data",
		"a part of a message":      "\x02\x81\x00\x00\x00\x00\x05",
		"a close of WebSocket's":   "\x88\x82\x00\x00\x00\x00\x03\xe9",
		"one that has no status":   "\x88\x80\x00\x00\x00\x00",
		"a whole one, but for one": "\x82\x83\x00\x00\x00\x00\x00a",
	} {
		t.Run("ends after "+name, func(t *testing.T) {
			theirs, ours := besieged(t, e)
			io.WriteString(theirs.below, bytes)
			theirs.below.Conn.Close()
			err := ours.Wait(testContext(t))
			if _, ok := errors.AsType[*lostError](err); !ok || !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v, want a lost connection", err)
			}
		})
	}
}

// Each status of a WebSocket that calls what we sent wrong is code 2.
func TestRecords_StatusOfAProtocolError(t *testing.T) {
	e := serveTest(t, Options{})
	for _, status := range []websocket.StatusCode{1002, 1003, 1007, 1009} {
		theirs, ours := besieged(t, e)
		theirs.Close(status, "")
		wantCode(t, ours.Wait(testContext(t)), irohub.CodeProtocol)
	}
}

// A message may come in parts, with pings between them.
func TestRecords_PartsOfAMessage(t *testing.T) {
	theirs, ours := besieged(t, serveTest(t, Options{}))
	io.WriteString(theirs.below, "\x02\x80\x00\x00\x00\x00"+"\x00\x81\x00\x00\x00\x00\x00"+"\x89\x80\x00\x00\x00\x00"+
		"\x00\x82\x00\x00\x00\x00ab"+"\x80\x81\x00\x00\x00\x00c")
	s, err := ours.AcceptStream(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := readN(t, s, 3); string(got) != "abc" {
		t.Errorf("%q", got)
	}
}

func TestRecords_CloseReasonsArriveAsUTF8(t *testing.T) {
	e := serveTest(t, Options{})
	for reason, want := range map[string]string{
		"":              "",
		"\x00\n\x1b[2J": "\x00\n\x1b[2J",
		"a\xff\xfeb":    "a\uFFFDb",
		strings.Repeat("é", records.MaxReason/2): strings.Repeat("é", records.MaxReason/2),
	} {
		for _, n := range []uint64{0, 1, 1<<64 - 1} {
			theirs, ours := besieged(t, e)
			theirs.send(record(records.Close, number(n)+reason))
			if got := wantCode(t, ours.Wait(testContext(t)), n); got != want {
				t.Errorf("reason %q, want %q", got, want)
			}
		}
	}
}

// What has no purpose costs nothing: no answer, and nothing kept.
func TestRecords_FloodsAreHarmless(t *testing.T) {
	theirs, ours := besieged(t, serveTest(t, Options{}))
	go func() {
		go io.Copy(io.Discard, theirs.below) // the pongs
		for range 2000 {
			theirs.send(record(records.Alive, ""), record(records.Abort, number(4)))
			io.WriteString(theirs.below, "\x89\x80\x00\x00\x00\x00"+"\x8a\x80\x00\x00\x00\x00") // ping, pong
		}
		theirs.send(record(records.Close, number(9)))
	}()
	wantCode(t, ours.Wait(testContext(t)), 9)
}
