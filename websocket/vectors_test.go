package websocket

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"irohub"
	"irohub/internal/records"
	"irohub/key"
)

var update = flag.Bool("update", false, "write docs/vectors/websocket.json anew")

const vectorsFile = "../docs/vectors/websocket.json"

// Vectors are what implementations in other languages are checked with.
type vectors struct {
	Description  []string          `json:"description"`
	Subprotocols map[string]string `json:"subprotocols"`
	Hosts        []hostVector      `json:"hosts"`
	Weak         []string          `json:"weak"`
	Handshakes   []handshakeVector `json:"handshakes"`
	Records      []recordVector    `json:"records"`
	Invalid      []invalidVector   `json:"invalid"`
}

type hostVector struct {
	URL  string `json:"url"`
	Host string `json:"host"`
}

type handshakeVector struct {
	Name        string `json:"name"`
	Subprotocol string `json:"subprotocol"`
	Host        string `json:"host"`
	HubSeed     string `json:"hub_seed"`
	Hub         string `json:"hub"`
	SpokeSeed   string `json:"spoke_seed"`
	Spoke       string `json:"spoke"`
	HubNonce    string `json:"hub_nonce"`
	SpokeNonce  string `json:"spoke_nonce"`
	HubSigns    string `json:"hub_signs"`
	SpokeSigns  string `json:"spoke_signs"`
	Hello       string `json:"hello"`
	Answer      string `json:"answer"`
	Proof       string `json:"proof"`
}

type recordVector struct {
	Message string  `json:"message"`
	Kind    string  `json:"kind"`
	Data    string  `json:"data,omitempty"`
	Number  string  `json:"number,omitempty"`
	Reason  *string `json:"reason,omitempty"`
}

type invalidVector struct {
	Message string `json:"message"`
	Why     string `json:"why"`
}

var vectorsDescription = []string{
	"Test vectors of alkpubsub/1 over WebSocket; docs/protocol.md has the rules. Bytes are in hex.",
	"subprotocols: the name of the subprotocol for an ALPN.",
	"hosts: the host that is signed for a URL that is dialled.",
	"weak: NodeIDs for which anybody can sign. Each is refused with the top bit of its last byte set, too.",
	"handshakes: hub_seed and spoke_seed are the Ed25519 secret keys of hub and spoke. hub_signs and spoke_signs are the bytes that each signs; hello, answer and proof are the messages. With the same keys and nonces an implementation makes the same bytes.",
	"records: messages that a receiver takes on a fresh connection whose fin was sent and is not acknowledged, and that has used 2^18 bytes of its credit. number is that of a credit, an abort or a close, in decimal digits.",
	"invalid: messages for which it closes with code 2.",
}

