/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames as a guest would make them: ARP requests and TCP over IPv4 over
 * Ethernet, with their checksums.
 */
#ifndef FAKE_FRAMES_H
#define FAKE_FRAMES_H

#include "vmm/util.h"

#include <stdbool.h>

#define FRAME_ETHERNET 14
#define FRAME_IP 20
#define FRAME_TCP 20
#define FRAME_HEADERS (FRAME_ETHERNET + FRAME_IP + FRAME_TCP)

#define FRAME_GUEST_IP UINT32_C(0xa9fe0a02)
#define FRAME_SERVICE_IP UINT32_C(0xa9fea9fe)

enum {
	TCP_FLAG_FIN = 1,
	TCP_FLAG_SYN = 2,
	TCP_FLAG_RST = 4,
	TCP_FLAG_PSH = 8,
	TCP_FLAG_ACK = 16,
};

struct segment {
	uint16_t from_port, to_port;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t shut; /* how much less than 65535 bytes the window is */
	uint16_t mss;  /* an option with this, unless it is 0 */
	const uint8_t *data;
	size_t len;
};

/* Who has @address? Returns the frame's length. */
size_t frame_arp(uint8_t *to, uint32_t address);

size_t frame_tcp(uint8_t *to, const struct segment *segment);

/* Puts right the checksums of a frame that is IPv4 and TCP, as far as its
 * lengths allow. */
void frame_fix_checksums(uint8_t *frame, size_t len);

/* False when it is not TCP, or a checksum is wrong. data points into it. */
bool frame_parse_tcp(const uint8_t *frame, size_t len, struct segment *segment);

uint32_t frame_be16(const uint8_t *bytes);
uint32_t frame_be32(const uint8_t *bytes);

#endif
