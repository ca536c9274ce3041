package siege

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The ledger of docs/security.md: the memory that a peer can make us hold at the default limits, in KiB.

// An entry is a state of a peer.
type entry struct {
	name  string // name of its benchmark; empty: none
	state string // the text in the document
	most  int    // the most peers in that state; 0: not limited by the hub
	only  string // the only transport with that state; empty: all
	items []item
}

// An item is a part of the memory held, for each transport.
type item struct {
	what      string
	tls, iroh int
	websocket int  // behind a server with TLS
	elsewhere bool // BenchmarkLedger does not fill it
}

// Parts of several entries.
var (
	connection = item{"connection", 65, 105, 75, false}
	ownWindow  = item{"window", 272, 1330, 272, false}
	first      = item{"first frame", 64, 64, 64, false}
	buffer     = item{"buffer", 1032, 1032, 1032, false}
	queue      = item{"queue", 1024, 1024, 1024, false}
	work       = item{"work", 2304, 2304, 2304, true}
)

var ledger = []entry{
	{"handshake", "in its handshake", 1024, "", []item{{"handshake", 60, 70, 75, false}, {"pieces", 0, 16, 0, true}}},
	{"admit", "while Admit runs", 1024, "", []item{connection, ownWindow}},
	{"first-frame", "before its first frame", 1024, "", []item{connection, first}},
	{"spoke", "as a spoke", 4096, "", []item{
		connection, ownWindow, buffer, queue,
		{"topics", 1194, 1194, 1194, false}, {"sending", 96, 1330, 164, false}, {"credit", 4096, 8545, 4096, true}, work,
	}},
	{"", "a further stream without a spoke", 4096, "iroh", []item{ownWindow, first}},
	{"turned-away", "turned away", 0, "", []item{{"rejected", 75, 50, 80, false}}},
	{"closing", "cut off", 0, "", []item{{"closing", 190, 120, 195, false}}},
	{"spoke-greeting", "a hub that answers nothing", 0, "", []item{connection, ownWindow, buffer, work}},
	{"spoke-streams", "a hub that opens streams", 0, "iroh", []item{connection, ownWindow, buffer, queue, work}},
	{"spoke-events", "a hub that floods", 0, "", []item{connection, ownWindow, buffer, queue, work}},
}

// of returns the item's figure for a transport.
func (i item) of(transport string) int {
	switch transport {
	case "tls":
		return i.tls
	case "websocket":
		return i.websocket
	}
	return i.iroh
}

// held is the figure that the benchmark should find; most is the maximum.
func (e *entry) held(transport string) (held, most int) {
	if e.only != "" && e.only != transport {
		return 0, 0
	}
	for _, item := range e.items {
		most += item.of(transport)
		if !item.elsewhere {
			held += item.of(transport)
		}
	}
	return held, most
}

// The document contains the ledger's figures.
func TestLedger_IsThatOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]bool)
	for _, e := range ledger {
		var parts []string
		for _, i := range e.items {
			rows[fmt.Sprintf("\n| %s | %d | %d | %d |", i.what, i.tls, i.iroh, i.websocket)] = true
			parts = append(parts, i.what)
		}
		_, tls := e.held("tls")
		_, iroh := e.held("iroh")
		_, ws := e.held("websocket")
		row := fmt.Sprintf("\n| %s | %s | %d | %d | %d |", e.state, strings.Join(parts, ", "), tls, iroh, ws)
		if e.most > 0 {
			row += fmt.Sprintf(" %d | %.2f GiB | %.2f GiB | %.2f GiB |", e.most, gib(e.most*tls), gib(e.most*iroh), gib(e.most*ws))
		}
		rows[row] = true
	}
	for row := range rows {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/security.md has no row %s", row[1:])
		}
	}
}

func gib(kib int) float64 { return float64(kib) / (1 << 20) }
