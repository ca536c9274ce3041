//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import "testing"

func TestReadRemoteAddr(t *testing.T) {
	for _, c := range []struct {
		p    wire
		want string
	}{
		{wire(nil).count(1).bytes("127.0.0.1:5"), "127.0.0.1:5"},
		{wire(nil).count(1).bytes("[::ffff:127.0.0.1]:5"), "127.0.0.1:5"},
		{wire(nil).count(1).bytes("[fe80::1%2]:5"), "[fe80::1%2]:5"},
		{wire(nil).count(2).bytes("https://relay.example./"), "relay https://relay.example./"},
		{wire(nil).count(3).bytes("ble\n\u202e"), `ble\n\u202e`},
		{nil, "unknown"},
		{wire(nil).count(1), "unknown"},
		{wire(nil).count(1).count(9), "unknown"},
	} {
		if got := readRemoteAddr(c.p); got != c.want {
			t.Errorf("%q: %q, want %q", c.p, got, c.want)
		}
	}
}
