/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flush requests of any shape, several of them on a ring that is sound: the
 * input gives their types, and lengths, directions and places of their buffers.
 * Every request must come back, and the file must keep its size and bytes.
 */
#include "tests/fake/ring.h"
#include "virtio/pmem.h"
#include "vmm/log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FILE_SIZE 5000
#define START UINT64_C(0x8000000000)
#define RING_SIZE 16
#define CHAINS_MAX 5
#define PARTS_MAX 3

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the input has left; zeros when it is used up. */
struct input {
	const uint8_t *at;
	size_t left;
};

static char path[32];
static int backing = -1;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	backing = memfd_create("pmem", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", backing);
	return backing < 0 || ftruncate(backing, FILE_SIZE) ||
			       log_configure(&quiet, NULL)
		       ? -1
		       : 0;
}

static uint8_t take(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->at++;
}

static struct pmem *make_pmem(struct ring *ring, struct pmem_metrics *metrics,
			      bool read_only)
{
	const struct pmem_config config = {.id = path, .path_on_host = path};
	struct pmem *pmem = NULL;
	struct virtio_device *dev;

	if (pmem_create(&pmem, &config, metrics, NULL) ||
	    pmem_open(pmem, path, read_only, NULL))
		abort();
	pmem_place(pmem, START);
	dev = pmem_virtio(pmem);
	dev->mem = ring->mem;
	dev->driver_features = dev->features;
	ring_describe(ring, &dev->queues[0]);
	virtio_device_activate(dev);
	return pmem;
}

/* In RAM, at its end, behind it, in the window. */
static uint64_t place(uint8_t where)
{
	switch (where & 7) {
	case 0:
		return RING_MEMORY - where / 8 % 8;
	case 1:
		return START + where;
	case 2:
		return UINT64_MAX - where;
	default:
		return RING_DATA + where * UINT64_C(0x10);
	}
}

static void put_chain(struct ring *ring, uint16_t first, struct input *input)
{
	uint16_t parts = (uint16_t)(1 + take(input) % PARTS_MAX);
	bool writable = false;

	for (uint16_t i = 0; i < parts; i++) {
		uint8_t what = take(input);
		uint16_t index = (uint16_t)(first + i);

		writable |= what & 1;
		ring_set_desc(ring, index, place(take(input)), what >> 1,
			      (uint16_t)((writable ? RING_WRITE : 0) |
					 (i + 1 < parts ? RING_NEXT : 0)),
			      (uint16_t)(index + 1));
	}
	ring_publish(ring, first);
}

static void check_file(void)
{
	uint8_t bytes[FILE_SIZE];
	struct stat st;

	assert(fstat(backing, &st) == 0 && st.st_size == FILE_SIZE);
	assert(pread(backing, bytes, FILE_SIZE, 0) == FILE_SIZE);
	for (size_t i = 0; i < FILE_SIZE; i++)
		assert(bytes[i] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct pmem_metrics metrics = {0};
	uint8_t options = take(&input);
	uint16_t chains = (uint16_t)(1 + options % CHAINS_MAX);
	struct pmem *pmem;
	struct ring ring;
	uint32_t id, len;

	if (ring_create(&ring, RING_SIZE))
		return 0;
	for (uint64_t at = RING_DATA; at < RING_DATA + 0x1000; at += 0x10) {
		uint8_t byte = options & 0x40 ? take(&input) : 0;

		if (gmem_write(ring.mem, at, &byte, 1))
			abort();
	}
	pmem = make_pmem(&ring, &metrics, options & 0x80);
	for (uint16_t i = 0; i < chains; i++)
		put_chain(&ring, (uint16_t)(PARTS_MAX * i), &input);
	virtio_device_queue_event(pmem_virtio(pmem), 0);
	for (uint16_t i = 0; i < chains; i++)
		assert(ring_take(&ring, &id, &len) && id == PARTS_MAX * i &&
		       (len == 0 || len == 4));
	assert(!ring_take(&ring, &id, &len));
	virtio_device_destroy(pmem_virtio(pmem));
	ring_destroy(&ring);
	check_file();
	return 0;
}
