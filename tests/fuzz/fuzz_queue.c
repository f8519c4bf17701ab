/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring memory of any content: the input fills descriptor table, driver and
 * device areas. Popping must end, every segment must be within the bounds that
 * queue.h promises, and nothing may be touched outside guest memory.
 */
#include "tests/fake/ring.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct chain *chain)
{
	struct iovec iov[4];
	uint8_t buf[64];
	size_t len;

	assert(chain->count <= CHAIN_SEGMENTS_MAX);
	assert(chain->readable.left + chain->writable.left <= BIT(32));
	if (chain_read(chain, buf, sizeof(buf)) == 0)
		len = 0;
	if (chain_borrow_readable(chain, 4096, iov, 4, &len) >= 0)
		assert(len <= 4096);
	if (chain_borrow_writable(chain, 4096, iov, 4, &len) >= 0)
		chain_return_writable(chain, len);
	if (chain_write(chain, buf, sizeof(buf)) == 0)
		assert(chain->written >= sizeof(buf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct chain chain;
	struct ring ring;
	struct queue queue;

	if (size < 2 || ring_create(&ring, (uint16_t)(1 << data[0] % 9)))
		return 0;
	queue_init(&queue, QUEUE_SIZE_MAX);
	ring_describe(&ring, &queue);
	for (size_t i = 1; i < size && i < 0x2800; i++)
		if (gmem_write(ring.mem, RING_DESC + i - 1, data + i, 1))
			break;
	if (queue_activate(&queue, ring.mem, data[0] & 0x80, NULL) == 0) {
		for (int i = 0; i < 300 && queue_pop(&queue, &chain) == 1;
		     i++) {
			use(&chain);
			queue_push(&queue, &chain);
		}
		if (queue_kicks_enable(&queue))
			queue_kicks_disable(&queue);
		queue_interrupt_wanted(&queue);
	}
	ring_destroy(&ring);
	return 0;
}
