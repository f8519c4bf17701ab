/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers and iovecs are kept in arrays that are used from the front and filled
 * at the back; when the back is reached, what is left moves to the start. There
 * are never more joined iovecs than plain ones.
 */
#include "virtio/rx_window.h"

#include "vmm/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void rx_window_init(struct rx_window *window, struct queue *queue,
		    uint32_t least)
{
	window->queue = queue;
	window->least = least;
	window->first = window->count = window->iov_end = 0;
	window->joined_first = window->joined_count = 0;
	window->bytes = 0;
	window->unpublished = 0;
}

static void compact(struct rx_window *window)
{
	uint16_t shift = window->count ? rx_window_buffer(window, 0)->first
				       : window->iov_end;
	uint16_t used = (uint16_t)(window->iov_end - shift);

	memmove(window->buffers, &window->buffers[window->first],
		window->count * sizeof(window->buffers[0]));
	window->first = 0;
	for (uint16_t i = 0; i < window->count; i++)
		window->buffers[i].first =
			(uint16_t)(window->buffers[i].first - shift);
	memmove(window->iov, &window->iov[shift],
		used * sizeof(window->iov[0]));
	memmove(window->gpa, &window->gpa[shift],
		used * sizeof(window->gpa[0]));
	window->iov_end = used;
}

static void compact_joined(struct rx_window *window)
{
	memmove(window->joined, &window->joined[window->joined_first],
		window->joined_count * sizeof(window->joined[0]));
	window->joined_first = 0;
}

/* Does @iov begin where the joined memory ends? */
static bool continues(const struct rx_window *window, const struct iovec *iov)
{
	const struct iovec *last;

	if (!window->joined_count)
		return false;
	last = &window->joined[window->joined_first + window->joined_count - 1];
	return (uint8_t *)last->iov_base + last->iov_len == iov->iov_base;
}

/* Appends memory that follows in the window. */
static void join(struct rx_window *window, const struct iovec *iov)
{
	if (window->joined_first + window->joined_count == RX_WINDOW_IOVS)
		compact_joined(window);
	if (continues(window, iov))
		window->joined[window->joined_first + window->joined_count - 1]
			.iov_len += iov->iov_len;
	else
		window->joined[window->joined_first + window->joined_count++] =
			*iov;
}

/* Takes @len bytes off the front. */
static void cut_joined(struct rx_window *window, uint32_t len)
{
	while (len) {
		struct iovec *front = &window->joined[window->joined_first];
		uint32_t piece = MIN(len, (uint32_t)front->iov_len);

		front->iov_base = (uint8_t *)front->iov_base + piece;
		front->iov_len -= piece;
		len -= piece;
		if (front->iov_len == 0) {
			window->joined_first++;
			window->joined_count--;
		}
	}
}

/* Room for another buffer and the longest chain? */
static bool has_room(const struct rx_window *window)
{
	return window->first + window->count < QUEUE_SIZE_MAX &&
	       window->iov_end <= RX_WINDOW_IOVS - CHAIN_SEGMENTS_MAX;
}

bool rx_window_full(const struct rx_window *window)
{
	return window->count == window->queue->size || !has_room(window);
}

static int refuse(const struct chain *chain)
{
	log_guest("receive buffer %u of %lu bytes is not writable RAM, or too "
		  "short",
		  chain->head, (unsigned long)chain->writable.left);
	return -EPROTO;
}

/* Turns the popped chain into a buffer at the back. */
static int take_in(struct rx_window *window)
{
	const struct chain *chain = &window->chain;
	const struct chain_segment *segments;
	uint16_t end = window->iov_end;
	uint16_t n = chain_writable_segments(chain, &segments);

	if (chain->writable.left < window->least ||
	    chain->writable.left > UINT32_MAX - window->bytes)
		return refuse(chain);
	for (uint16_t i = 0; i < n; i++) {
		if (gmem_map(chain->mem, segments[i].gpa, segments[i].len,
			     &window->iov[end + i]))
			return refuse(chain);
		window->gpa[end + i] = segments[i].gpa;
	}
	for (uint16_t i = 0; i < n; i++)
		join(window, &window->iov[end + i]);
	window->buffers[window->first + window->count++] = (struct rx_buffer){
		.head = chain->head,
		.first = end,
		.count = n,
		.len = (uint32_t)chain->writable.left,
	};
	window->iov_end = (uint16_t)(end + n);
	window->bytes += (uint32_t)chain->writable.left;
	return 0;
}

int rx_window_fill(struct rx_window *window, uint32_t want)
{
	while (window->bytes < want) {
		int ret;

		if (!has_room(window)) {
			compact(window);
			if (!has_room(window))
				return 0;
		}
		ret = queue_pop(window->queue, &window->chain);
		if (ret <= 0)
			return ret;
		ret = take_in(window);
		if (ret)
			return ret;
	}
	return 0;
}

int rx_window_iov(const struct rx_window *window, uint16_t i, uint32_t off,
		  uint32_t len, struct iovec *iov, int max)
{
	const struct rx_buffer *buffer = rx_window_buffer(window, i);
	const struct iovec *from = &window->iov[buffer->first];
	int n = 0;

	while (off >= from->iov_len)
		off -= (uint32_t)(from++)->iov_len;
	while (len && n < max) {
		uint32_t piece = MIN(len, (uint32_t)from->iov_len - off);

		iov[n++] = (struct iovec){
			.iov_base = (uint8_t *)from->iov_base + off,
			.iov_len = piece,
		};
		len -= piece;
		off = 0;
		from++;
	}
	return n;
}

int rx_window_all(struct rx_window *window, const struct iovec *tail,
		  const struct iovec **ret_iov)
{
	window->joined[window->joined_first + window->joined_count] = *tail;
	*ret_iov = &window->joined[window->joined_first];
	return window->joined_count + 1;
}

void rx_window_write(const struct rx_window *window, uint32_t off,
		     const void *data, uint32_t len)
{
	const uint8_t *from = data;
	const struct iovec *iov =
		&window->iov[rx_window_buffer(window, 0)->first];

	while (off >= iov->iov_len)
		off -= (uint32_t)(iov++)->iov_len;
	for (; len; iov++, off = 0) {
		uint32_t piece = MIN(len, (uint32_t)iov->iov_len - off);

		memcpy((uint8_t *)iov->iov_base + off, from, piece);
		from += piece;
		len -= piece;
	}
}

static void mark_dirty(const struct rx_window *window,
		       const struct rx_buffer *buffer, uint32_t written)
{
	for (uint16_t i = buffer->first; written; i++) {
		uint32_t piece = MIN(written, (uint32_t)window->iov[i].iov_len);

		gmem_unmap(window->queue->mem, window->gpa[i], piece,
			   GMEM_DEVICE_WRITES);
		written -= piece;
	}
}

void rx_window_return(struct rx_window *window, uint32_t written)
{
	const struct rx_buffer *buffer = rx_window_buffer(window, 0);

	mark_dirty(window, buffer, written);
	queue_put(window->queue, buffer->head, written);
	cut_joined(window, buffer->len);
	window->bytes -= buffer->len;
	window->first++;
	window->count--;
	window->unpublished++;
}

bool rx_window_publish(struct rx_window *window)
{
	bool any = window->unpublished;

	if (any)
		queue_publish(window->queue);
	window->unpublished = 0;
	return any;
}

void rx_window_unpop(struct rx_window *window)
{
	assert(window->unpublished == 0);
	queue_unpop(window->queue, window->count);
	rx_window_init(window, window->queue, window->least);
}
