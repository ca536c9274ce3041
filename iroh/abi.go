//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

package iroh

// #cgo CFLAGS: -std=gnu11 -O2 -Wall
// #cgo linux LDFLAGS: -ldl -lpthread
// #cgo noescape irohub_start
// #cgo nocallback irohub_start
// #cgo noescape irohub_write
// #cgo nocallback irohub_write
// #cgo noescape irohub_read
// #cgo nocallback irohub_read
// #cgo noescape irohub_reset
// #cgo nocallback irohub_reset
// #cgo noescape irohub_stop
// #cgo nocallback irohub_stop
// #cgo noescape irohub_resume
// #cgo nocallback irohub_resume
// #cgo nocallback irohub_drop
// #cgo noescape irohub_take
// #cgo nocallback irohub_take
// #cgo noescape irohub_woken
// #cgo nocallback irohub_woken
// #cgo nocallback irohub_free
// #include <stdlib.h>
// #include "glue.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"irohub"
	"irohub/iroh/internal/native"
)

// This file is the Go side of the ABI: loading, handles, values and errors. abi.h has the
// symbols and their checksums.

// library records which library the process has loaded.
var library struct {
	mu   sync.Mutex
	path string // empty: none loaded yet
}

// load loads the native library, once per process.
func load(explicit string) error {
	library.mu.Lock()
	defer library.mu.Unlock()
	if library.path != "" {
		if explicit != "" && !sameFile(explicit, library.path) {
			return fmt.Errorf("%w: this process has already loaded %s and cannot load %s", ErrWrongLibrary, library.path, explicit)
		}
		return nil
	}
	path, err := findLibrary(explicit)
	if err != nil {
		return err
	}
	if err := open(path); err != nil {
		return err
	}
	if err := startWaking(); err != nil {
		return fmt.Errorf("irohub/iroh: %w", err)
	}
	library.path = path
	return nil
}

// Library loads the native library, unless this process has loaded it, as [Bind] does without
// Options.Library. It returns the library's path and the version that this package is made
// for; another is not loaded.
func Library() (path, version string, err error) {
	if err := load(""); err != nil {
		return "", "", err
	}
	library.mu.Lock()
	defer library.mu.Unlock()
	return library.path, native.Version, nil
}

// open links the glue to the library at path, if it is the right one.
func open(path string) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var text [512]C.char
	if C.irohub_load(cpath, &text[0], C.size_t(len(text))) != 0 {
		return fmt.Errorf("%w (libiroh_ffi %s): %s: %s", ErrWrongLibrary, native.Version, path, C.GoString(&text[0]))
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// A handle identifies an object in the library. Its owner frees it, once.
type handle = C.uint64_t

// live counts what the library holds for this package: objects and pending futures. Only
// the tests read it.
var live atomic.Int64

// own counts a handle from a result.
func own(h handle) handle {
	if h != 0 {
		live.Add(1)
	}
	return h
}

// free frees the object with handle h, and sets h to zero.
func free(object C.int, h *handle) {
	if *h != 0 {
		C.irohub_free(object, *h)
		*h = 0
		live.Add(-1)
	}
}

type result = C.irohub_result

// taken returns the bytes of a result's buffer and frees the buffer.
func taken(r *result) []byte {
	p := make([]byte, r.buf[1])
	C.irohub_take(r, bytesPtr(p))
	return p
}

func bytesPtr(p []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(p))) }

// failed returns the error in a result; nil if it succeeded. It must be called once at most
// for each result.
func failed(r *result) error {
	switch r.status {
	case C.IROHUB_OK:
		return nil
	case C.IROHUB_ERROR:
		kind := int32(r.kind)
		text, _, _ := strings.Cut(string(taken(r)), "\n\nStack backtrace:") // useless without symbols
		return &nativeError{kind, text}
	default:
		text := string(taken(r))
		if text == "" {
			text = "no message"
		}
		return errors.New("irohub/iroh: the native library panicked: " + text)
	}
}

// ---- values, in the library's serialisation

// A wire is a text or a list, serialised for the library.
type wire []byte

func (w wire) count(n int) wire { return binary.BigEndian.AppendUint32(w, uint32(n)) }

func (w wire) bytes(s string) wire { return append(w.count(len(s)), s...) }

func (w wire) list(items []string) wire {
	w = w.count(len(items))
	for _, s := range items {
		w = w.bytes(s)
	}
	return w
}

func (w wire) option(s string) wire {
	if s == "" {
		return append(w, 0)
	}
	return append(w, 1).bytes(s)
}

func (w wire) c() C.irohub_bytes { return C.irohub_bytes{p: bytesPtr(w), n: C.size_t(len(w))} }

var errSerialisation = errors.New("irohub/iroh: the native library returned a malformed value")

// readBytes reads what wire.bytes writes.
func readBytes(p []byte) (s string, rest []byte, err error) {
	if len(p) < 4 || uint32(len(p)-4) < binary.BigEndian.Uint32(p) {
		return "", nil, errSerialisation
	}
	n := binary.BigEndian.Uint32(p)
	return string(p[4 : 4+n]), p[4+n:], nil
}

// readList reads what wire.list writes.
func readList(p []byte) (items []string, err error) {
	if len(p) < 4 {
		return nil, errSerialisation
	}
	n := binary.BigEndian.Uint32(p)
	p = p[4:]
	for range n {
		var s string
		if s, p, err = readBytes(p); err != nil {
			return nil, err
		}
		items = append(items, s)
	}
	return items, nil
}

// readOption reads what wire.option writes.
func readOption(p []byte) (string, error) {
	if len(p) == 0 || p[0] == 0 {
		return "", nil
	}
	s, _, err := readBytes(p[1:])
	return s, err
}

// readID reads a NodeID.
func readID(p []byte) (id irohub.NodeID, err error) {
	s, _, err := readBytes(p)
	if err == nil && copy(id[:], s) != len(id) {
		err = errSerialisation
	}
	return id, err
}

// readAddr reads the hosts and the relay of an address.
func readAddr(hosts, relay *result) (addr irohub.Addr, err error) {
	h, r := failed(hosts), failed(relay)
	if err := errors.Join(h, r); err != nil {
		return addr, err
	}
	hostBytes, relayBytes := taken(hosts), taken(relay)
	if addr.Hosts, err = readList(hostBytes); err == nil {
		addr.Relay, err = readOption(relayBytes)
	}
	return addr, err
}
