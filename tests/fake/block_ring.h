/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An io_uring without a kernel: what is submitted is done at once, or when the
 * test says so, whole or in pieces, in order or not, or fails. One thread.
 */
#ifndef FAKE_BLOCK_RING_H
#define FAKE_BLOCK_RING_H

#include "virtio/block_ring.h"

struct fake_block_ring {
	bool hold;	/* until fake_block_ring_finish, or somebody waits */
	bool backwards; /* the last first */
	size_t piece;	/* bytes done by one call; 0: all */
	int fail;	/* errno of the next call, once; 0: none */
	unsigned depth; /* requests in the store; 0: BLOCK_RING_DEPTH */
	/* what happened */
	unsigned taken, given, submits, calls, waits;
};

/* One per test program; tests zero it. */
extern struct fake_block_ring fake_block_ring;

/* Does what is in flight, and tells the drives. */
void fake_block_ring_finish(struct block_ring *ring);

#endif
