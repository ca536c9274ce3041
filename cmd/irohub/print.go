package main

import (
	"bytes"
	"encoding/json"

	"irohub"
)

// A printer puts events into a sink, each as a line of JSON.
type printer struct {
	out   *sink
	line  bytes.Buffer
	lines *json.Encoder // into line
}

func newPrinter(out *sink) *printer {
	p := &printer{out: out}
	p.lines = json.NewEncoder(&p.line)
	p.lines.SetEscapeHTML(false) // payloads pass as they are, but for spaces and what is not printable
	return p
}

// keepLine is the longest line whose memory is kept for the next.
const keepLine = 64 << 10

// print does not wait; false: the event was dropped, and counted as the sink's.
func (p *printer) print(ev irohub.Event) bool {
	if !p.out.hasRoom(len(ev.Type) + len(ev.ID) + len(ev.Payload)) {
		return false
	}
	p.line.Reset()
	if err := p.lines.Encode(ev); err != nil {
		p.out.drop() // it cannot be: what has come is valid JSON
		return false
	}
	ok := p.out.put(bytes.TrimSuffix(p.line.Bytes(), []byte("\n")))
	if p.line.Cap() > keepLine {
		p.line = bytes.Buffer{}
	}
	return ok
}
