/* SPDX-License-Identifier: Apache-2.0 */
/* What travels on the queues of a socket device (virtio 1.2, section 5.10.6).
 */
#ifndef EMBER_VSOCK_PACKET_H
#define EMBER_VSOCK_PACKET_H

#include "vmm/util.h"

#define VSOCK_HOST_CID 2
#define VSOCK_TYPE_STREAM 1

enum vsock_op {
	VSOCK_OP_INVALID,
	VSOCK_OP_REQUEST,
	VSOCK_OP_RESPONSE,
	VSOCK_OP_RST,
	VSOCK_OP_SHUTDOWN,
	VSOCK_OP_RW,
	VSOCK_OP_CREDIT_UPDATE,
	VSOCK_OP_CREDIT_REQUEST,
};

/* Flags of VSOCK_OP_SHUTDOWN: what the sender will no longer do. */
enum {
	VSOCK_SHUTDOWN_RECEIVE = 1,
	VSOCK_SHUTDOWN_SEND = 2,
	VSOCK_SHUTDOWN_BOTH = 3,
};

struct vsock_header {
	le64 src_cid;
	le64 dst_cid;
	le32 src_port;
	le32 dst_port;
	le32 len;
	le16 type;
	le16 op;
	le32 flags;
	le32 buf_alloc;
	le32 fwd_cnt;
} __attribute__((packed));

/* What is put into buffers of the event queue (5.10.6.7). */
struct vsock_event {
	le32 id;
};

#define VSOCK_EVENT_TRANSPORT_RESET 0

/* A packet for the device's use, in either direction: in host order, and with
 * ports by the side they belong to. */
struct vsock_packet {
	uint32_t host_port, guest_port;
	uint32_t len, flags, buf_alloc, fwd_cnt;
	uint16_t type, op;
};

#define VSOCK_HEADER_LEN sizeof(struct vsock_header)

/* At most this much data in one packet, and buffered for one connection. */
#define VSOCK_DATA_MAX KIB(64)
#define VSOCK_BUF_ALLOC KIB(64)

#endif
