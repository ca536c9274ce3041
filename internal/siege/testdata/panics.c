// A library that passes every call on to the real one, IROHUB_REAL, but for those of one
// function, IROHUB_PANICS: after the first IROHUB_PASSES, these end as if the library had
// panicked in them.

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

static void *original; // of the function that is to panic
static int passes;
static RustBuffer (*reserve)(RustBuffer, uint64_t, RustCallStatus *);

static int pass(void) { return __atomic_fetch_sub(&passes, 1, __ATOMIC_SEQ_CST) > 0; }

static void panicked(RustCallStatus *st) {
	static const char words[] = {'t', 'o', 'l', 'd', ' ', 't', 'o'};
	RustCallStatus ignored = {0};
	st->code = 2;
	st->error = reserve((RustBuffer){0}, sizeof words, &ignored);
	memcpy(st->error.data, words, sizeof words);
	st->error.len = sizeof words;
}

// One function for each type that reports how it ended.
#define TYPES(T) \
	T(a, uint64_t, (RustCallStatus *st), (st)) \
	T(b, uint64_t, (RustBuffer x, RustCallStatus *st), (x, st)) \
	T(c, uint64_t, (uint64_t x, RustCallStatus *st), (x, st)) \
	T(d, uint64_t, (uint64_t x, RustBuffer y, RustBuffer z, RustCallStatus *st), (x, y, z, st)) \
	T(e, RustBuffer, (uint64_t x, RustCallStatus *st), (x, st)) \
	T(f, RustBuffer, (RustBuffer x, uint64_t y, RustCallStatus *st), (x, y, st))
#define VOID_TYPES(T) \
	T(g, void, (uint64_t x, RustCallStatus *st), (x, st)) \
	T(h, void, (uint64_t x, RustBuffer y, RustCallStatus *st), (x, y, st)) \
	T(i, void, (uint64_t x, uint64_t y, RustCallStatus *st), (x, y, st)) \
	T(j, void, (uint64_t x, int64_t y, RustBuffer z, RustCallStatus *st), (x, y, z, st)) \
	T(k, void, (RustBuffer x, RustCallStatus *st), (x, st))
#define T(name, ret, params, args) \
	static ret name params { \
		if (pass()) \
			return ((ret(*) params)original)args; \
		panicked(st); \
		ret none; \
		memset(&none, 0, sizeof none); \
		return none; \
	}
TYPES(T)
#undef T
#define T(name, ret, params, args) \
	static void name params { \
		if (pass()) \
			((void(*) params)original)args; \
		else \
			panicked(st); \
	}
VOID_TYPES(T)
#undef T
#define T(name, ret, params, args) ret(*) params : (void *)name,
#define PANICS(type) _Generic((type)0, TYPES(T) VOID_TYPES(T) default : NULL)

// A symbol of ours jumps to where its slot points, arguments untouched.
#if defined(__x86_64__)
#define JUMP(symbol) "jmp *slot_" symbol "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(symbol) "adrp x16, slot_" symbol "\nldr x16, [x16, :lo12:slot_" symbol "]\nbr x16\n"
#endif
#define DEFINE(symbol) \
	__attribute__((visibility("hidden"))) void *slot_##symbol; \
	__asm__(".pushsection .text\n.globl " #symbol "\n.type " #symbol ", %function\n" \
	        #symbol ":\n" JUMP(#symbol) ".popsection");
#define F(ret, name, args) DEFINE(ffi_iroh_ffi_##name)
IROH_FFI(F)
#undef F
#define O(name) DEFINE(uniffi_iroh_ffi_fn_clone_##name) DEFINE(uniffi_iroh_ffi_fn_free_##name)
IROH_OBJECTS(O)
#undef O
#define F(ret, name, args, sum) DEFINE(uniffi_iroh_ffi_fn_##name) DEFINE(uniffi_iroh_ffi_checksum_##name)
IROH_CHECKED(F)
#undef F

static void *slot(void *real, const char *name, const char *symbol, void *panics) {
	void *p = dlsym(real, symbol);
	if (panics && strcmp(name, getenv("IROHUB_PANICS")) == 0) {
		original = p;
		return panics;
	}
	return p;
}

__attribute__((constructor)) static void fill(void) {
	void *real = dlopen(getenv("IROHUB_REAL"), RTLD_NOW | RTLD_LOCAL);
	if (!real) {
		fprintf(stderr, "%s\n", dlerror());
		exit(3);
	}
	passes = atoi(getenv("IROHUB_PASSES"));
	reserve = dlsym(real, "ffi_iroh_ffi_rustbuffer_reserve");
#define SLOT(name, symbol, panics) slot_##symbol = slot(real, #name, #symbol, panics);
#define F(ret, name, args) SLOT(name, ffi_iroh_ffi_##name, PANICS(ret(*) args))
	IROH_FFI(F)
#undef F
#define O(name) \
	SLOT(name, uniffi_iroh_ffi_fn_clone_##name, NULL) \
	SLOT(name, uniffi_iroh_ffi_fn_free_##name, NULL)
	IROH_OBJECTS(O)
#undef O
#define F(ret, name, args, sum) \
	SLOT(name, uniffi_iroh_ffi_fn_##name, PANICS(ret(*) args)) \
	SLOT(name, uniffi_iroh_ffi_checksum_##name, NULL)
	IROH_CHECKED(F)
#undef F
}