func makeVectors() vectors {
	v := vectors{
		Description:  vectorsDescription,
		Subprotocols: map[string]string{"alkpubsub/1": "alkpubsub.1", "my-app/2/beta": "my-app.2.beta"},
	}
	for _, u := range []string{
		"wss://hub.example.org/events", "wss://HUB.example.org:443/", "wss://hub.example.org:8443/?a=b", "wss://hub.example.org:80/",
		"wss://xn--bcher-kva.example/", "wss://192.0.2.1/", "wss://[2001:DB8:0:0:0:0:0:1]:443/",
		"ws://localhost:8080/hub", "ws://localhost:80/", "ws://[::1]/",
	} {
		_, host, err := parseURL(u)
		if err != nil {
			panic(err)
		}
		v.Hosts = append(v.Hosts, hostVector{u, host})
	}
	v.Weak = []string{
		strings.Repeat("00", 32),
		"01" + strings.Repeat("00", 31),
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ec" + strings.Repeat("ff", 30) + "7f",
		"ed" + strings.Repeat("ff", 30) + "7f",
		"ee" + strings.Repeat("ff", 30) + "7f",
	}
	for i, at := range []struct{ name, protocol, host string }{
		{"a hub on the web", "alkpubsub.1", "hub.example.org"},
		{"on a port, over IPv6", "alkpubsub.1", "[2001:db8::1]:8443"},
		{"the longest host, another protocol", "my-app.2.beta", strings.Repeat("a", 63) + strings.Repeat(".b", 96)},
	} {
		v.Handshakes = append(v.Handshakes, makeHandshake(byte(i), at.name, at.protocol, at.host))
	}
	reason := func(s string) *string { return &s }
	v.Records = []recordVector{
		{Message: record(records.Data, "a"), Kind: "data", Data: "a"},
		{Message: record(records.Data, "\x00\x01\x02\xff"), Kind: "data", Data: "\x00\x01\x02\xff"},
		{Message: record(records.Credit, "\x00\x00\x00\x01"), Kind: "credit", Number: "1"},
		{Message: record(records.Credit, "\x00\x02\x00\x00"), Kind: "credit", Number: "131072"},
		{Message: record(records.Fin, ""), Kind: "fin"},
		{Message: record(records.Ack, ""), Kind: "ack"},
		{Message: record(records.Abort, number(4)), Kind: "abort", Number: "4"},
		{Message: record(records.Close, number(0)), Kind: "close", Number: "0", Reason: reason("")},
		{Message: record(records.Close, number(1)+"down for a minute"), Kind: "close", Number: "1", Reason: reason("down for a minute")},
		{Message: record(records.Close, number(1<<64-1)+"größer"), Kind: "close", Number: "18446744073709551615", Reason: reason("größer")},
		{Message: record(records.Close, number(5)+"a\xffb"), Kind: "close", Number: "5", Reason: reason("a\uFFFDb")},
		{Message: record(records.Alive, ""), Kind: "alive"},
	}
	v.Invalid = []invalidVector{
		{"", "no kind"},
		{record(records.Data, ""), "no data"},
		{record(records.Credit, "\x00\x00\x00"), "a credit of three bytes"},
		{record(records.Credit, "\x00\x00\x00\x00"), "a credit of nothing"},
		{record(records.Credit, "\x00\x04\x00\x01"), "more credit than was used"},
		{record(records.Fin, "x"), "a fin with a byte"},
		{record(records.Ack, "x"), "an ack with a byte"},
		{record(records.Abort, "1234567"), "an abort of seven bytes"},
		{record(records.Close, "1234567"), "a close of seven bytes"},
		{record(records.Alive, "x"), "an alive with a byte"},
		{record(records.Kinds, ""), "an unknown kind"},
		{mHello + strings.Repeat("x", 80), "a hello after the handshake"},
	}
	for i := range v.Records {
		v.Records[i].Message, v.Records[i].Data = hexed(v.Records[i].Message), hexed(v.Records[i].Data)
	}
	for i := range v.Invalid {
		v.Invalid[i].Message = hexed(v.Invalid[i].Message)
	}
	return v
}

func hexed[T string | []byte](p T) string { return hex.EncodeToString([]byte(p)) }

// counting are the bytes n, n+1 and so on.
func counting(n byte) (p [32]byte) {
	for i := range p {
		p[i] = n + byte(i)
	}
	return p
}

func makeHandshake(i byte, name, protocol, host string) handshakeVector {
	hub, spoke := counting(i), counting(32+i)
	hubSecret, spokeSecret := key.FromSeed(hub), key.FromSeed(spoke)
	s := statement{
		hub: hubSecret.ID(), spoke: spokeSecret.ID(), hubNonce: counting(64 + i), spokeNonce: counting(96 + i),
		protocol: protocol, host: host,
	}
	return handshakeVector{
		Name: name, Subprotocol: protocol, Host: host,
		HubSeed: hexed(hub[:]), Hub: s.hub.String(), SpokeSeed: hexed(spoke[:]), Spoke: s.spoke.String(),
		HubNonce: hexed(s.hubNonce[:]), SpokeNonce: hexed(s.spokeNonce[:]),
		HubSigns: hexed(s.bytes(roleHub)), SpokeSigns: hexed(s.bytes(roleSpoke)),
		Hello:  hexed(s.hello()),
		Answer: hexed(s.answer(hubSecret)),
		Proof:  hexed(s.proof(spokeSecret)),
	}
}

