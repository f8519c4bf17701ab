/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tiny guest driver: split virtqueues in a guest memory of its own, into
 * which it puts descriptors, legal and evil, and from which it takes what the
 * device gave back. All values are written as given; nothing is checked.
 */
#ifndef FAKE_RING_H
#define FAKE_RING_H

#include "virtio/queue.h"

#define RING_MEMORY MIB(1)
#define RING_DESC UINT64_C(0x1000)
#define RING_DRIVER UINT64_C(0x2000)
#define RING_DEVICE UINT64_C(0x3000)
#define RING_STRIDE UINT64_C(0x4000) /* from one queue's areas to the next */
#define RING_DATA UINT64_C(0x10000)  /* free for buffers */

enum {
	RING_NEXT = 1,
	RING_WRITE = 2,
	RING_INDIRECT = 4,
};

struct ring {
	struct gmem *mem;
	uint64_t base; /* added to the addresses of the areas */
	uint16_t size;
	uint16_t driver_idx; /* next to publish */
	uint16_t device_idx; /* next to take back */
};

/* Makes memory and an empty ring; ring_destroy frees both. */
int ring_create(struct ring *ring, uint16_t size) must_check;
void ring_destroy(struct ring *ring);

/* Another queue, empty, number @n of a device, in the memory of @first. */
void ring_share(struct ring *ring, const struct ring *first, uint16_t n,
		uint16_t size);

/* Tells @queue where the areas are, as a driver would. */
void ring_describe(const struct ring *ring, struct queue *queue);

void ring_set_desc(struct ring *ring, uint16_t index, uint64_t addr,
		   uint32_t len, uint16_t flags, uint16_t next);

/* Makes @head available. */
void ring_publish(struct ring *ring, uint16_t head);

/* Raw words, for tests of broken rings and of event suppression. */
void ring_set_driver_flags(struct ring *ring, uint16_t flags);
void ring_set_driver_idx(struct ring *ring, uint16_t idx);
void ring_set_used_event(struct ring *ring, uint16_t event);
uint16_t ring_device_flags(const struct ring *ring);
uint16_t ring_avail_event(const struct ring *ring);

/* The next used element; false when the device gave nothing back. */
bool ring_take(struct ring *ring, uint32_t *ret_id, uint32_t *ret_len);

#endif
