//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

// The glue between Go and libiroh_ffi: the functions that the Go side calls. It is in
// C, because one call from Go to C costs more than most of the library's functions.
// One function here does everything for one operation (clone, call, poll, complete,
// free). Go calls again only if the operation has to wait.
//
// No C pointer reaches Go, and no Go pointer outlives the call that passed it.

#ifndef IROHUB_GLUE_H
#define IROHUB_GLUE_H

#include <stddef.h>
#include <stdint.h>

// How a call ended.
enum {
	IROHUB_OK = 0,
	IROHUB_ERROR = 1,   // kind is the type of error; take the text
	IROHUB_PANIC = 2,   // the library panicked; take the text
	IROHUB_PENDING = 3, // resume or drop the future
};

typedef struct {
	int32_t status;
	int32_t kind;         // with IROHUB_ERROR: IrohErrorKind, from 0
	int32_t op;           // with IROHUB_PENDING: argument for resume and drop
	uint64_t future;      // with IROHUB_PENDING
	uint64_t value;       // a handle, or a number of bytes
	uint64_t value2;      // a stream: value sends, value2 receives
	uint64_t buf[3];      // a text or a list, for irohub_take; buf[1] is its length
} irohub_result;

// Objects that Go holds.
enum {
	IROHUB_ENDPOINT,
	IROHUB_INCOMING,
	IROHUB_ACCEPTING,
	IROHUB_CONNECTION,
	IROHUB_SEND,
	IROHUB_RECV,
	IROHUB_NODE,
};

// Operations of an object without further arguments, for irohub_start.
enum {
	IROHUB_ACCEPT,         // endpoint: value is an incoming, 0 once it is closed
	IROHUB_CLOSE_ENDPOINT, // endpoint
	IROHUB_ONLINE,         // endpoint
	IROHUB_ACCEPT_INCOMING,// incoming: value is an accepting
	IROHUB_REFUSE,         // incoming
	IROHUB_REMOTE_ADDR,    // incoming: the buffer is its remote address
	IROHUB_HANDSHAKE,      // accepting: value is a connection
	IROHUB_CLOSED,         // connection: the text is the reason
	IROHUB_ACCEPT_STREAM,  // connection: value, value2 are a stream
	IROHUB_ACCEPT_UNI,     // connection: value is a stream that receives
	IROHUB_DATAGRAM,       // connection: the buffer is a datagram
	IROHUB_OPEN_STREAM,    // connection: value, value2 are a stream
	IROHUB_FINISH,         // send
	IROHUB_STOPPED,        // send
};

// Loads the library at path and checks its ABI. Returns 0 on success. Otherwise err is the
// reason, and the library is not used.
int irohub_load(const char *path, char *err, size_t n);

// Returns a descriptor that becomes readable when irohub_woken has ids to return; -1 and
// errno on failure. Called once.
int irohub_wake_fd(void);

// Moves at most n ids to the array, of futures that can be resumed. Returns how many.
int irohub_woken(uint64_t *ids, int n);

// Every operation gets an id for this one poll. If the result is IROHUB_PENDING,
// irohub_woken returns the id once, possibly after the future was dropped.
void irohub_start(int what, uint64_t self, uint64_t id, irohub_result *r);
void irohub_write(uint64_t send, const uint8_t *p, size_t n, uint64_t id, irohub_result *r);
void irohub_read(uint64_t recv, uint8_t *p, uint32_t n, uint64_t id, irohub_result *r);
void irohub_reset(uint64_t send, uint64_t code, uint64_t id, irohub_result *r);
void irohub_stop(uint64_t recv, uint64_t code, uint64_t id, irohub_result *r);
void irohub_resume(int op, uint64_t future, uint8_t *p, size_t n, uint64_t id, irohub_result *r);
void irohub_drop(int op, uint64_t future, uint64_t id);

// The arguments of bind and dial are lists in the library's serialisation.
typedef struct {
	const uint8_t *p;
	size_t n;
} irohub_bytes;

typedef struct {
	irohub_bytes secret, alpns, relays;
	irohub_bytes addr[2]; // text; n = 0: none
	int public_relays;
} irohub_options;

void irohub_bind(irohub_options o, uint64_t id, irohub_result *r);
void irohub_dial(uint64_t endpoint, irohub_bytes node, irohub_bytes relay, irohub_bytes hosts,
                 irohub_bytes alpn, uint64_t id, irohub_result *r);

// Calls that never wait.
void irohub_bound_sockets(uint64_t endpoint, irohub_result *r);
void irohub_endpoint_addr(uint64_t endpoint, irohub_result *hosts, irohub_result *relay);
void irohub_remote_id(uint64_t conn, irohub_result *r);
void irohub_limit_streams(uint64_t conn, uint64_t bidirectional, irohub_result *r);
void irohub_close(uint64_t conn, uint64_t code, irohub_bytes reason, irohub_result *r);
void irohub_close_reason(uint64_t conn, irohub_result *r);
void irohub_format_ticket(irohub_bytes node, irohub_bytes relay, irohub_bytes hosts, irohub_result *r);
void irohub_parse_ticket(irohub_bytes text, irohub_result *node, irohub_result *hosts, irohub_result *relay);

// Copies a result's buffer to p, which must be as long as the buffer, and frees the buffer.
// Must be called once for each result that has one.
void irohub_take(irohub_result *r, uint8_t *p);

void irohub_free(int object, uint64_t handle);

#endif
