/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a pluggable region of guest memory are there (virtio 1.2,
 * 5.15): a bit per block.
 *
 * Threads: changed by the loop thread, looked at by any; a look beside a change
 * sees each block before or after it. Offsets and lengths are in bytes from the
 * start of the region, and within it.
 */
#ifndef EMBER_GMEM_BLOCKS_H
#define EMBER_GMEM_BLOCKS_H

#include "vmm/util.h"

#include <stdbool.h>

struct gmem_blocks;

/* For a region of @len bytes, a multiple of @block_len. @bits: those that are
 * plugged, block N being bit N % 8 of byte N / 8; NULL: none. -ENOMEM. */
int gmem_blocks_create(struct gmem_blocks **ret_blocks, uint64_t len,
		       uint64_t block_len, const uint8_t *bits) must_check;
void gmem_blocks_destroy(struct gmem_blocks *blocks); /* accepts NULL */

/* Is every block that [off, off+len) touches plugged, or none of them? */
bool gmem_blocks_all(const struct gmem_blocks *blocks, uint64_t off,
		     uint64_t len);
bool gmem_blocks_none(const struct gmem_blocks *blocks, uint64_t off,
		      uint64_t len);

/* Whole blocks. */
void gmem_blocks_set(struct gmem_blocks *blocks, uint64_t off, uint64_t len,
		     bool plugged);

/* The next bytes at or after *@off that are plugged, as many as there are in a
 * row. False: there are none. */
bool gmem_blocks_next(const struct gmem_blocks *blocks, uint64_t *off,
		      uint64_t *ret_len);

/* Bytes that are plugged. */
uint64_t gmem_blocks_plugged(const struct gmem_blocks *blocks);

/* The bits as gmem_blocks_create takes them: malloc, @ret_len bytes. NULL: no
 * memory. */
uint8_t *gmem_blocks_bits(const struct gmem_blocks *blocks, size_t *ret_len);

#endif
