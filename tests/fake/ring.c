/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"

#include <assert.h>
#include <string.h>

struct desc {
	le64 addr;
	le32 len;
	le16 flags, next;
};

struct used {
	le32 id, len;
};

int ring_create(struct ring *ring, uint16_t size)
{
	const struct gmem_range range = {0, RING_MEMORY};
	const struct gmem_request request = {.ranges = &range, .count = 1};

	*ring = (struct ring){.size = size};
	return gmem_create(&ring->mem, &request, NULL);
}

void ring_destroy(struct ring *ring)
{
	gmem_destroy(ring->mem);
}

void ring_describe(const struct ring *ring, struct queue *queue)
{
	queue->size = ring->size;
	queue->desc_gpa = ring->base + RING_DESC;
	queue->driver_gpa = ring->base + RING_DRIVER;
	queue->device_gpa = ring->base + RING_DEVICE;
	queue->ready = true;
}

static void put(struct ring *ring, uint64_t gpa, const void *data, size_t len)
{
	int ret = gmem_write(ring->mem, ring->base + gpa, data, len);

	assert(ret == 0);
}

static void put16(struct ring *ring, uint64_t gpa, uint16_t value)
{
	le16 le = le16_make(value);

	put(ring, gpa, &le, sizeof(le));
}

static uint16_t get16(const struct ring *ring, uint64_t gpa)
{
	le16 le = {0};
	int ret = gmem_read(ring->mem, ring->base + gpa, &le, sizeof(le));

	assert(ret == 0);
	return le16_get(le);
}

void ring_set_desc(struct ring *ring, uint16_t index, uint64_t addr,
		   uint32_t len, uint16_t flags, uint16_t next)
{
	const struct desc desc = {le64_make(addr), le32_make(len),
				  le16_make(flags), le16_make(next)};

	put(ring, RING_DESC + sizeof(desc) * (uint64_t)index, &desc,
	    sizeof(desc));
}

void ring_publish(struct ring *ring, uint16_t head)
{
	uint64_t slot = ring->driver_idx % ring->size;

	put16(ring, RING_DRIVER + 4 + 2 * slot, head);
	ring_set_driver_idx(ring, (uint16_t)(ring->driver_idx + 1));
}

void ring_set_driver_flags(struct ring *ring, uint16_t flags)
{
	put16(ring, RING_DRIVER, flags);
}

void ring_set_driver_idx(struct ring *ring, uint16_t idx)
{
	ring->driver_idx = idx;
	put16(ring, RING_DRIVER + 2, idx);
}

void ring_set_used_event(struct ring *ring, uint16_t event)
{
	put16(ring, RING_DRIVER + 4 + 2 * (uint64_t)ring->size, event);
}

uint16_t ring_device_flags(const struct ring *ring)
{
	return get16(ring, RING_DEVICE);
}

uint16_t ring_avail_event(const struct ring *ring)
{
	return get16(ring, RING_DEVICE + 4 + 8 * (uint64_t)ring->size);
}

void ring_share(struct ring *ring, const struct ring *first, uint16_t n,
		uint16_t size)
{
	*ring = (struct ring){
		.mem = first->mem, .size = size, .base = n * RING_STRIDE};
	put16(ring, RING_DEVICE + 2, 0);
	ring_set_driver_idx(ring, 0);
}

bool ring_take(struct ring *ring, uint32_t *ret_id, uint32_t *ret_len)
{
	uint64_t slot = ring->device_idx % ring->size;
	struct used used = {0};
	int ret;

	if (get16(ring, RING_DEVICE + 2) == ring->device_idx)
		return false;
	ret = gmem_read(ring->mem,
			ring->base + RING_DEVICE + 4 + sizeof(used) * slot,
			&used, sizeof(used));
	assert(ret == 0);
	*ret_id = le32_get(used.id);
	*ret_len = le32_get(used.len);
	ring->device_idx++;
	return true;
}
