// Package sessions plays the scripts of docs/vectors/sessions.json and docs/vectors/clients.json
// against this module's Hub and Spoke, over any transport. These files describe their own
// format.
package sessions

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"irohub"
)

// A File is the content of docs/vectors/sessions.json. clients.json has only scripts for spokes.
type File struct {
	Description []string
	Hub         []HubScript
	Spoke       []SpokeScript
}

// A HubScript says how a hub must respond to what spokes send.
type HubScript struct {
	Name    string
	Options struct {
		MaxFrame         int      `json:"max_frame"`
		MaxQueue         int      `json:"max_queue"`
		MaxSpokes        int      `json:"max_spokes"`
		MaxSpokesPerNode int      `json:"max_spokes_per_node"`
		MaxStreams       int      `json:"max_streams"`
		MaxTopics        int      `json:"max_topics"`
		FirstFrameMS     int      `json:"first_frame_ms"`
		DenyNodes        []string `json:"deny_nodes"`
		DenySubscribe    []string `json:"deny_subscribe"`
		DenyPublish      []string `json:"deny_publish"`
		Forward          bool
	}
	Spokes map[string]struct{ Node, Connection string }
	Steps  []step
}

// OneStream reports whether a script needs only one stream per connection.
func (s *HubScript) OneStream() bool {
	for _, spoke := range s.Spokes {
		if spoke.Connection != "" {
			return false
		}
	}
	return true
}

// zero names the node whose NodeID is all zeros.
const zero = "zero"

// ZeroNode reports whether a script needs the node whose NodeID is all zeros.
func (s *HubScript) ZeroNode() bool {
	for _, spoke := range s.Spokes {
		if spoke.Node == zero {
			return true
		}
	}
	return false
}

// A SpokeScript says how a spoke must respond to what a hub sends.
type SpokeScript struct {
	Name    string
	Options struct {
		MaxFrame int `json:"max_frame"`
		MaxQueue int `json:"max_queue"`
	}
	Steps []step
}

// A step is a verb and its arguments.
type step struct {
	verb string
	arg  json.RawMessage

	On       string
	Payload  *string
	Most     int
	Skip     bool
	Times    int
	Silent   bool
	Topics   []string
	As       string
	OrClosed *uint64 `json:"or_closed"`
	Sub      string
}

func (s *step) UnmarshalJSON(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	type known step
	if err := json.Unmarshal(text, (*known)(s)); err != nil {
		return err
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[step]()) {
		name := field.Tag.Get("json")
		if name == "" {
			name = strings.ToLower(field.Name)
		}
		if field.IsExported() {
			delete(members, name)
		}
	}
	if len(members) != 1 {
		return fmt.Errorf("a step has one verb: %s", text)
	}
	for s.verb, s.arg = range members {
	}
	return nil
}

// Load reads the scripts of both files.
func Load(t *testing.T) File {
	t.Helper()
	file, clients := read(t, "sessions.json"), read(t, "clients.json")
	if len(file.Hub) < 25 || len(file.Spoke) < 15 || len(clients.Spoke) < 15 {
		t.Fatalf("%d scripts for a hub, %d for a spoke, %d for the clients", len(file.Hub), len(file.Spoke), len(clients.Spoke))
	}
	file.Spoke = append(file.Spoke, clients.Spoke...)
	return file
}

// read reads a file of docs/vectors, which is in this folder or in one above.
func read(t *testing.T, name string) (file File) {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(folder, "docs", "vectors", name))
		if err == nil {
			dec := json.NewDecoder(bytes.NewReader(text))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&file); err != nil {
				t.Fatal(err)
			}
			if _, err := dec.Token(); err != io.EOF {
				t.Fatalf("behind the scripts stands more: %v", err)
			}
			return file
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			t.Fatalf("no docs/vectors/%s in this folder or above", name)
		}
		folder = parent
	}
}

// A player is the common part of both kinds of players.
type player struct {
	*testing.T
	ctx  context.Context
	node func(name string) irohub.NodeID
	id   map[string][]string // ids of requests, by the name that a step gave them
	at   int                 // index of the current step

	lossy bool        // the run ends with a codeLost, rather than with a failure that a lost code explains
	lost  atomic.Bool // a connection has ended without a code
}

// A codeLost is the panic of a run in which the transport has lost a close code.
type codeLost struct{ why string }

// Again plays a script, up to four times while its transport loses a close code. Over QUIC, a code
// is in a packet that nobody acknowledges. play gets lossy, for the player; the last run is not.
func Again(t *testing.T, play func(lossy bool)) {
	for runs := 4; ; runs-- {
		lost := func() (lost *codeLost) {
			defer func() {
				if why := recover(); why != nil {
					var ok bool
					if lost, ok = why.(*codeLost); !ok {
						panic(why)
					}
				}
			}()
			play(runs > 1)
			return nil
		}()
		if lost == nil {
			return
		}
		t.Logf("the transport lost a close code, so the script is played again: %s", lost.why)
	}
}

