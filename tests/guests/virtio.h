/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for virtio block devices over MMIO (virtio 1.2, 4.2 and 5.2), small
 * and obedient by itself; with every step open to guests that want to do it
 * wrongly.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "guest.h"

#define VIRTIO_BASE 0xc0001000u
#define VIRTIO_GSI 5

enum {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_VENDOR_ID = 0x00c,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SEL = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_NUM_MAX = 0x034,
	REG_QUEUE_NUM = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = 0x050,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC = 0x080,
	REG_QUEUE_DRIVER = 0x090,
	REG_QUEUE_DEVICE = 0x0a0,
	REG_CONFIG_GENERATION = 0x0fc,
	REG_CONFIG = 0x100,
};

enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_NEEDS_RESET = 64,
	STATUS_FAILED = 128,
};

enum {
	F_RO = 5,
	F_FLUSH = 9,
	F_DISCARD = 13,
	F_WRITE_ZEROES = 14,
	F_EVENT_IDX = 29,
	F_VERSION_1 = 32,
};

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

enum {
	BLK_IN = 0,
	BLK_OUT = 1,
	BLK_FLUSH = 4,
	BLK_GET_ID = 8,
	BLK_DISCARD = 11,
	BLK_WRITE_ZEROES = 13,
};

enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPP = 2, BLK_NONE = 0xff };

#define SECTOR 512
#define RING_SIZE 16

struct descriptor {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct driver_ring {
	uint16_t flags, idx, ring[RING_SIZE], used_event;
};

struct device_ring {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[RING_SIZE];
	uint16_t avail_event;
};

/* Everything a device and its driver share. */
struct rings {
	struct descriptor desc[RING_SIZE] __attribute__((aligned(16)));
	struct driver_ring driver __attribute__((aligned(4)));
	struct device_ring device __attribute__((aligned(4)));
};

struct request_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* What DISCARD and WRITE_ZEROES have for data. */
struct request_range {
	uint64_t sector;
	uint32_t sectors, flags;
};

#define RANGE_UNMAP 1

struct block {
	uintptr_t base;
	uint32_t gsi;
	uint64_t features; /* negotiated */
	struct rings *rings;
	uint16_t seen; /* device ring entries dealt with */
};

uint32_t reg_read(const struct block *block, uint32_t reg);
void reg_write(const struct block *block, uint32_t reg, uint32_t value);

/* The driver's steps in order (3.1.1). */
void block_reset(struct block *block);
void block_acknowledge(struct block *block);
bool block_negotiate(struct block *block, uint64_t wanted);
void block_set_queue(struct block *block, const struct rings *rings,
		     uint32_t size);
void device_set_queue(struct block *block, uint32_t queue,
		      const struct rings *rings, uint32_t size);
void block_go(struct block *block);

/* All of them; false when the device refused one. */
bool block_init(struct block *block, uintptr_t base, uint32_t gsi,
		struct rings *rings, uint64_t wanted);

uint64_t block_capacity(const struct block *block);

/* Builds a request in descriptors 0 to 2: header, data, status byte. */
void block_prepare(struct block *block, uint32_t type, uint64_t sector,
		   void *data, uint32_t len);

/* Publishes descriptor @head; kicks. */
void block_submit(struct block *block, uint16_t head);

/* Waits for the next used entry; false when none comes. */
bool block_wait(struct block *block);

/* The used entry that block_wait saw last. */
uint32_t block_used_id(const struct block *block);
uint32_t block_used_len(const struct block *block);

/* A whole request: the status byte, BLK_NONE when it was never answered. */
uint8_t block_request(struct block *block, uint32_t type, uint64_t sector,
		      void *data, uint32_t len);

/* Status byte of the last prepared request. */
uint8_t block_status(void);

#endif
