// Package interop has spokes in Go, Python and JavaScript converse through one hub, each a
// process of its own, over iroh.
package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"irohub"
)

// A language is how to run its spoke.
type language struct {
	name    string
	needs   []string // files without which it does not run
	sub     []string // subscribes to the topics behind PEER, -n ends it
	pub     []string // publishes standard input
	key     string   // flag for the key file
	missing string   // what to do where a file is missing
}

func languages(command string) []language {
	return []language{
		{
			name: "go",
			sub:  []string{command, "sub"}, pub: []string{command, "pub"}, key: "-key",
		},
		{
			name:    "python",
			needs:   []string{"../../clients/python/.venv/bin/python", "../../clients/python/.venv/stamp"},
			sub:     []string{"../../clients/python/.venv/bin/python", "../../clients/python/example.py"},
			pub:     []string{"../../clients/python/.venv/bin/python", "../../clients/python/example.py", "--pub"},
			key:     "--key",
			missing: "make interop",
		},
		{
			name:    "javascript",
			needs:   []string{"../../clients/js/node_modules/@number0/iroh"},
			sub:     []string{"node", "../../clients/js/example.mjs"},
			pub:     []string{"node", "../../clients/js/example.mjs", "--pub"},
			key:     "--key",
			missing: "make interop",
		},
	}
}

// need skips the test if something is missing that the set-up installs; but CI must have it.
func need(t *testing.T, file, how string) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		return
	} else if os.Getenv("CI") == "true" {
		t.Fatalf("missing: run %s (%v)", how, err)
	}
	t.Skipf("missing: run %s", how)
}

// A process is one spoke, or the hub.
type process struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string   // of standard output; closed at its end
	said   chan struct{} // closed when standard error has said that it has subscribed
	stderr bytes.Buffer  // to be read when it has exited
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.CommandContext(t.Context(), args[0], args[1:]...), lines: make(chan string, 1<<16), said: make(chan struct{})}
	stdin, err1 := p.cmd.StdinPipe()
	stdout, err2 := p.cmd.StdoutPipe()
	stderr, err3 := p.cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3, p.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	ended := make(chan struct{})
	go func() {
		defer close(p.lines)
		in := bufio.NewScanner(stdout)
		in.Buffer(nil, 4<<20)
		for in.Scan() {
			p.lines <- in.Text()
		}
	}()
	go func() {
		defer close(ended)
		in := bufio.NewScanner(stderr)
		for in.Scan() {
			fmt.Fprintln(&p.stderr, in.Text())
			if strings.Contains(in.Text(), "msg=subscribed") {
				close(p.said)
			}
		}
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // what the test has not ended
		<-ended
		p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.stderr.String())
		}
	})
	return p
}

// line returns the next line of standard output.
func (p *process) line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			p.t.Fatalf("%s has ended", p.name)
		}
		return line
	case <-time.After(time.Minute): // a failsafe
		p.t.Fatalf("%s prints nothing", p.name)
	}
	return ""
}

// wantReady waits until the spoke has said that it is subscribed: the command in its log, the
// others on standard output.
func (p *process) wantReady(lang string) {
	p.t.Helper()
	if lang != "go" {
		if line := p.line(); !strings.Contains(line, `"ready":true`) {
			p.t.Fatalf("%s printed %q, want that it is ready", p.name, line)
		}
		return
	}
	select {
	case <-p.said:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s does not say that it has subscribed", p.name)
	}
}

// An entry is an event of the conversation.
type entry struct {
	By string `json:"by"`
	N  int    `json:"n"`
	// Text tries what JSON writers do differently.
	Text string `json:"text"`
}

const text = "ünï \"quoted\" \\ 敏捷 🦊 <&> \u2028 \t"