func TestVectors_AreThoseOfTheFile(t *testing.T) {
	var want bytes.Buffer
	out := json.NewEncoder(&want)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(makeVectors()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(vectorsFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(vectorsFile); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what go test -run Vectors -update makes (%v)", vectorsFile, err)
	}
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is signed, put together from the document alone, and the signatures by the standard
// library alone.
func TestVectors_Handshakes(t *testing.T) {
	for _, v := range readVectors(t).Handshakes {
		t.Run(v.Name, func(t *testing.T) {
			signed := func(role byte) []byte {
				return slices.Concat([]byte("irohub websocket handshake 1\x00"), []byte{role}, unhex(t, v.Hub), unhex(t, v.Spoke),
					unhex(t, v.HubNonce), unhex(t, v.SpokeNonce), []byte{byte(len(v.Subprotocol))}, []byte(v.Subprotocol), []byte(v.Host))
			}
			if got := hexed(signed(1)); got != v.SpokeSigns {
				t.Errorf("the spoke signs %s, want %s", got, v.SpokeSigns)
			}
			if got := hexed(signed(2)); got != v.HubSigns {
				t.Errorf("the hub signs %s, want %s", got, v.HubSigns)
			}
			hub, spoke := ed25519.NewKeyFromSeed(unhex(t, v.HubSeed)), ed25519.NewKeyFromSeed(unhex(t, v.SpokeSeed))
			for what, pair := range map[string][2]string{
				"hello":  {v.Hello, "10" + v.Spoke + v.SpokeNonce + hexed(v.Host)},
				"answer": {v.Answer, "11" + v.Hub + v.HubNonce + hexed(ed25519.Sign(hub, signed(2)))},
				"proof":  {v.Proof, "12" + hexed(ed25519.Sign(spoke, signed(1)))},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %s, want %s", what, pair[0], pair[1])
				}
			}
		})
	}
}

func TestVectors_WeakKeysAreRefused(t *testing.T) {
	weak := readVectors(t).Weak
	if len(weak) != 7 {
		t.Errorf("%d weak keys", len(weak))
	}
	for _, s := range weak {
		id, err := irohub.ParseNodeID(s)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if strong(id) == nil {
				t.Errorf("%s is not refused", id)
			}
			id[31] ^= 0x80
		}
	}
}

// Each record is taken, or not, by a connection.
func TestVectors_Records(t *testing.T) {
	e := serveTest(t, Options{})
	used := func() (*hostile, *conn) {
		theirs, ours := besieged(t, e)
		theirs.send(record(records.Data, "!"))
		s, err := ours.AcceptStream(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(testContext(t), make([]byte, records.Window)); err != nil {
			t.Fatal(err)
		}
		ctx := testContext(t)
		go s.CloseWrite(ctx)
		for { // until all has come
			_, p, err := theirs.Read(theirs.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if string(p) == record(records.Fin, "") {
				return theirs, ours
			}
		}
	}
	v := readVectors(t)
	for _, r := range v.Records {
		t.Run(r.Message, func(t *testing.T) {
			theirs, ours := used()
			theirs.send(string(unhex(t, r.Message)))
			want, reason := uint64(9), ""
			if r.Kind == "close" {
				want, reason = decimal(t, r.Number), *r.Reason
			} else {
				theirs.send(record(records.Close, number(9)))
			}
			if got := wantCode(t, ours.Wait(testContext(t)), want); got != reason {
				t.Errorf("reason %q, want %q", got, reason)
			}
		})
	}
	for _, r := range v.Invalid {
		t.Run(r.Why, func(t *testing.T) {
			theirs, ours := used()
			theirs.send(string(unhex(t, r.Message)), record(records.Close, number(9)))
			wantCode(t, ours.Wait(testContext(t)), irohub.CodeProtocol)
		})
	}
}

func decimal(t *testing.T, digits string) (n uint64) {
	t.Helper()
	if err := json.Unmarshal([]byte(digits), &n); err != nil {
		t.Fatal(err)
	}
	return n
}
