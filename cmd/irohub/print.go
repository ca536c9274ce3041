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
	lines *json.Encoder // writes to line
}

func newPrinter(out *sink) *printer {
	p := &printer{out: out}
	p.lines = json.NewEncoder(&p.line)
	p.lines.SetEscapeHTML(false) // changes only spaces in payloads; the sink escapes unprintable characters
	return p
}

// keepLine is the largest buffer, in bytes, that is used again for the next line.
const keepLine = 64 << 10

// print puts an event into the sink. It does not wait. It returns false if the event was dropped;
// the sink counts it.
func (p *printer) print(ev irohub.Event) bool {
	if !p.out.hasRoom(len(ev.Type) + len(ev.ID) + len(ev.Payload)) {
		return false
	}
	p.line.Reset()
	if err := p.lines.Encode(ev); err != nil {
		p.out.drop() // cannot happen: the library has checked that the payload is JSON
		return false
	}
	ok := p.out.put(bytes.TrimSuffix(p.line.Bytes(), []byte("\n")))
	if p.line.Cap() > keepLine {
		p.line = bytes.Buffer{}
	}
	return ok
}
