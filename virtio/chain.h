/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request: the descriptors of a chain, copied and checked by queue_pop,
 * seen by a device as two byte streams: what the driver wrote for the device
 * to read, then what the device may write. Devices never see descriptors and
 * assume nothing about how the driver cut its buffers (virtio 1.2, 2.7.4.1).
 *
 * A cursor moves forward through each stream. Thread: holder of the device's
 * lock.
 */
#ifndef EMBER_CHAIN_H
#define EMBER_CHAIN_H

#include "vmm/gmem.h"

#define CHAIN_SEGMENTS_MAX 256

struct chain_segment {
	uint64_t gpa;
	uint32_t len;
};

/* A position in one stream: segment index and bytes of it already used. */
struct chain_cursor {
	uint16_t segment, end; /* end: one past the stream's last segment */
	uint32_t used;
	uint64_t left; /* bytes to the end of the stream */
};

struct chain {
	struct gmem *mem;
	uint16_t head;	/* descriptor index, returned in the used ring */
	uint16_t count; /* segments; readable ones first */
	struct chain_cursor readable;
	struct chain_cursor writable;
	struct chain_cursor loan; /* where the open loan of it began */
	uint32_t written;	  /* bytes the device has produced so far */
	struct chain_segment segments[CHAIN_SEGMENTS_MAX];
};

/* Copies the next @len readable bytes out. -ENODATA when there are fewer,
 * -EFAULT when a segment is not RAM; the cursor then stays where it was. */
int chain_read(struct chain *chain, void *buf, size_t len) must_check;

/* The same without moving the cursor. */
int chain_peek(const struct chain *chain, void *buf, size_t len) must_check;

/* Moves past @len readable bytes, of which there must be as many. */
void chain_skip(struct chain *chain, uint64_t len);

/* Copies @len bytes into the next writable ones and counts them as written.
 * -ENOSPC when there is less room, -EFAULT as above. */
int chain_write(struct chain *chain, const void *buf, size_t len) must_check;

/*
 * Borrows up to @len bytes of a stream as at most @max iovecs for bulk I/O and
 * moves the cursor past them. Returns the number of iovecs and the bytes they
 * cover in *@ret_len, or -EFAULT (cursor unchanged). The loan of the writable
 * stream is ended by chain_return_writable, which marks the first @done bytes
 * of the loan as dirty and counts them as written; one loan at a time.
 */
int chain_borrow_readable(struct chain *chain, size_t len, struct iovec *iov,
			  int max, size_t *ret_len) must_check;
int chain_borrow_writable(struct chain *chain, size_t len, struct iovec *iov,
			  int max, size_t *ret_len) must_check;
void chain_return_writable(struct chain *chain, size_t done);

/* What the device may write, as the driver cut it. Returns the number of
 * segments; each is either RAM of one region or refused by gmem_map. */
uint16_t chain_writable_segments(const struct chain *chain,
				 const struct chain_segment **ret_segments);

/* Leaves all but the last @keep writable bytes to be skipped: for devices
 * whose status byte ends the buffer whatever was transferred. -ENOSPC. */
int chain_seek_writable_tail(struct chain *chain, size_t keep) must_check;

#endif
