package siege

// The ledger of docs/security.md: what a peer can make a hub or a spoke hold, in KiB.

// An entry is a state of a peer.
type entry struct {
	name  string // of its benchmark
	items []item
}

// An item is a part of what is held, over each transport.
type item struct {
	what      string
	tls, iroh int
	elsewhere bool // BenchmarkLedger does not fill it
}

var ledger = []entry{
	{"handshake", []item{{"", 29, 60, false}}},
	{"admit", []item{{"", 321, 1480, false}}},
	{"first-frame", []item{{"", 90, 160, false}}},
	{"spoke", []item{{"", 5000, 6000, false}}},
	{"turned-away", []item{{"", 39, 904, false}}},
	{"closing", []item{{"", 39, 904, false}}},
}

// A figure is an entry over one transport.
type figure struct {
	*entry
	transport string
}

func (e *entry) figure(transport string) figure { return figure{e, transport} }

// held is what the benchmark is to find.
func (f figure) held() (kib int) {
	for _, item := range f.items {
		switch {
		case item.elsewhere:
		case f.transport == "tls":
			kib += item.tls
		default:
			kib += item.iroh
		}
	}
	return kib
}
