/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block requests of any shape on a ring that is sound: the input gives the
 * lengths and directions of up to eight buffers and the bytes in them. Every
 * request must come back, and the disk must keep its size.
 */
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
				struct block_metrics *metrics, bool read_only)
{
	char path[64];
	const struct drive_config config = {.drive_id = path,
					    .path_on_host = path,
					    .is_read_only = read_only,
					    .cache_type = CACHE_WRITEBACK};
	struct block *block = NULL;
	struct virtio_device *dev;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	if (block_create(&block, &config, metrics, NULL))
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
	struct block *block;
	struct ring ring;
	struct stat st;
	uint32_t id, len;
	size_t used;

	if (size < 8 || ring_create(&ring, 16))
		return 0;
	block = make_block(&ring, &metrics, data[0] & 0x80);
	used = put_chain(&ring, data, size);
	if (used < size && gmem_write(ring.mem, RING_DATA, data + used,
				      MIN(size - used, (size_t)4096)))
		abort();
	virtio_device_queue_event(block_virtio(block), 0);
	assert(ring_take(&ring, &id, &len));
	assert(id == 0);
	assert(fstat(disk, &st) == 0 && st.st_size == DISK_SIZE);
	virtio_device_destroy(block_virtio(block));
	ring_destroy(&ring);
	return 0;
}
