//go:build linux && cgo

// Package trim gives free memory of C's allocator back to the kernel.
package trim

/*
#include <stdlib.h>
#ifdef __GLIBC__
#include <malloc.h>
static int trim(void) { malloc_trim(0); return 1; }
#else
static int trim(void) { return 0; }
#endif
*/
import "C"

// Memory gives back every free page of the heap. It reports whether this allocator can.
func Memory() bool { return C.trim() == 1 }
