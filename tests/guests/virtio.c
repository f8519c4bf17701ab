/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio.h"

static struct request_header header;
static volatile uint8_t status;

uint32_t reg_read(const struct block *block, uint32_t reg)
{
	return read32(block->base + reg);
}

void reg_write(const struct block *block, uint32_t reg, uint32_t value)
{
	write32(block->base + reg, value);
}

static void reg_write64(const struct block *block, uint32_t reg, uint64_t value)
{
	reg_write(block, reg, (uint32_t)value);
	reg_write(block, reg + 4, (uint32_t)(value >> 32));
}

static void add_status(struct block *block, uint32_t bits)
{
	reg_write(block, REG_STATUS, reg_read(block, REG_STATUS) | bits);
}

void block_reset(struct block *block)
{
	reg_write(block, REG_STATUS, 0);
	block->seen = 0;
}

void block_acknowledge(struct block *block)
{
	add_status(block, STATUS_ACKNOWLEDGE);
	add_status(block, STATUS_DRIVER);
}

static uint64_t offered_features(const struct block *block)
{
	uint64_t features;

	reg_write(block, REG_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)reg_read(block, REG_DEVICE_FEATURES) << 32;
	reg_write(block, REG_DEVICE_FEATURES_SEL, 0);
	return features | reg_read(block, REG_DEVICE_FEATURES);
}

bool block_negotiate(struct block *block, uint64_t wanted)
{
	block->features = offered_features(block) & wanted;
	reg_write(block, REG_DRIVER_FEATURES_SEL, 0);
	reg_write(block, REG_DRIVER_FEATURES, (uint32_t)block->features);
	reg_write(block, REG_DRIVER_FEATURES_SEL, 1);
	reg_write(block, REG_DRIVER_FEATURES,
		  (uint32_t)(block->features >> 32));
	add_status(block, STATUS_FEATURES_OK);
	return reg_read(block, REG_STATUS) & STATUS_FEATURES_OK;
}

void device_set_queue(struct block *block, uint32_t queue,
		      const struct rings *rings, uint32_t size)
{
	reg_write(block, REG_QUEUE_SEL, queue);
	reg_write(block, REG_QUEUE_NUM, size);
	reg_write64(block, REG_QUEUE_DESC, (uintptr_t)rings->desc);
	reg_write64(block, REG_QUEUE_DRIVER, (uintptr_t)&rings->driver);
	reg_write64(block, REG_QUEUE_DEVICE, (uintptr_t)&rings->device);
	reg_write(block, REG_QUEUE_READY, 1);
}

void block_set_queue(struct block *block, const struct rings *rings,
		     uint32_t size)
{
	device_set_queue(block, 0, rings, size);
}

void block_go(struct block *block)
{
	add_status(block, STATUS_DRIVER_OK);
}

static void clear(void *area, size_t len)
{
	uint64_t *words = area;

	for (size_t i = 0; i < len / sizeof(*words); i++)
		words[i] = 0;
}

bool block_init(struct block *block, uintptr_t base, uint32_t gsi,
		struct rings *rings, uint64_t wanted)
{
	block->base = base;
	block->gsi = gsi;
	block->rings = rings;
	/* Until it is reset, the device may still write to old rings. */
	block_reset(block);
	clear(rings, sizeof(*rings));
	block_acknowledge(block);
	if (!block_negotiate(block, wanted | UINT64_C(1) << F_VERSION_1))
		return false;
	block_set_queue(block, rings, RING_SIZE);
	block_go(block);
	return reg_read(block, REG_STATUS) ==
	       (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
		STATUS_DRIVER_OK);
}

uint64_t block_capacity(const struct block *block)
{
	uint32_t before;
	uint64_t capacity;

	do {
		before = reg_read(block, REG_CONFIG_GENERATION);
		capacity = reg_read(block, REG_CONFIG) |
			   (uint64_t)reg_read(block, REG_CONFIG + 4) << 32;
	} while (before != reg_read(block, REG_CONFIG_GENERATION));
	return capacity;
}

void block_prepare(struct block *block, uint32_t type, uint64_t sector,
		   void *data, uint32_t len)
{
	struct descriptor *desc = block->rings->desc;
	uint16_t direction = type == BLK_OUT || type == BLK_DISCARD ||
					     type == BLK_WRITE_ZEROES
				     ? 0
				     : DESC_WRITE;

	status = BLK_NONE;
	header = (struct request_header){.type = type, .sector = sector};
	desc[0] = (struct descriptor){(uintptr_t)&header, sizeof(header),
				      DESC_NEXT, len ? 1 : 2};
	desc[1] = (struct descriptor){(uintptr_t)data, len,
				      (uint16_t)(DESC_NEXT | direction), 2};
	desc[2] = (struct descriptor){(uintptr_t)&status, 1, DESC_WRITE, 0};
}

/* Did the device ask to be told of the entry just published (2.7.10)? */
static bool kick_wanted(const struct block *block, uint16_t published)
{
	const volatile struct device_ring *device = &block->rings->device;

	if (block->features & UINT64_C(1) << F_EVENT_IDX)
		return device->avail_event == (uint16_t)(published - 1);
	return !(device->flags & 1);
}

void block_submit(struct block *block, uint16_t head)
{
	volatile struct driver_ring *driver = &block->rings->driver;
	uint16_t idx = driver->idx;

	driver->ring[idx % RING_SIZE] = head;
	barrier();
	driver->idx = (uint16_t)(idx + 1);
	barrier();
	if (kick_wanted(block, (uint16_t)(idx + 1)))
		reg_write(block, REG_QUEUE_NOTIFY, 0);
}

bool block_wait(struct block *block)
{
	const volatile struct device_ring *device = &block->rings->device;
	uint64_t start = rdtsc();

	while (device->idx == block->seen)
		if (!time_left(start))
			return false;
	block->seen++;
	return true;
}

uint32_t block_used_id(const struct block *block)
{
	return block->rings->device.ring[(block->seen - 1) % RING_SIZE].id;
}

uint32_t block_used_len(const struct block *block)
{
	return block->rings->device.ring[(block->seen - 1) % RING_SIZE].len;
}

uint8_t block_status(void)
{
	return status;
}

uint8_t block_request(struct block *block, uint32_t type, uint64_t sector,
		      void *data, uint32_t len)
{
	block_prepare(block, type, sector, data, len);
	block_submit(block, 0);
	return block_wait(block) ? status : BLK_NONE;
}
