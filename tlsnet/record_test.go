package tlsnet

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"irohub"
	"irohub/internal/records"
)

// hostile is a peer that completes the handshake and then sends what the test writes.
func hostile(t *testing.T) (theirs *tls.Conn, ours irohub.Conn) {
	t.Helper()
	return hostileOf(t, bindTest(t, Options{Addr: "127.0.0.1:0"}))
}

func hostileOf(t *testing.T, e *Endpoint) (theirs *tls.Conn, ours irohub.Conn) {
	t.Helper()
	theirs = tls.Client(dialTCP(t, e), testConfig(t))
	shook := make(chan error, 1)
	go func() { shook <- theirs.Handshake() }()
	ours, err := handshake(testContext(t), e)
	if err := errors.Join(err, <-shook); err != nil {
		t.Fatal(err)
	}
	return theirs, ours
}

func record(k records.Kind, body string) string {
	h := newHeader(k, len(body))
	return string(h[:]) + body
}

// full is window bytes of data.
func full() string {
	return strings.Repeat(record(records.Data, strings.Repeat("x", records.MaxData)), records.Window/records.MaxData)
}

func code(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

func TestRecords_ProtocolErrors(t *testing.T) {
	wrong := map[string]string{
		"unknown kind":       record(records.Kinds, ""),
		"kind 255":           record(255, "abc"),
		"empty data":         record(records.Data, ""),
		"data too long":      record(records.Data, strings.Repeat("x", records.MaxData+1)),
		"short credit":       record(records.Credit, "abc"),
		"long credit":        record(records.Credit, "abcde"),
		"no credit":          record(records.Credit, "\x00\x00\x00\x00"),
		"credit for nothing": record(records.Credit, "\x00\x00\x00\x01"),
		"huge credit":        record(records.Credit, "\xff\xff\xff\xff"),
		"fin with a body":    record(records.Fin, "x"),
		"two fins":           record(records.Fin, "") + record(records.Fin, ""),
		"data after fin":     record(records.Fin, "") + record(records.Data, "x"),
		"ack of nothing":     record(records.Ack, ""),
		"ack with a body":    record(records.Ack, "x"),
		"short abort":        record(records.Abort, "1234567"),
		"long abort":         record(records.Abort, "123456789"),
		"short close":        record(records.Close, "1234567"),
		"close with a novel": record(records.Close, code(1)+strings.Repeat("x", records.MaxReason+1)),
		"alive with a body":  record(records.Alive, "x"),
		"over the window":    full() + record(records.Data, "x"),
	}
	for name, bytes := range wrong {
		t.Run(name, func(t *testing.T) {
			theirs, ours := hostile(t)
			go io.WriteString(theirs, bytes)
			wantCode(t, ours.Wait(testContext(t)), irohub.CodeProtocol)
			// The peer is told too.
			said, _ := io.ReadAll(theirs)
			if want := record(records.Close, code(irohub.CodeProtocol)); len(said) < len(want) || !strings.Contains(string(said), code(irohub.CodeProtocol)) {
				t.Errorf("they got %q, want a close with code 2", said)
			}
		})
	}
}

func TestRecords_CloseReasonsArriveAsUTF8(t *testing.T) {
	for reason, want := range map[string]string{
		"":              "",
		"\x00\n\x1b[2J": "\x00\n\x1b[2J",
		"a\xff\xfeb":    "a\uFFFDb",
		strings.Repeat("é", records.MaxReason/2):     strings.Repeat("é", records.MaxReason/2),
		strings.Repeat("\xffx", records.MaxReason/2): strings.Repeat("\uFFFDx", records.MaxReason/4),
		record(records.Close, "12345678"):            record(records.Close, "12345678"),
	} {
		for _, n := range []uint64{0, 1, 1<<64 - 1} {
			theirs, ours := hostile(t)
			io.WriteString(theirs, record(records.Close, code(n)+reason))
			if got := wantCode(t, ours.Wait(testContext(t)), n); got != want {
				t.Errorf("reason %q, want %q", got, want)
			}
		}
	}
}

func TestRecords_LongReasonIsCutBetweenCharacters(t *testing.T) {
	dialled, accepted := pair(t)
	dialled.Close(7, "x"+strings.Repeat("é", records.MaxReason))
	if got := wantCode(t, accepted.Wait(testContext(t)), 7); got != "x"+strings.Repeat("é", records.MaxReason/2-1) {
		t.Errorf("a reason of %d bytes: …%q", len(got), got[max(0, len(got)-4):])
	}
}

func TestRecords_EndInsideOne(t *testing.T) {
	for _, bytes := range []string{"", "\x00", record(records.Data, "abcdef")[:7], record(records.Close, code(1))[:6], record(records.Close, code(1)+"why")[:13]} {
		theirs, ours := hostile(t)
		io.WriteString(theirs, bytes)
		theirs.Close()
		err := ours.Wait(testContext(t))
		if _, ok := errors.AsType[*lostError](err); !ok {
			t.Errorf("after %q: %v, want a lost connection", bytes, err)
		}
	}
}

// Pointless records cost nothing: they get no answer, and nothing is stored.
func TestRecords_FloodsAreHarmless(t *testing.T) {
	theirs, ours := hostile(t)
	go func() {
		for range 10_000 {
			io.WriteString(theirs, record(records.Alive, "")+record(records.Abort, code(4)))
		}
		io.WriteString(theirs, record(records.Close, code(9)))
	}()
	wantCode(t, ours.Wait(testContext(t)), 9)
}

// A counter is a receiver that counts records and bytes.
type counter struct{ bytes, records int }

func (c *counter) data(r io.Reader, n int) error {
	if n < 1 || n > records.MaxData {
		return fmt.Errorf("%d bytes of data", n)
	}
	_, err := io.CopyN(io.Discard, r, int64(n))
	return c.add(n, unexpected(err))
}
func (c *counter) credit(uint32) error { return c.add(4, nil) }
func (c *counter) fin() error          { return c.add(0, nil) }
func (c *counter) ack() error          { return c.add(0, nil) }
func (c *counter) abort(uint64) error  { return c.add(8, nil) }
func (c *counter) closed(_ uint64, reason string) error {
	if len(reason) > records.MaxReason {
		return fmt.Errorf("a reason of %d bytes", len(reason))
	}
	return c.add(8+len(reason), nil)
}
func (c *counter) add(n int, err error) error {
	c.bytes += n
	c.records++
	return err
}

// FuzzRecords reads records from random input. Reading ends with one of three errors and
// consumes no more than the input.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{
		"", record(records.Data, "abc"), record(records.Data, ""), record(records.Credit, "abcd"), record(records.Fin, "") + record(records.Ack, ""),
		record(records.Abort, code(4)), record(records.Close, code(1)+"why"), record(records.Alive, "") + record(records.Kinds, ""),
		record(records.Close, code(1)+strings.Repeat("x", 2000)), "\x00\x01\x00\x00abc", "\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var got counter
		r := recordReader{r: bytes.NewReader(in)}
		var err error
		read := 0
		for err == nil {
			if err = r.next(&got); err == nil {
				read++
			}
		}
		if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, records.Err) {
			t.Errorf("%v", err)
		}
		if got.bytes+4*got.records > len(in) && err == io.EOF {
			t.Errorf("%d records with %d bytes from %d", got.records, got.bytes, len(in))
		}
	})
}
