/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/chain.h"

#include <errno.h>

/* Takes up to @len contiguous bytes at the cursor and moves it past them.
 * The caller made sure that the stream has @len bytes, so len > 0 comes back
 * for len > 0. */
static uint32_t take_piece(const struct chain *chain,
			   struct chain_cursor *cursor, uint64_t len,
			   uint64_t *ret_gpa)
{
	const struct chain_segment *segment = &chain->segments[cursor->segment];
	uint32_t piece = segment->len - cursor->used;

	if (piece > len)
		piece = (uint32_t)len;
	*ret_gpa = segment->gpa + cursor->used;
	cursor->used += piece;
	cursor->left -= piece;
	if (cursor->used == segment->len) {
		cursor->segment++;
		cursor->used = 0;
	}
	return piece;
}

/* Copies out at @cursor, which then has moved by @len. */
static int copy_out(const struct chain *chain, struct chain_cursor *cursor,
		    void *buf, size_t len)
{
	uint8_t *to = buf;

	if (len > cursor->left)
		return -ENODATA;
	while (len) {
		uint64_t gpa;
		uint32_t piece = take_piece(chain, cursor, len, &gpa);

		if (gmem_read(chain->mem, gpa, to, piece))
			return -EFAULT;
		to += piece;
		len -= piece;
	}
	return 0;
}

int chain_read(struct chain *chain, void *buf, size_t len)
{
	struct chain_cursor cursor = chain->readable;
	int ret = copy_out(chain, &cursor, buf, len);

	if (!ret)
		chain->readable = cursor;
	return ret;
}

int chain_peek(const struct chain *chain, void *buf, size_t len)
{
	struct chain_cursor cursor = chain->readable;

	return copy_out(chain, &cursor, buf, len);
}

void chain_skip(struct chain *chain, uint64_t len)
{
	uint64_t gpa;

	while (len)
		len -= take_piece(chain, &chain->readable, len, &gpa);
}

int chain_write(struct chain *chain, const void *buf, size_t len)
{
	struct chain_cursor cursor = chain->writable;
	const uint8_t *from = buf;
	size_t left = len;

	if (len > cursor.left)
		return -ENOSPC;
	while (left) {
		uint64_t gpa;
		uint32_t piece = take_piece(chain, &cursor, left, &gpa);

		if (gmem_write(chain->mem, gpa, from, piece))
			return -EFAULT;
		from += piece;
		left -= piece;
	}
	chain->writable = cursor;
	chain->written += (uint32_t)len;
	return 0;
}

static int borrow(struct chain *chain, struct chain_cursor *stream, size_t len,
		  struct iovec *iov, int max, size_t *ret_len)
{
	struct chain_cursor cursor = *stream;
	uint64_t left = MIN(len, cursor.left);
	size_t covered = 0;
	int count = 0;

	while (left && count < max) {
		uint64_t gpa;
		uint32_t piece = take_piece(chain, &cursor, left, &gpa);

		if (gmem_map(chain->mem, gpa, piece, &iov[count]))
			return -EFAULT;
		count++;
		covered += piece;
		left -= piece;
	}
	*stream = cursor;
	*ret_len = covered;
	return count;
}

int chain_borrow_readable(struct chain *chain, size_t len, struct iovec *iov,
			  int max, size_t *ret_len)
{
	return borrow(chain, &chain->readable, len, iov, max, ret_len);
}

int chain_borrow_writable(struct chain *chain, size_t len, struct iovec *iov,
			  int max, size_t *ret_len)
{
	chain->loan = chain->writable;
	return borrow(chain, &chain->writable, len, iov, max, ret_len);
}

void chain_return_writable(struct chain *chain, size_t done)
{
	uint64_t left = done;

	while (left) {
		uint64_t gpa;
		uint32_t piece = take_piece(chain, &chain->loan, left, &gpa);

		gmem_unmap(chain->mem, gpa, piece, GMEM_DEVICE_WRITES);
		left -= piece;
	}
	chain->written += (uint32_t)done;
}

uint16_t chain_writable_segments(const struct chain *chain,
				 const struct chain_segment **ret_segments)
{
	const struct chain_cursor *stream = &chain->writable;

	*ret_segments = &chain->segments[stream->segment];
	return stream->left ? (uint16_t)(stream->end - stream->segment) : 0;
}

int chain_seek_writable_tail(struct chain *chain, size_t keep)
{
	struct chain_cursor *cursor = &chain->writable;

	if (keep > cursor->left)
		return -ENOSPC;
	while (cursor->left > keep) {
		uint64_t gpa;

		take_piece(chain, cursor, cursor->left - keep, &gpa);
	}
	return 0;
}
