/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block requests of any shape on a ring that is sound: the input gives the
 * lengths and directions of up to eight buffers, the bytes in them, and which
 * engine serves it, at once, in pieces, or only when somebody waits. Every
 * request must come back, and the disk must keep its size.
 */
#include "tests/fake/block_ring.h"
#include "tests/fake/ring.h"
#include "virtio/block.h"
#include "vmm/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define DISK_SIZE 65536
#define BUFFERS_MAX 8

/* Bits of the first byte, above those that count buffers. */
#define READ_ONLY 0x80
#define ASYNC 0x40
#define HELD 0x20
#define IN_PIECES 0x10

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int disk = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	disk = memfd_create("disk", 0);
	return disk < 0 || ftruncate(disk, DISK_SIZE) ||
			       log_configure(&quiet, NULL)
		       ? -1
		       : 0;
}

static struct block *make_block(struct ring *ring,
				struct block_metrics *metrics, uint8_t bits,
				struct block_ring *uring)
{
	char path[64];
	const struct drive_config config = {.drive_id = path,
					    .path_on_host = path,
					    .is_read_only = bits & READ_ONLY,
					    .cache_type = CACHE_WRITEBACK};
	struct block *block = NULL;
	struct virtio_device *dev;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	if (block_create(&block, &config, metrics, NULL))
		abort();
	if (bits & ASYNC && block_use_ring(block, uring, NULL))
		abort();
	dev = block_virtio(block);
	dev->mem = ring->mem;
	dev->driver_features = dev->features;
	ring_describe(ring, &dev->queues[0]);
	virtio_device_activate(dev);
	return block;
}

/* Four bytes a buffer: length, flags, and where it lies. */
static size_t put_chain(struct ring *ring, const uint8_t *data, size_t size)
{
	uint16_t count = (uint16_t)(1 + data[0] % BUFFERS_MAX);
	size_t used = 1;
	bool writable = false;

	for (uint16_t i = 0; i < count && used + 4 <= size; i++, used += 4) {
		uint32_t len = data[used] | (uint32_t)data[used + 1] << 8;
		uint64_t at = RING_DATA + data[used + 3] * UINT64_C(0x1000);
		bool last = i + 1 == count || used + 8 > size;

		writable |= data[used + 2] & 1;
		ring_set_desc(ring, i, at, len,
			      (uint16_t)((writable ? RING_WRITE : 0) |
					 (last ? 0 : RING_NEXT)),
			      (uint16_t)(i + 1));
	}
	ring_publish(ring, 0);
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct block_metrics metrics = {0};
	struct block_ring *uring = NULL;
	struct virtio_device *dev;
	struct ring ring;
	struct stat st;
	uint32_t id, len;
	size_t used;

	if (size < 8 || ring_create(&ring, 16))
		return 0;
	fake_block_ring = (struct fake_block_ring){
		.hold = data[0] & HELD,
		.piece = data[0] & IN_PIECES ? 700 : 0,
	};
	if (block_ring_create(&uring, NULL))
		abort();
	dev = block_virtio(make_block(&ring, &metrics, data[0], uring));
	used = put_chain(&ring, data, size);
	if (used < size && gmem_write(ring.mem, RING_DATA, data + used,
				      MIN(size - used, (size_t)4096)))
		abort();
	virtio_device_queue_event(dev, 0);
	virtio_device_hold(dev, true);
	assert(ring_take(&ring, &id, &len));
	assert(id == 0);
	assert(fstat(disk, &st) == 0 && st.st_size == DISK_SIZE);
	virtio_device_reset(dev);
	virtio_device_destroy(dev);
	block_ring_destroy(uring);
	ring_destroy(&ring);
	return 0;
}
