/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receive buffers, popped ahead of what will fill them.
 *
 * A device that receives (net, vsock) does not know how much is coming. It
 * keeps a window on the buffers the driver has posted, as one list of iovecs:
 * a single readv fills as many buffers as there is data for, in the order in
 * which they were posted. What was filled is given back from the front; what
 * was not stays for the next time.
 *
 *   rx_window_fill -> rx_window_iov, readv -> rx_window_return ... ->
 *   rx_window_publish
 *
 * Thread: holder of the device's lock.
 */
#ifndef EMBER_RX_WINDOW_H
#define EMBER_RX_WINDOW_H

#include "virtio/queue.h"

/* Twice the longest chain: one always fits behind another. */
#define RX_WINDOW_IOVS 512

struct rx_buffer {
	uint16_t head;
	uint16_t first, count; /* iovecs */
	uint32_t len;	       /* writable bytes, not less than `least` */
};

struct rx_window {
	struct queue *queue;
	uint32_t least;	       /* bytes that every buffer must hold */
	uint16_t first, count; /* buffers[first .. first + count) are ours */
	uint16_t iov_end;      /* one past the last iovec in use */
	uint32_t bytes;	       /* in all buffers */
	uint32_t unpublished;  /* returned since the last publish */
	struct rx_buffer buffers[QUEUE_SIZE_MAX];
	struct iovec iov[RX_WINDOW_IOVS];
	uint64_t gpa[RX_WINDOW_IOVS]; /* of iov[i] */
	/* The same memory with neighbours joined: drivers cut buffers from
	 * large pieces, and the kernel takes its time for each iovec. One more
	 * for what a reader wants behind it. */
	struct iovec joined[RX_WINDOW_IOVS + 1];
	uint16_t joined_first, joined_count;
	struct chain chain; /* being taken in */
};

/* Forgets the buffers: before first use, and when the queue was reset. A driver
 * must not post buffers that hold less than @least bytes, the device's header
 * (5.1.6.3.1, 5.10.6.1). */
void rx_window_init(struct rx_window *window, struct queue *queue,
		    uint32_t least);

/* Pops until there are @want bytes, or no more buffers. 0, or -EPROTO when the
 * ring is broken or a buffer is too short or not writable RAM. */
int rx_window_fill(struct rx_window *window, uint32_t want) must_check;

/* Nothing more can be popped, however many bytes are missing: the driver has
 * given all it has, or the window is full. */
bool rx_window_full(const struct rx_window *window);

/* Up to @max iovecs for bytes [off, off+len) of buffer @i (0 = front). Returns
 * their number; they cover less only if @max is too small. */
int rx_window_iov(const struct rx_window *window, uint16_t i, uint32_t off,
		  uint32_t len, struct iovec *iov, int max);

/* All buffers as one list, with @tail behind them. Returns the number of
 * iovecs; the list is good until the window is next filled. */
int rx_window_all(struct rx_window *window, const struct iovec *tail,
		  const struct iovec **ret_iov);

/* Copies to byte @off of all buffers taken as one; they must have room. */
void rx_window_write(const struct rx_window *window, uint32_t off,
		     const void *data, uint32_t len);

/* Gives the front buffer back with @written bytes. */
void rx_window_return(struct rx_window *window, uint32_t written);

/* Makes what was returned visible to the driver. True if there was any. */
bool rx_window_publish(struct rx_window *window);

/* Un-pops all buffers, as if none had ever been taken in: they will be again.
 * All that was returned is published. */
void rx_window_unpop(struct rx_window *window);

static inline const struct rx_buffer *
rx_window_buffer(const struct rx_window *window, uint16_t i)
{
	return &window->buffers[window->first + i];
}

#endif
