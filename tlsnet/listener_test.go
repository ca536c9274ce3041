package tlsnet

import (
	"errors"
	"net"
	"testing"
)

func listenTest(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestBind_TakesAListener(t *testing.T) {
	l := listenTest(t)
	to := bindTest(t, Options{Listener: l})
	if hosts := to.Addr().Hosts; len(hosts) != 1 || hosts[0] != l.Addr().String() {
		t.Errorf("hosts %q, the listener's is %s", hosts, l.Addr())
	}
	dialled, accepted := connect(t, bindTest(t, Options{}), to)
	if dialled.RemoteID() != to.ID() || accepted == nil {
		t.Errorf("dialled %s, want %s", dialled.RemoteID(), to.ID())
	}
	to.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the endpoint is closed, its listener is not: %v", err)
	}
}

func TestBind_ClosesTheListenerThatItDoesNotTake(t *testing.T) {
	l := listenTest(t)
	if _, err := Bind(testContext(t), Options{Listener: l, Addr: "127.0.0.1:0"}); !errors.Is(err, ErrAddr) {
		t.Errorf("Addr and Listener: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}
