//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A library with every symbol of abi.h. Its functions abort the process, so that a call of one is
// noticed.
const fakeLibrary = `
#include <stdlib.h>
#include "abi.h"
#define F(ret, name, args) FFI_##name(name)
#define DIES(name) void ffi_iroh_ffi_##name(void) { abort(); }
#define FFI_uniffi_contract_version(name) uint32_t ffi_iroh_ffi_##name(void) { return CONTRACT; }
#define FFI_rustbuffer_reserve DIES
#define FFI_rustbuffer_free DIES
#define FFI_rust_future_poll_void DIES
#define FFI_rust_future_complete_void DIES
#define FFI_rust_future_free_void DIES
#define FFI_rust_future_poll_u64 DIES
#define FFI_rust_future_complete_u64 DIES
#define FFI_rust_future_free_u64 DIES
#define FFI_rust_future_poll_rust_buffer DIES
#define FFI_rust_future_complete_rust_buffer DIES
#define FFI_rust_future_free_rust_buffer DIES
IROH_FFI(F)
#undef F
#define O(name) \
	void uniffi_iroh_ffi_fn_clone_##name(void) { abort(); } \
	void uniffi_iroh_ffi_fn_free_##name(void) { abort(); }
IROH_OBJECTS(O)
#ifndef LACKING
#define F(ret, name, args, sum) \
	void uniffi_iroh_ffi_fn_##name(void) { abort(); } \
	uint16_t uniffi_iroh_ffi_checksum_##name(void) { return sum ^ CHANGE; }
IROH_CHECKED(F)
#endif
`

func TestWrongLibrary(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("there is no cc; install a C compiler")
	} else if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "fake.c")
	if err := os.WriteFile(source, []byte(fakeLibrary), 0o644); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("not a library\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	build := func(name string, flags ...string) string {
		path := filepath.Join(dir, name)
		args := append([]string{"-shared", "-fPIC", "-I", here, "-o", path, source}, flags...)
		if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
			t.Fatalf("cc: %v\n%s", err, out)
		}
		return path
	}
	for _, c := range []struct{ path, want string }{
		{text, "text.so"},
		{filepath.Join(dir, "missing.so"), "missing.so"},
		{build("contract.so", "-DCONTRACT=29", "-DCHANGE=0"), "contract is version 29, not 30"},
		{build("lacking.so", "-DCONTRACT=30", "-DLACKING"), "lacks the function uniffi_iroh_ffi_fn_constructor_endpointbuilder_new"},
		{build("checksum.so", "-DCONTRACT=30", "-DCHANGE=1"), "endpointbuilder_new has checksum"},
	} {
		err := open(c.path)
		if !errors.Is(err, ErrWrongLibrary) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.path, err, c.want)
		}
	}

	// A refused library must not change the one in use.
	a, b := bind(t, Options{}), bind(t, Options{})
	connect(t, a, b)
	if _, err := Bind(testContext(t), Options{Library: text}); !errors.Is(err, ErrWrongLibrary) {
		t.Errorf("a second library: %v", err)
	}
}
