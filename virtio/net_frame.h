/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known about frames: the header that precedes each one on the queues
 * and on the tap (virtio 1.2, 5.1.6), and the few fields of Ethernet that the
 * device looks at.
 */
#ifndef EMBER_NET_FRAME_H
#define EMBER_NET_FRAME_H

#include "vmm/config.h"
#include "vmm/util.h"

#include <stdbool.h>

/* Feature bits (5.1.3). */
enum {
	VIRTIO_NET_F_CSUM = 0,
	VIRTIO_NET_F_GUEST_CSUM = 1,
	VIRTIO_NET_F_MTU = 3,
	VIRTIO_NET_F_MAC = 5,
	VIRTIO_NET_F_GUEST_TSO4 = 7,
	VIRTIO_NET_F_GUEST_TSO6 = 8,
	VIRTIO_NET_F_GUEST_UFO = 10,
	VIRTIO_NET_F_HOST_TSO4 = 11,
	VIRTIO_NET_F_HOST_TSO6 = 12,
	VIRTIO_NET_F_HOST_UFO = 14,
	VIRTIO_NET_F_MRG_RXBUF = 15,
};

struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	le16 hdr_len;
	le16 gso_size;
	le16 csum_start;
	le16 csum_offset;
	le16 num_buffers;
};

#define ETHERNET_LEN 14
/* The largest frame segmentation offload makes: 64 KiB of IP. */
#define NET_FRAME_MAX (ETHERNET_LEN + 65536)

/* Enough of a frame to decide where it goes: Ethernet, and ARP or IPv4. */
#define NET_PEEK_LEN (ETHERNET_LEN + 28)

/* Clears what a driver must not set and checks the rest against the features
 * it accepted (5.1.6.2.1). False: the frame is malformed. */
bool net_header_sanitize(struct net_header *header, uint64_t features,
			 size_t frame_len);

/* Does what checksum offload would have done: fills in the checksum that the
 * header says is missing. False: it says nonsense. */
bool net_frame_complete_checksum(uint8_t *frame, size_t len,
				 const struct net_header *header);

#endif
