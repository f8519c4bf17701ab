/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests for entropy of any shape on a ring that is sound: the input gives
 * lengths, directions and places of up to eight buffers. Every request must
 * come back, and no longer than its writable buffers are.
 */
#include "tests/fake/ring.h"
#include "virtio/entropy.h"
#include "vmm/log.h"

#include <assert.h>

#define BUFFERS_MAX 8
#define BYTES_MAX 65536

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	return log_configure(&quiet, NULL);
}

static struct virtio_device *make_device(struct ring *ring,
					 struct metrics *metrics)
{
	const struct entropy_config config = {0};
	struct entropy *entropy = NULL;
	struct virtio_device *dev;

	if (entropy_create(&entropy, &config, metrics, NULL))
		abort();
	dev = entropy_virtio(entropy);
	dev->mem = ring->mem;
	dev->driver_features = dev->features;
	ring_describe(ring, &dev->queues[0]);
	virtio_device_activate(dev);
	return dev;
}

/* Four bytes a buffer: length, flags, and where it lies. Returns the room. */
static uint64_t put_chain(struct ring *ring, const uint8_t *data, size_t size)
{
	uint16_t count = (uint16_t)(1 + data[0] % BUFFERS_MAX);
	uint64_t room = 0;
	size_t used = 1;

	for (uint16_t i = 0; i < count && used + 4 <= size; i++, used += 4) {
		uint32_t len = data[used] | (uint32_t)data[used + 1] << 8;
		uint64_t at = RING_DATA + data[used + 3] * UINT64_C(0x1000);
		bool last = i + 1 == count || used + 8 > size;
		bool writable = data[used + 2] & 1;

		room += writable ? len : 0;
		ring_set_desc(ring, i, at, len,
			      (uint16_t)((writable ? RING_WRITE : 0) |
					 (last ? 0 : RING_NEXT)),
			      (uint16_t)(i + 1));
	}
	ring_publish(ring, 0);
	return room;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct metrics metrics = {0};
	struct virtio_device *dev;
	struct ring ring;
	uint32_t id, len;
	uint64_t room;

	if (size < 5 || ring_create(&ring, 16))
		return 0;
	dev = make_device(&ring, &metrics);
	room = put_chain(&ring, data, size);
	virtio_device_queue_event(dev, 0);
	if (dev->active) {
		assert(ring_take(&ring, &id, &len));
		assert(id == 0 && len <= room && len <= BYTES_MAX);
		assert(len == metrics.entropy.entropy_bytes.value);
	}
	virtio_device_destroy(dev);
	ring_destroy(&ring);
	return 0;
}