// TestConversation has two subscribers and a publisher of each language, and the hub itself
// publish: each subscriber must get the events of its topics, from each publisher all of them,
// once, in order, with the publisher's NodeID.
func TestConversation(t *testing.T) {
	const events = 300 // of each publisher
	command := filepath.Join(t.TempDir(), "irohub")
	if out, err := exec.Command("go", "build", "-C", "../../cmd/irohub", "-o", command, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	libraries, _ := filepath.Glob("../../.native/*/libiroh_ffi.*")
	if len(libraries) == 0 {
		need(t, "../../.native", "make native")
	}
	langs := languages(command)
	for _, lang := range langs {
		for _, file := range lang.needs {
			need(t, file, lang.missing)
		}
	}

	hub := start(t, "hub", command, "hub", "-addr", "127.0.0.1:0", "-stdin", "-forward", "-max-queue", "67108864")
	var ready struct {
		Node  irohub.NodeID
		Addrs []string
	}
	if err := json.Unmarshal([]byte(hub.line()), &ready); err != nil {
		t.Fatal(err)
	}
	peer := irohub.Addr{ID: ready.Node, Hosts: ready.Addrs}.String()

	newKey := func() (file string, id irohub.NodeID) {
		file = filepath.Join(t.TempDir(), "key")
		out, err := exec.Command(command, "id", "-key", file).Output()
		if err == nil {
			err = id.UnmarshalText(bytes.TrimSpace(out))
		}
		if err != nil {
			t.Fatal(err)
		}
		return file, id
	}

	// Publishers are known beforehand, so that it can be said who gets what.
	type publisher struct {
		lang language
		name string
		key  string
		id   irohub.NodeID
	}
	publishers := []publisher{{name: "hub"}}
	for _, lang := range langs {
		key, id := newKey()
		publishers = append(publishers, publisher{lang, lang.name, key, id})
	}
	var mailboxes []irohub.NodeID
	type subscriber struct {
		*process
		topics []string
	}
	var subscribers []*subscriber
	add := func(lang language, topics ...string) {
		key, id := newKey()
		mailboxes = append(mailboxes, id)
		topics = append(topics, "direct:"+id.String())
		subscribers = append(subscribers, &subscriber{topics: topics})
		s := subscribers[len(subscribers)-1]
		args := slices.Concat(lang.sub, []string{lang.key, key, peer}, topics)
		s.process = start(t, fmt.Sprintf("%s subscriber %d", lang.name, len(subscribers)), args...)
		s.wantReady(lang.name)
	}
	for _, lang := range langs {
		add(lang, "chat:*")
		add(lang, "chat:1", "chat:*", "news")
	}

	// All publish at once.
	for _, p := range publishers {
		process := hub
		if p.name != "hub" {
			process = start(t, p.name+" publisher", slices.Concat(p.lang.pub, []string{p.lang.key, p.key, peer})...)
		}
		go func() {
			lines := json.NewEncoder(process.stdin)
			for n := range events {
				ev := published(p.name, n, mailboxes)
				if err := lines.Encode(ev); err != nil {
					t.Errorf("%s: %v", process.name, err)
					return
				}
			}
			if p.name != "hub" {
				process.stdin.Close()
			}
		}()
	}

	for _, s := range subscribers {
		want := make(map[irohub.NodeID][]irohub.Event)
		total := 0
		for _, p := range publishers {
			want[p.id] = wanted(s.topics, p.name, events, mailboxes)
			total += len(want[p.id])
		}
		for range total {
			var ev irohub.Event
			var got, next entry
			if err := json.Unmarshal([]byte(s.line()), &ev); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			expected := want[ev.From]
			if len(expected) == 0 {
				t.Fatalf("%s got %s of %s: one too many", s.name, ev.Topic(), ev.From)
			}
			want[ev.From] = expected[1:]
			if err := errors.Join(json.Unmarshal(ev.Payload, &got), json.Unmarshal(expected[0].Payload, &next)); err != nil {
				t.Fatal(err)
			}
			if ev.Topic() != expected[0].Topic() || got != next {
				t.Fatalf("%s got %s %+v, want %s %+v", s.name, ev.Topic(), got, expected[0].Topic(), next)
			}
		}
	}
}

// published is the n-th event of a publisher.
func published(by string, n int, mailboxes []irohub.NodeID) irohub.Event {
	payload, _ := json.Marshal(entry{by, n, text})
	ev := irohub.Event{Type: "chat", ID: fmt.Sprint(n % 3), Payload: payload}
	switch n % 5 {
	case 3:
		ev.Type, ev.ID = "direct", mailboxes[n%len(mailboxes)].String()
	case 4:
		ev.Type, ev.ID = "news", ""
	}
	return ev
}

// wanted are those of a publisher's events that a subscriber to topics is to get.
func wanted(topics []string, by string, events int, mailboxes []irohub.NodeID) []irohub.Event {
	var list []irohub.Event
	for n := range events {
		ev := published(by, n, mailboxes)
		if slices.Contains(topics, ev.Topic()) || slices.Contains(topics, ev.Type+":*") {
			list = append(list, ev)
		}
	}
	return list
}
