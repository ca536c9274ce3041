//go:build cgo && linux && (amd64 || arm64)

package siege

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"irohub/iroh"
)

// TestNative_PanicsAreErrors makes each function of the native library that can report a panic
// do so, at its first call or at later ones, while a child uses all of package iroh. The child
// must end with an error and not crash.
func TestNative_PanicsAreErrors(t *testing.T) {
	real, err := filepath.Glob("../../.native/linux-*/libiroh_ffi.so")
	cc, errCC := exec.LookPath("cc")
	if (len(real) == 0 || errCC != nil) && os.Getenv("CI") != "true" {
		t.Skip("the native library or a C compiler is not there; run: make native; install gcc or clang")
	} else if len(real) == 0 || errCC != nil {
		t.Fatal(err, errCC, real)
	}
	library := filepath.Join(t.TempDir(), "panics.so")
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-I", "../../iroh", "-o", library, "testdata/panics.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	for _, f := range nativeFunctions {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel() // mostly one side waits for the other until a timeout
			for passes := range max(f.calls, 1) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				cmd := exec.CommandContext(ctx, os.Args[0])
				cmd.Env = append(os.Environ(), roleVariable+"=native "+library,
					"IROHUB_REAL="+real[0], "IROHUB_PANICS="+f.name, fmt.Sprint("IROHUB_PASSES=", passes))
				out, err := cmd.CombinedOutput()
				cancel()
				if err != nil {
					t.Errorf("after %d calls: %v\n%.3000s", passes, err, out)
				} else if f.calls > 0 && !strings.Contains(string(out), "the native library panicked: told to") {
					t.Errorf("after %d calls nobody was told:\n%s", passes, out)
				}
			}
		})
	}
}

// nativeFunctions are the functions that report how they ended, with the minimum number of
// calls in useIroh; 0 if the caller has no way to learn of the panic.
var nativeFunctions = []struct {
	name  string
	calls int
}{
	{"rustbuffer_reserve", 12},
	{"rust_future_complete_void", 2},
	{"rust_future_complete_u64", 6},
	{"rust_future_complete_rust_buffer", 2},
	{"constructor_endpointbuilder_new", 2},
	{"method_endpointbuilder_apply_minimal", 1},
	{"method_endpointbuilder_secret_key", 1},
	{"method_endpointbuilder_alpns", 1},
	{"method_endpointbuilder_bind_addr", 1},
	{"method_endpoint_addr", 0},
	{"method_endpoint_bound_sockets", 0},
	{"method_connection_close", 0},
	{"method_connection_close_reason", 0},
	{"method_connection_remote_id", 2},
	{"method_connection_set_max_concurrent_bi_streams", 2},
	{"method_connection_set_max_concurrent_uni_streams", 2},
	{"method_bistream_send", 2},
	{"method_bistream_recv", 2},
	{"constructor_endpointid_from_bytes", 2},
	{"method_endpointid_to_bytes", 2},
	{"constructor_endpointaddr_new", 2},
	{"method_endpointaddr_id", 1},
	{"method_endpointaddr_direct_addresses", 1},
	{"method_endpointaddr_relay_url", 1},
	{"constructor_endpointticket_from_addr", 1},
	{"constructor_endpointticket_from_string", 1},
	{"method_endpointticket_endpoint_addr", 1},
	{"method_endpointticket_uniffi_trait_display", 1},
	{"method_iroherror_kind", 0},
	{"method_iroherror_debug_message", 0},
}

// causes returns the text of an error and of everything that it wraps.
func causes(err error) string {
	text := err.Error()
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range several.Unwrap() {
			text += "; " + causes(err)
		}
	}
	return text
}

func init() { playNative = useIroh }

// useIroh uses all of package iroh and prints the errors.
func useIroh(library string) error {
	note := func(what string, err error) {
		if err != nil {
			fmt.Printf("%s: %s\n", what, causes(err))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	options := iroh.Options{Library: library, Addr: "127.0.0.1:0"}
	a, err := iroh.Bind(ctx, options)
	note("bind", err)
	if a == nil {
		a, err = iroh.Bind(ctx, options)
		note("bind", err)
	}
	b, err := iroh.Bind(ctx, options)
	note("bind", err)
	if b == nil {
		b, err = iroh.Bind(ctx, options)
		note("bind", err)
	}
	if a == nil || b == nil {
		return nil
	}
	defer a.Close()
	defer b.Close()
	ticket, err := iroh.Ticket(b.Addr())
	note("ticket", err)
	_, err = iroh.ParseTicket(ticket)
	note("parse", err)
	_, err = iroh.ParseTicket("no ticket") // an error from the library
	if err == nil {
		return fmt.Errorf("a ticket of nothing")
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for ctx.Err() == nil {
			in, err := b.Accept(ctx)
			note("accept", err)
			if err != nil {
				continue
			}
			c, err := in.Handshake(ctx)
			note("handshake", err)
			if err != nil {
				continue
			}
			s, err := c.AcceptStream(ctx)
			note("accept stream", err)
			if err == nil {
				_, err = s.Read(ctx, make([]byte, 100))
				note("read", err)
				_, err = s.Write(ctx, []byte("hello"))
				note("write", err)
				s.Abort(3)
			}
			c.Close(1, "enough")
			note("wait", c.Wait(ctx))
		}
	}()
	for range 3 {
		c, err := a.Dial(ctx, b.Addr())
		note("dial", err)
		if err != nil {
			continue
		}
		s, err := c.OpenStream(ctx)
		note("open", err)
		if err == nil {
			_, err = s.Write(ctx, []byte("hello"))
			note("write", err)
			_, err = s.Read(ctx, make([]byte, 100))
			note("read", err)
			note("close write", s.CloseWrite(ctx))
		}
		c.Close(0, "")
	}
	cancel()
	<-accepted
	return nil
}