// fail ends a script with an error.
func (p *player) fail(format string, args ...any) {
	p.Helper()
	if p.lossy && p.lost.Load() {
		panic(&codeLost{fmt.Sprintf(format, args...)})
	}
	p.Fatalf("step %d: %s", p.at+1, fmt.Sprintf(format, args...))
}

func (p *player) must(err error) {
	p.Helper()
	if err != nil {
		p.fail("%v", err)
	}
}

// code returns a step's argument as a close code.
func (p *player) code(s *step) uint64 {
	p.Helper()
	var code uint64
	p.must(json.Unmarshal(s.arg, &code))
	return code
}

var placeholder = regexp.MustCompile(`<(node|id):(\w+)>|<([^<>]+)\*([0-9]+)>`)

// text returns a frame's text with its placeholders replaced: one text for each id that a
// placeholder stands for.
func (p *player) text(raw json.RawMessage) []string {
	p.Helper()
	var text string
	if raw[0] == '"' {
		p.must(json.Unmarshal(raw, &text))
	} else {
		var compact bytes.Buffer
		p.must(json.Compact(&compact, raw))
		text = compact.String()
	}
	ids := []string{""}
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		if found[1] == "id" {
			if ids = p.id[found[2]]; len(ids) == 0 {
				p.fail("no request was noted as %s", found[2])
			}
		}
	}
	var texts []string
	for _, id := range ids {
		texts = append(texts, placeholder.ReplaceAllStringFunc(text, func(s string) string {
			switch found := placeholder.FindStringSubmatch(s); found[1] {
			case "node":
				return p.node(found[2]).String()
			case "id":
				quoted, _ := json.Marshal(id)
				return string(quoted[1 : len(quoted)-1])
			default:
				n, err := strconv.Atoi(found[4])
				p.must(err)
				return strings.Repeat(found[3], n)
			}
		}))
	}
	return texts
}

// stream returns the bytes that a step sends.
func (p *player) stream(s *step) (out []byte) {
	p.Helper()
	if s.verb == "hex" {
		var digits string
		p.must(json.Unmarshal(s.arg, &digits))
		out, err := hex.DecodeString(digits)
		p.must(err)
		return out
	}
	for _, text := range p.text(s.arg) {
		out = append(out, frame(text)...)
	}
	return out
}

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

// event returns a step's argument as an event.
func (p *player) event(s *step) (ev irohub.Event) {
	p.Helper()
	p.must(json.Unmarshal([]byte(p.text(s.arg)[0]), &ev))
	return ev
}

// like reports whether a frame is what a step expects.
func (p *player) like(got []byte, want json.RawMessage) bool {
	p.Helper()
	var a, b any
	p.must(parse(got, &a))
	p.must(parse([]byte(p.text(want)[0]), &b))
	return alike(a, b)
}

func parse(text []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode(to)
}

func alike(got, want any) bool {
	switch want := want.(type) {
	case string:
		s, ok := got.(string)
		return ok && (s == want || want == "<any>")
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok || len(object) != len(want) {
			return false
		}
		for name, value := range want {
			if member, ok := object[name]; !ok || !alike(member, value) {
				return false
			}
		}
		return true
	case []any:
		array, ok := got.([]any)
		if !ok || len(array) != len(want) {
			return false
		}
		for i := range want {
			if !alike(array[i], want[i]) {
				return false
			}
		}
		return true
	}
	return got == want
}

// wantCode checks that err is a close with this code.
func (p *player) wantCode(err error, code uint64) {
	p.Helper()
	var end *irohub.CloseError
	if !errors.As(err, &end) || end.Code != code {
		if end == nil {
			p.lost.Store(true)
		}
		p.fail("ended with %v, want code %d", err, code)
	}
}

// A frameReader reads the frames of a stream.
type frameReader struct {
	stream irohub.Stream
	buf    []byte
}

func (r *frameReader) next(ctx context.Context) ([]byte, error) {
	for {
		if len(r.buf) >= 4 {
			if n := 4 + int(binary.BigEndian.Uint32(r.buf)); len(r.buf) >= n {
				body := r.buf[4:n]
				r.buf = r.buf[n:]
				return body, nil
			}
		}
		p := make([]byte, 64<<10)
		n, err := r.stream.Read(ctx, p)
		if err == io.EOF && len(r.buf) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		r.buf = append(r.buf, p[:n]...)
	}
}

// short returns the beginning of a text.
func short(text []byte) string {
	if len(text) > 300 {
		return fmt.Sprintf("%s… (%d bytes)", text[:300], len(text))
	}
	return string(text)
}
