// Package transports lists irohub's network transports for the tests and tools that run over
// each of them. To test another transport, add its line. Package transporttest tests what every
// transport must do, including the in-memory one.
package transports

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"

	"irohub"
	"irohub/iroh"
	"irohub/key"
	"irohub/tlsnet"
)

// A Transport is an entry of the list.
type Transport struct {
	Name string

	// Bind opens an endpoint. A zero secret means a new node. With an empty addr, the endpoint
	// only dials.
	Bind func(ctx context.Context, secret key.Secret, addr string) (irohub.Endpoint, error)

	// Stall begins n handshakes with a hub and does not finish them. Some stall early and
	// some late; if most is true, each makes the hub hold as much memory as possible. They
	// end with the test. Nil: package siege has its own way.
	Stall func(t testing.TB, hub irohub.Addr, n int, most bool)
}

var list = []Transport{
	{Name: "tls", Bind: func(ctx context.Context, secret key.Secret, addr string) (irohub.Endpoint, error) {
		return tlsnet.Bind(ctx, tlsnet.Options{SecretKey: secret, Addr: addr})
	}},
	{Name: "iroh", Bind: func(ctx context.Context, secret key.Secret, addr string) (irohub.Endpoint, error) {
		if addr == "" {
			addr = Loopback
		}
		return iroh.Bind(ctx, iroh.Options{SecretKey: secret, Addr: addr})
	}},
}

// Use makes t the only transport of the list, for tests of a transport with its own module. It
// is called once, before everything else.
func Use(t Transport) { list = []Transport{t} }

// Loopback is a loopback address to listen on.
const Loopback = "127.0.0.1:0"

// OwnLoopback returns a loopback address that other programs are unlikely to use, if the system
// has one. A test that listens on the same port again finds it free there.
func OwnLoopback() string {
	if runtime.GOOS != "linux" {
		return Loopback
	}
	return fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}

// Names returns the names of the transports, which are also used on command lines.
func Names() []string {
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names
}

// Bind opens an endpoint of the named transport; see [Transport].
func Bind(ctx context.Context, name string, secret key.Secret, addr string) (irohub.Endpoint, error) {
	for _, t := range list {
		if t.Name == name {
			return t.Bind(ctx, secret, addr)
		}
	}
	return nil, fmt.Errorf("unknown transport %q; known are: %s", name, strings.Join(Names(), ", "))
}

// Stall returns the Stall of the named transport; see [Transport].
func Stall(name string) func(t testing.TB, hub irohub.Addr, n int, most bool) {
	for _, t := range list {
		if t.Name == name {
			return t.Stall
		}
	}
	return nil
}

// Start makes a transport start what it starts once per process. Tests do not count that as a leak.
func Start(ctx context.Context, name string) error {
	ep, err := Bind(ctx, name, key.Secret{}, Loopback)
	if err != nil {
		return err
	}
	return ep.Close()
}

// Need starts a transport. If the native library that it needs is missing, Need skips the test,
// or, in CI, fails it.
func Need(t testing.TB, name string) {
	t.Helper()
	err := Start(t.Context(), name)
	missing := errors.Is(err, iroh.ErrNoLibrary) || errors.Is(err, iroh.ErrUnsupported)
	switch {
	case missing && os.Getenv("CI") != "true":
		t.Skipf("iroh's native library is missing, or cgo is off; run: make native (%v)", err)
	case err != nil:
		t.Fatal(err)
	}
}

// Each runs a test over each transport, as a subtest with the transport's name.
func Each(t *testing.T, test func(t *testing.T, name string)) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			Need(t, name)
			test(t, name)
		})
	}
}
