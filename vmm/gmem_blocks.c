/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gmem_blocks.h"

#include <errno.h>

struct gmem_blocks {
	uint64_t block_len, count;
	uint64_t words[]; /* accessed by __atomic built-ins */
};

static bool is_plugged(const struct gmem_blocks *blocks, uint64_t block)
{
	return __atomic_load_n(&blocks->words[block / 64], __ATOMIC_RELAXED) &
	       BIT(block % 64);
}

static void plug(struct gmem_blocks *blocks, uint64_t block)
{
	__atomic_fetch_or(&blocks->words[block / 64], BIT(block % 64),
			  __ATOMIC_RELAXED);
}

static void unplug(struct gmem_blocks *blocks, uint64_t block)
{
	__atomic_fetch_and(&blocks->words[block / 64], ~BIT(block % 64),
			   __ATOMIC_RELAXED);
}

int gmem_blocks_create(struct gmem_blocks **ret_blocks, uint64_t len,
		       uint64_t block_len, const uint8_t *bits)
{
	const uint64_t count = len / block_len;
	struct gmem_blocks *blocks =
		calloc(1, sizeof(*blocks) + (count / 64 + 1) * 8);

	if (!blocks)
		return -ENOMEM;
	blocks->block_len = block_len;
	blocks->count = count;
	for (uint64_t block = 0; bits && block < count; block++)
		if (bits[block / 8] & 1u << block % 8)
			plug(blocks, block);
	*ret_blocks = blocks;
	return 0;
}

void gmem_blocks_destroy(struct gmem_blocks *blocks)
{
	free(blocks);
}

/* The first block from @block on, below @end, whose state is @plugged; @end if
 * there is none. */
static uint64_t find(const struct gmem_blocks *blocks, uint64_t block,
		     uint64_t end, bool plugged)
{
	const uint64_t flip = plugged ? 0 : UINT64_MAX;

	while (block < end) {
		uint64_t word = __atomic_load_n(&blocks->words[block / 64],
						__ATOMIC_RELAXED) ^
				flip;

		word >>= block % 64;
		if (word)
			return MIN(block + (uint64_t)__builtin_ctzll(word),
				   end);
		block = ALIGN_DOWN(block, 64) + 64;
	}
	return end;
}

/* One past the last block that [off, off+len) touches. */
static uint64_t end_of(const struct gmem_blocks *blocks, uint64_t off,
		       uint64_t len)
{
	return len ? (off + (len - 1)) / blocks->block_len + 1
		   : off / blocks->block_len;
}

bool gmem_blocks_all(const struct gmem_blocks *blocks, uint64_t off,
		     uint64_t len)
{
	const uint64_t end = end_of(blocks, off, len);

	return find(blocks, off / blocks->block_len, end, false) >= end;
}

bool gmem_blocks_none(const struct gmem_blocks *blocks, uint64_t off,
		      uint64_t len)
{
	const uint64_t end = end_of(blocks, off, len);

	return find(blocks, off / blocks->block_len, end, true) >= end;
}

void gmem_blocks_set(struct gmem_blocks *blocks, uint64_t off, uint64_t len,
		     bool plugged)
{
	const uint64_t end = end_of(blocks, off, len);

	for (uint64_t block = off / blocks->block_len; block < end; block++)
		if (plugged)
			plug(blocks, block);
		else
			unplug(blocks, block);
}

bool gmem_blocks_next(const struct gmem_blocks *blocks, uint64_t *off,
		      uint64_t *ret_len)
{
	const uint64_t first = *off / blocks->block_len;
	const uint64_t start = find(blocks, first, blocks->count, true);
	const uint64_t end = find(blocks, start, blocks->count, false);

	if (start >= end)
		return false;
	*off = MAX(*off, start * blocks->block_len);
	*ret_len = end * blocks->block_len - *off;
	return true;
}

uint64_t gmem_blocks_plugged(const struct gmem_blocks *blocks)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < blocks->count / 64 + 1; i++)
		count += (uint64_t)__builtin_popcountll(
			__atomic_load_n(&blocks->words[i], __ATOMIC_RELAXED));
	return count * blocks->block_len;
}

uint8_t *gmem_blocks_bits(const struct gmem_blocks *blocks, size_t *ret_len)
{
	const size_t len = (size_t)(blocks->count + 7) / 8;
	uint8_t *bits = calloc(1, len);

	for (uint64_t block = 0; bits && block < blocks->count; block++)
		if (is_plugged(blocks, block))
			bits[block / 8] |= (uint8_t)(1u << block % 8);
	*ret_len = len;
	return bits;
}
