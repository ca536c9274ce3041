//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

#include "abi.h"
#include "glue.h"

// The library's functions, by the names that abi.h gives them.
static struct api {
#define F(ret, name, args) ret(*name) args;
	IROH_FFI(F)
#undef F
#define O(name) \
	uint64_t (*clone_##name)(uint64_t, RustCallStatus *); \
	void (*free_##name)(uint64_t, RustCallStatus *);
	IROH_OBJECTS(O)
#undef O
#define F(ret, name, args, sum) ret(*name) args;
	IROH_CHECKED(F)
#undef F
} api;

// ---- loading

static void *symbol(void *lib, const char *name, char *err, size_t n) {
	void *p = dlsym(lib, name);
	if (!p)
		snprintf(err, n, "it lacks the function %s", name);
	return p;
}

int irohub_load(const char *path, char *err, size_t n) {
	// An opened library stays open: this one's threads never end, and a wrong one may have
	// started threads too.
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(err, n, "%s", dlerror());
		return -1;
	}
	struct api found;
	uint16_t (*checksum)(void);
#define F(ret, name, args) \
	if (!(found.name = symbol(lib, "ffi_iroh_ffi_" #name, err, n))) \
		return -1;
	IROH_FFI(F)
#undef F
	if (found.uniffi_contract_version() != IROH_CONTRACT) {
		snprintf(err, n, "its ABI contract is version %u, not %u",
		         (unsigned)found.uniffi_contract_version(), (unsigned)IROH_CONTRACT);
		return -1;
	}
#define O(name) \
	if (!(found.clone_##name = symbol(lib, "uniffi_iroh_ffi_fn_clone_" #name, err, n)) || \
	    !(found.free_##name = symbol(lib, "uniffi_iroh_ffi_fn_free_" #name, err, n))) \
		return -1;
	IROH_OBJECTS(O)
#undef O
#define F(ret, name, args, sum) \
	if (!(found.name = symbol(lib, "uniffi_iroh_ffi_fn_" #name, err, n))) \
		return -1; \
	if (sum) { \
		if (!(checksum = symbol(lib, "uniffi_iroh_ffi_checksum_" #name, err, n))) \
			return -1; \
		if (checksum() != sum) { \
			snprintf(err, n, "its function %s has checksum %u, not %u", #name, \
			         (unsigned)checksum(), (unsigned)sum); \
			return -1; \
		} \
	}
	IROH_CHECKED(F)
#undef F
	api = found;
	return 0;
}

// ---- waking

// The ids that irohub_woken has not returned yet. The library wakes futures from its own
// threads. A call into Go from there would first have to wait for a Go processor, and the
// whole network would stand still meanwhile. So a wake stores its id here. Only the first
// wake after the queue was empty makes a system call.
static struct {
	pthread_mutex_t mu;
	uint64_t *ids;
	size_t len, cap;
	bool signalled;
	int fd; // written to
} woken = {.mu = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

int irohub_wake_fd(void) {
#ifdef __linux__
	return woken.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
#else
	int fds[2];
	if (pipe(fds) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		fcntl(fds[i], F_SETFD, FD_CLOEXEC);
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
	}
	woken.fd = fds[1];
	return fds[0];
#endif
}

static void push(uint64_t id) {
	bool signal;
	pthread_mutex_lock(&woken.mu);
	if (woken.len == woken.cap) {
		woken.cap = woken.cap ? 2 * woken.cap : 256;
		woken.ids = realloc(woken.ids, woken.cap * sizeof *woken.ids);
		if (!woken.ids)
			abort();
	}
	woken.ids[woken.len++] = id;
	signal = !woken.signalled;
	woken.signalled = true;
	pthread_mutex_unlock(&woken.mu);
	if (signal) {
		// Errors are ignored, and none can happen: there is always room, since at most one
		// signal is unread.
		static const uint64_t one = 1;
		while (write(woken.fd, &one, sizeof one) < 0 && errno == EINTR) {
		}
	}
}

int irohub_woken(uint64_t *ids, int n) {
	pthread_mutex_lock(&woken.mu);
	int len = woken.len < (size_t)n ? (int)woken.len : n;
	// Oldest first. If there are more than n, the rest moves to the front.
	memcpy(ids, woken.ids, len * sizeof *ids);
	woken.len -= len;
	memmove(woken.ids, woken.ids + len, woken.len * sizeof *ids);
	if (woken.len == 0)
		woken.signalled = false;
	pthread_mutex_unlock(&woken.mu);
	return len;
}

// The id that this thread is polling, and the code that its callback has reported.
static _Thread_local uint64_t polling;
static _Thread_local int said;

enum { SAID_NOTHING = -1, SAID_READY = 0, SAID_AGAIN = 1 };

static void on_wake(uint64_t id, int8_t code) {
	if (id == polling)
		said = code;
	else
		push(id);
}

// ---- results

// The type of an operation's result.
enum {
	OP_VOID,   // nothing
	OP_HANDLE, // a handle
	OP_STREAM, // the handle of a BiStream
	OP_OPTION, // a handle or none, in a buffer
	OP_BUFFER, // a buffer
	OP_READ,   // a buffer with bytes
};

static void free_buffer(RustBuffer b) {
	RustCallStatus st = {0};
	if (b.data)
		api.rustbuffer_free(b, &st);
}

static void give(irohub_result *r, RustBuffer b) {
	r->buf[0] = b.capacity;
	r->buf[1] = b.len;
	r->buf[2] = (uint64_t)(uintptr_t)b.data;
}

static RustBuffer given(irohub_result *r) {
	return (RustBuffer){r->buf[0], r->buf[1], (uint8_t *)(uintptr_t)r->buf[2]};
}

void irohub_take(irohub_result *r, uint8_t *p) {
	RustBuffer b = given(r);
	if (b.len)
		memcpy(p, b.data, b.len);
	free_buffer(b);
	memset(r->buf, 0, sizeof r->buf);
}

static uint32_t be32(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p) { return (uint64_t)be32(p) << 32 | be32(p + 4); }

// Stores in r how a call ended; returns true if it succeeded. It consumes the status: a
// buffer in it is moved to r.
static bool ok(const RustCallStatus *st, irohub_result *r) {
	if (st->code == 0) {
		r->status = IROHUB_OK;
		return true;
	}
	if (st->code != 1 || st->error.len != 8) {
		r->status = IROHUB_PANIC;
		give(r, st->error);
		return false;
	}
	r->status = IROHUB_ERROR;
	uint64_t e = be64(st->error.data);
	free_buffer(st->error);
	RustCallStatus inner = {0};
	RustBuffer kind = api.method_iroherror_kind(api.clone_iroherror(e, &inner), &inner);
	r->kind = kind.len == 4 ? (int32_t)be32(kind.data) - 1 : -1;
	free_buffer(kind);
	give(r, api.method_iroherror_debug_message(e, &inner));
	return false;
}

// Returns a library buffer of n bytes. The library's own allocation function would zero
// them first. The buffer is empty if st reports a failure, from this call or an earlier
// one.
static RustBuffer reserve(size_t n, RustCallStatus *st) {
	RustBuffer b = {0};
	if (st->code == 0)
		b = api.rustbuffer_reserve(b, n, st);
	if (st->code == 0)
		b.len = n;
	return b;
}

static RustBuffer text(irohub_bytes s, RustCallStatus *st) {
	RustBuffer b = reserve(s.n, st);
	if (b.len)
		memcpy(b.data, s.p, s.n);
	return b;
}

// ---- futures

static void drop_future(int op, uint64_t future) {
	switch (op) {
	case OP_VOID:
		api.rust_future_free_void(future);
		break;
	case OP_HANDLE:
	case OP_STREAM:
		api.rust_future_free_u64(future);
		break;
	default:
		api.rust_future_free_rust_buffer(future);
	}
}

void irohub_drop(int op, uint64_t future, uint64_t id) {
	polling = id; // freeing calls on_wake; setting polling makes it ignore this id
	drop_future(op, future);
	polling = 0;
}

// Polls once, and again while the future asks for it at once. Returns true if the future is
// ready to be completed.
static bool poll_future(int op, uint64_t future, uint64_t id) {
	for (int i = 0; i < 64; i++) {
		polling = id;
		said = SAID_NOTHING;
		switch (op) {
		case OP_VOID:
			api.rust_future_poll_void(future, on_wake, id);
			break;
		case OP_HANDLE:
		case OP_STREAM:
			api.rust_future_poll_u64(future, on_wake, id);
			break;
		default:
			api.rust_future_poll_rust_buffer(future, on_wake, id);
		}
		polling = 0;
		if (said != SAID_AGAIN)
			return said == SAID_READY;
	}
	push(id); // it may wait for other work on this thread: poll again later
	return false;
}

static void split_stream(uint64_t stream, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t send = api.method_bistream_send(api.clone_bistream(stream, &st), &st);
	if (!ok(&st, r)) {
		st = (RustCallStatus){0};
		api.free_bistream(stream, &st);
		return;
	}
	uint64_t recv = api.method_bistream_recv(stream, &st);
	if (!ok(&st, r)) {
		st = (RustCallStatus){0};
		api.free_sendstream(send, &st);
		return;
	}
	r->value = send;
	r->value2 = recv;
}

static void complete(int op, uint64_t future, uint8_t *p, size_t n, irohub_result *r) {
	RustCallStatus st = {0};
	RustBuffer b;
	uint64_t v;
	switch (op) {
	case OP_VOID:
		api.rust_future_complete_void(future, &st);
		ok(&st, r);
		return;
	case OP_HANDLE:
	case OP_STREAM:
		v = api.rust_future_complete_u64(future, &st);
		if (ok(&st, r)) {
			if (op == OP_STREAM)
				split_stream(v, r);
			else
				r->value = v;
		}
		return;
	}
	b = api.rust_future_complete_rust_buffer(future, &st);
	if (!ok(&st, r))
		return;
	switch (op) {
	case OP_BUFFER:
		give(r, b);
		return;
	case OP_OPTION:
		r->value = b.len == 9 && b.data[0] ? be64(b.data + 1) : 0;
		break;
	case OP_READ:
		r->value = b.len >= 4 ? b.len - 4 : 0;
		if (r->value > n) // does not happen: the library was told n
			r->value = n;
		if (r->value)
			memcpy(p, b.data + 4, r->value);
		break;
	}
	free_buffer(b);
}

void irohub_resume(int op, uint64_t future, uint8_t *p, size_t n, uint64_t id, irohub_result *r) {
	if (!poll_future(op, future, id)) {
		r->status = IROHUB_PENDING;
		r->op = op;
		r->future = future;
		return;
	}
	complete(op, future, p, n, r);
	drop_future(op, future);
}

void irohub_start(int what, uint64_t self, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t future = 0;
	int op = OP_VOID;
	switch (what) {
#define CASE(what, object, method, result) \
	case what: \
		future = api.method_##object##_##method(api.clone_##object(self, &st)); \
		op = result; \
		break;
		CASE(IROHUB_ACCEPT, endpoint, accept_next, OP_OPTION)
		CASE(IROHUB_CLOSE_ENDPOINT, endpoint, close, OP_VOID)
		CASE(IROHUB_ONLINE, endpoint, online, OP_VOID)
		CASE(IROHUB_ACCEPT_INCOMING, incoming, accept, OP_HANDLE)
		CASE(IROHUB_REFUSE, incoming, refuse, OP_VOID)
		CASE(IROHUB_REMOTE_ADDR, incoming, remote_addr, OP_BUFFER)
		CASE(IROHUB_HANDSHAKE, accepting, connect, OP_HANDLE)
		CASE(IROHUB_CLOSED, connection, closed, OP_BUFFER)
		CASE(IROHUB_ACCEPT_STREAM, connection, accept_bi, OP_STREAM)
		CASE(IROHUB_ACCEPT_UNI, connection, accept_uni, OP_HANDLE)
		CASE(IROHUB_DATAGRAM, connection, read_datagram, OP_BUFFER)
		CASE(IROHUB_OPEN_STREAM, connection, open_bi, OP_STREAM)
		CASE(IROHUB_FINISH, sendstream, finish, OP_VOID)
		CASE(IROHUB_STOPPED, sendstream, stopped, OP_BUFFER)
#undef CASE
	}
	irohub_resume(op, future, NULL, 0, id, r);
}

void irohub_write(uint64_t send, const uint8_t *p, size_t n, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	RustBuffer b = reserve(4 + n, &st);
	if (!ok(&st, r))
		return;
	b.data[0] = n >> 24, b.data[1] = n >> 16, b.data[2] = n >> 8, b.data[3] = n;
	memcpy(b.data + 4, p, n);
	uint64_t self = api.clone_sendstream(send, &st);
	irohub_resume(OP_VOID, api.method_sendstream_write_all(self, b), NULL, 0, id, r);
}

void irohub_read(uint64_t recv, uint8_t *p, uint32_t n, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t self = api.clone_recvstream(recv, &st);
	irohub_resume(OP_READ, api.method_recvstream_read(self, n), p, n, id, r);
}

void irohub_reset(uint64_t send, uint64_t code, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t self = api.clone_sendstream(send, &st);
	irohub_resume(OP_VOID, api.method_sendstream_reset(self, code), NULL, 0, id, r);
}

void irohub_stop(uint64_t recv, uint64_t code, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t self = api.clone_recvstream(recv, &st);
	irohub_resume(OP_VOID, api.method_recvstream_stop(self, code), NULL, 0, id, r);
}

// ---- endpoints

void irohub_bind(irohub_options o, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t b = api.constructor_endpointbuilder_new(&st);
	if (!ok(&st, r))
		return;
#define SELF api.clone_endpointbuilder(b, &st)
#define SET(method, s) \
	do { \
		RustBuffer arg = text(s, &st); \
		if (st.code == 0) \
			api.method_endpointbuilder_##method(SELF, arg, &st); \
	} while (0)
	// A preset must come first: it installs the cryptography.
	if (o.public_relays)
		api.method_endpointbuilder_apply_n0(SELF, &st);
	else
		api.method_endpointbuilder_apply_minimal(SELF, &st);
	if (st.code == 0 && o.relays.n) {
		RustBuffer urls = text(o.relays, &st);
		uint64_t mode = st.code == 0 ? api.constructor_relaymode_custom_from_urls(urls, &st) : 0;
		if (st.code == 0)
			api.method_endpointbuilder_relay_mode(SELF, mode, &st);
	}
	SET(secret_key, o.secret);
	SET(alpns, o.alpns);
	for (int i = 0; i < 2; i++)
		if (o.addr[i].n)
			SET(bind_addr, o.addr[i]);
	if (ok(&st, r)) {
		irohub_resume(OP_HANDLE, api.method_endpointbuilder_bind(b), NULL, 0, id, r);
		return;
	}
	st = (RustCallStatus){0};
	api.free_endpointbuilder(b, &st);
#undef SET
#undef SELF
}

// Returns the handle of an address. On an error, for example if node is not a NodeID,
// returns 0 and stores the error in r.
static uint64_t new_addr(irohub_bytes node, irohub_bytes relay, irohub_bytes hosts, irohub_result *r) {
	RustCallStatus st = {0};
	RustBuffer id = text(node, &st), via = text(relay, &st), at = text(hosts, &st);
	uint64_t n = 0, addr = 0;
	if (st.code == 0) {
		n = api.constructor_endpointid_from_bytes(id, &st);
		id = (RustBuffer){0};
	}
	if (st.code == 0) {
		addr = api.constructor_endpointaddr_new(n, via, at, &st);
		via = at = (RustBuffer){0};
	}
	free_buffer(id); // those that no call has consumed
	free_buffer(via);
	free_buffer(at);
	return ok(&st, r) ? addr : 0;
}

void irohub_dial(uint64_t endpoint, irohub_bytes node, irohub_bytes relay, irohub_bytes hosts,
                 irohub_bytes alpn, uint64_t id, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t addr = new_addr(node, relay, hosts, r);
	if (!addr)
		return;
	RustBuffer name = text(alpn, &st);
	if (!ok(&st, r)) {
		st = (RustCallStatus){0};
		api.free_endpointaddr(addr, &st);
		return;
	}
	uint64_t self = api.clone_endpoint(endpoint, &st);
	irohub_resume(OP_HANDLE, api.method_endpoint_connect(self, addr, name), NULL, 0, id, r);
}

void irohub_bound_sockets(uint64_t endpoint, irohub_result *r) {
	RustCallStatus st = {0};
	RustBuffer b = api.method_endpoint_bound_sockets(api.clone_endpoint(endpoint, &st), &st);
	if (ok(&st, r))
		give(r, b);
}

// Splits an address into its parts and consumes its handle.
static void addr_parts(uint64_t addr, irohub_result *hosts, irohub_result *relay) {
	RustCallStatus st = {0};
	RustBuffer b = api.method_endpointaddr_direct_addresses(api.clone_endpointaddr(addr, &st), &st);
	if (ok(&st, hosts))
		give(hosts, b);
	st = (RustCallStatus){0};
	b = api.method_endpointaddr_relay_url(addr, &st);
	if (ok(&st, relay))
		give(relay, b);
}

void irohub_endpoint_addr(uint64_t endpoint, irohub_result *hosts, irohub_result *relay) {
	RustCallStatus st = {0};
	uint64_t addr = api.method_endpoint_addr(api.clone_endpoint(endpoint, &st), &st);
	if (ok(&st, hosts))
		addr_parts(addr, hosts, relay);
}

void irohub_format_ticket(irohub_bytes node, irohub_bytes relay, irohub_bytes hosts, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t addr = new_addr(node, relay, hosts, r);
	if (!addr)
		return;
	uint64_t ticket = api.constructor_endpointticket_from_addr(addr, &st);
	if (!ok(&st, r))
		return;
	RustBuffer b = api.method_endpointticket_uniffi_trait_display(ticket, &st);
	if (ok(&st, r))
		give(r, b);
}

void irohub_parse_ticket(irohub_bytes s, irohub_result *node, irohub_result *hosts, irohub_result *relay) {
	RustCallStatus st = {0};
	RustBuffer words = text(s, &st);
	uint64_t ticket = st.code == 0 ? api.constructor_endpointticket_from_string(words, &st) : 0;
	if (!ok(&st, node))
		return;
	uint64_t addr = api.method_endpointticket_endpoint_addr(ticket, &st);
	if (!ok(&st, node))
		return;
	uint64_t n = api.method_endpointaddr_id(api.clone_endpointaddr(addr, &st), &st);
	RustBuffer b = {0};
	if (st.code == 0)
		b = api.method_endpointid_to_bytes(n, &st);
	if (!ok(&st, node)) {
		st = (RustCallStatus){0};
		api.free_endpointaddr(addr, &st);
		return;
	}
	give(node, b);
	addr_parts(addr, hosts, relay);
}

// ---- connections

void irohub_remote_id(uint64_t conn, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t n = api.method_connection_remote_id(api.clone_connection(conn, &st), &st);
	if (!ok(&st, r))
		return;
	RustBuffer b = api.method_endpointid_to_bytes(n, &st);
	if (ok(&st, r))
		give(r, b);
}

void irohub_limit_streams(uint64_t conn, uint64_t bidirectional, irohub_result *r) {
	RustCallStatus st = {0};
	uint64_t self = api.clone_connection(conn, &st);
	api.method_connection_set_max_concurrent_bi_streams(self, bidirectional, &st);
	if (!ok(&st, r))
		return;
	self = api.clone_connection(conn, &st);
	api.method_connection_set_max_concurrent_uni_streams(self, 0, &st);
	ok(&st, r);
}

void irohub_close(uint64_t conn, uint64_t code, irohub_bytes reason, irohub_result *r) {
	RustCallStatus st = {0};
	RustBuffer words = text(reason, &st);
	if (st.code == 0)
		api.method_connection_close(api.clone_connection(conn, &st), (int64_t)code, words, &st);
	ok(&st, r);
}

void irohub_close_reason(uint64_t conn, irohub_result *r) {
	RustCallStatus st = {0};
	RustBuffer b = api.method_connection_close_reason(api.clone_connection(conn, &st), &st);
	if (ok(&st, r))
		give(r, b);
}

void irohub_free(int object, uint64_t handle) {
	RustCallStatus st = {0};
	switch (object) {
	case IROHUB_ENDPOINT:
		api.free_endpoint(handle, &st);
		break;
	case IROHUB_INCOMING:
		api.free_incoming(handle, &st);
		break;
	case IROHUB_ACCEPTING:
		api.free_accepting(handle, &st);
		break;
	case IROHUB_CONNECTION:
		api.free_connection(handle, &st);
		break;
	case IROHUB_SEND:
		api.free_sendstream(handle, &st);
		break;
	case IROHUB_RECV:
		api.free_recvstream(handle, &st);
		break;
	case IROHUB_NODE:
		api.free_endpointid(handle, &st);
		break;
	}
}
