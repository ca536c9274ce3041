//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64))

// The ABI of libiroh_ffi 1.2.0: every function that the glue calls, with its C type and the
// checksum that the library reports for it. Only glue.c includes this file.

#ifndef IROHUB_ABI_H
#define IROHUB_ABI_H

#include <stdint.h>

// A buffer owned by the library, passed and returned by value.
typedef struct {
	uint64_t capacity;
	uint64_t len;
	uint8_t *data;
} RustBuffer;

// The status of a call. code 0: success; 1: error holds the handle of an IrohError; 2: the
// library panicked, and error holds its message.
typedef struct {
	int8_t code;
	RustBuffer error;
} RustCallStatus;

// Called once for each poll it was passed to: with 0 when the future is ready, with 1 when
// it should be polled again.
typedef void (*RustFutureCallback)(uint64_t data, int8_t code);

// The contract version of the serialisations below.
enum { IROH_CONTRACT = 30 };

// Objects. Each has a u64 handle, which clone_… duplicates and free_… releases. The
// contract version covers these and the next list.
#define IROH_OBJECTS(O) \
	O(endpointbuilder) O(endpoint) O(incoming) O(accepting) O(connection) \
	O(bistream) O(sendstream) O(recvstream) O(endpointaddr) O(endpointticket) \
	O(endpointid) O(relaymode) O(iroherror)

#define IROH_FFI(F) \
	F(uint32_t, uniffi_contract_version, (void)) \
	F(RustBuffer, rustbuffer_reserve, (RustBuffer, uint64_t, RustCallStatus *)) \
	F(void, rustbuffer_free, (RustBuffer, RustCallStatus *)) \
	F(void, rust_future_poll_void, (uint64_t, RustFutureCallback, uint64_t)) \
	F(void, rust_future_complete_void, (uint64_t, RustCallStatus *)) \
	F(void, rust_future_free_void, (uint64_t)) \
	F(void, rust_future_poll_u64, (uint64_t, RustFutureCallback, uint64_t)) \
	F(uint64_t, rust_future_complete_u64, (uint64_t, RustCallStatus *)) \
	F(void, rust_future_free_u64, (uint64_t)) \
	F(void, rust_future_poll_rust_buffer, (uint64_t, RustFutureCallback, uint64_t)) \
	F(RustBuffer, rust_future_complete_rust_buffer, (uint64_t, RustCallStatus *)) \
	F(void, rust_future_free_rust_buffer, (uint64_t))

// Functions with a checksum. Every method consumes the handle of its object, and the
// handles of objects among its arguments. 0: the library reports no checksum.
#define IROH_CHECKED(F) \
	F(uint64_t, constructor_endpointbuilder_new, (RustCallStatus *), 16347) \
	F(void, method_endpointbuilder_apply_minimal, (uint64_t, RustCallStatus *), 3398) \
	F(void, method_endpointbuilder_apply_n0, (uint64_t, RustCallStatus *), 29986) \
	F(void, method_endpointbuilder_secret_key, (uint64_t, RustBuffer, RustCallStatus *), 1964) \
	F(void, method_endpointbuilder_alpns, (uint64_t, RustBuffer, RustCallStatus *), 55626) \
	F(void, method_endpointbuilder_bind_addr, (uint64_t, RustBuffer, RustCallStatus *), 50528) \
	F(void, method_endpointbuilder_relay_mode, (uint64_t, uint64_t, RustCallStatus *), 17405) \
	F(uint64_t, constructor_relaymode_custom_from_urls, (RustBuffer, RustCallStatus *), 49579) \
	F(uint64_t, method_endpointbuilder_bind, (uint64_t), 5850) \
	F(uint64_t, method_endpoint_accept_next, (uint64_t), 38336) \
	F(uint64_t, method_endpoint_addr, (uint64_t, RustCallStatus *), 25271) \
	F(RustBuffer, method_endpoint_bound_sockets, (uint64_t, RustCallStatus *), 64249) \
	F(uint64_t, method_endpoint_close, (uint64_t), 8483) \
	F(uint64_t, method_endpoint_connect, (uint64_t, uint64_t, RustBuffer), 28652) \
	F(uint64_t, method_endpoint_online, (uint64_t), 27176) \
	F(uint64_t, method_incoming_accept, (uint64_t), 17830) \
	F(uint64_t, method_incoming_refuse, (uint64_t), 32144) \
	F(uint64_t, method_incoming_remote_addr, (uint64_t), 41074) \
	F(uint64_t, method_accepting_connect, (uint64_t), 4822) \
	F(uint64_t, method_connection_accept_bi, (uint64_t), 24717) \
	F(uint64_t, method_connection_accept_uni, (uint64_t), 14498) \
	F(uint64_t, method_connection_read_datagram, (uint64_t), 7530) \
	F(uint64_t, method_connection_open_bi, (uint64_t), 7884) \
	F(void, method_connection_close, (uint64_t, int64_t, RustBuffer, RustCallStatus *), 4437) \
	F(RustBuffer, method_connection_close_reason, (uint64_t, RustCallStatus *), 54740) \
	F(uint64_t, method_connection_closed, (uint64_t), 47559) \
	F(uint64_t, method_connection_remote_id, (uint64_t, RustCallStatus *), 30142) \
	F(void, method_connection_set_max_concurrent_bi_streams, (uint64_t, uint64_t, RustCallStatus *), 50250) \
	F(void, method_connection_set_max_concurrent_uni_streams, (uint64_t, uint64_t, RustCallStatus *), 26941) \
	F(uint64_t, method_bistream_send, (uint64_t, RustCallStatus *), 17421) \
	F(uint64_t, method_bistream_recv, (uint64_t, RustCallStatus *), 64172) \
	F(uint64_t, method_sendstream_write_all, (uint64_t, RustBuffer), 64390) \
	F(uint64_t, method_sendstream_finish, (uint64_t), 43289) \
	F(uint64_t, method_sendstream_stopped, (uint64_t), 18559) \
	F(uint64_t, method_sendstream_reset, (uint64_t, uint64_t), 6025) \
	F(uint64_t, method_recvstream_read, (uint64_t, uint32_t), 19153) \
	F(uint64_t, method_recvstream_stop, (uint64_t, uint64_t), 6249) \
	F(uint64_t, constructor_endpointid_from_bytes, (RustBuffer, RustCallStatus *), 63462) \
	F(RustBuffer, method_endpointid_to_bytes, (uint64_t, RustCallStatus *), 28032) \
	F(uint64_t, constructor_endpointaddr_new, (uint64_t, RustBuffer, RustBuffer, RustCallStatus *), 40386) \
	F(uint64_t, method_endpointaddr_id, (uint64_t, RustCallStatus *), 32503) \
	F(RustBuffer, method_endpointaddr_direct_addresses, (uint64_t, RustCallStatus *), 63199) \
	F(RustBuffer, method_endpointaddr_relay_url, (uint64_t, RustCallStatus *), 24207) \
	F(uint64_t, constructor_endpointticket_from_addr, (uint64_t, RustCallStatus *), 28196) \
	F(uint64_t, constructor_endpointticket_from_string, (RustBuffer, RustCallStatus *), 3825) \
	F(uint64_t, method_endpointticket_endpoint_addr, (uint64_t, RustCallStatus *), 64212) \
	F(RustBuffer, method_endpointticket_uniffi_trait_display, (uint64_t, RustCallStatus *), 0) \
	F(RustBuffer, method_iroherror_kind, (uint64_t, RustCallStatus *), 11512) \
	F(RustBuffer, method_iroherror_debug_message, (uint64_t, RustCallStatus *), 33751)

#endif
