/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (virtio 1.2, section 2.7). This module is the only one that
 * touches ring memory. Layout for a queue of size N:
 *
 *   descriptor area  N x { le64 addr, le32 len, le16 flags, le16 next }
 *   driver area      le16 flags, le16 idx, N x le16 ring, le16 used_event
 *   device area      le16 flags, le16 idx, N x { le32 id, le32 len },
 *                    le16 avail_event
 *
 * Life of a request: the driver publishes a head in the driver area and kicks;
 * queue_pop copies the whole chain to host memory once, checking every index
 * and length; the device works on the copy; queue_push publishes the head in
 * the device area; queue_interrupt_wanted says whether the driver asked to be
 * told. Every popped chain is pushed back, also when the request failed.
 *
 * A ring that breaks the rules puts the queue into the broken state: pop keeps
 * returning -EPROTO and the device must ask for a reset.
 *
 * Thread: holder of the device's lock.
 */
#ifndef EMBER_QUEUE_H
#define EMBER_QUEUE_H

#include "virtio/chain.h"

#include <stdbool.h>

struct state_reader;
struct state_writer;

#define QUEUE_SIZE_MAX 256

struct queue {
	/* written by the driver through the transport while not ready */
	uint16_t size;
	bool ready;
	uint64_t desc_gpa, driver_gpa, device_gpa;

	uint16_t size_max; /* set once by the device */

	/* private to queue.c, valid while active */
	bool active, broken, event_idx;
	uint16_t next_avail; /* next driver-area slot to look at */
	uint16_t next_used;  /* next device-area slot to fill */
	uint16_t signalled;  /* next_used when the driver was last told */
	bool signalled_valid;
	void *desc, *driver, *device;
	struct gmem *mem;
};

void queue_init(struct queue *queue, uint16_t size_max);

/* Back to the state after queue_init; forgets the driver's settings. */
void queue_reset(struct queue *queue);

/* Validates size and the three areas (alignment, exact lengths, all in RAM)
 * and makes the queue usable. -EINVAL or -EFAULT with a reason in @err. */
int queue_activate(struct queue *queue, struct gmem *mem, bool event_idx,
		   struct error *err) must_check;

/* Requests the driver has made available, if it can be believed. */
uint16_t queue_pending(const struct queue *queue);

/* 1: *@ret_chain holds the next request. 0: nothing available. -EPROTO: the
 * ring is broken (logged once, rate-limited, with the reason). */
int queue_pop(struct queue *queue, struct chain *ret_chain) must_check;

/* Gives the request back with chain->written bytes reported. */
void queue_push(struct queue *queue, const struct chain *chain);

/* The same in two steps, for requests that the driver must find together or
 * that come in batches: any number of queue_put, then one queue_publish. */
void queue_put(struct queue *queue, uint16_t head, uint32_t written);
void queue_publish(struct queue *queue);

/* Undoes the last @count calls of queue_pop: the same chains will be popped
 * again. */
void queue_unpop(struct queue *queue, uint16_t count);

/* After a batch of pushes: must the driver be interrupted? (2.7.7) */
bool queue_interrupt_wanted(struct queue *queue);

/* Tells the driver not to kick, or to kick again (2.7.10). Enabling returns
 * true when requests arrived meanwhile, so that the caller looks again. */
void queue_kicks_disable(struct queue *queue);
bool queue_kicks_enable(struct queue *queue) must_check;

/* The driver's index as it is now; moves with each request made available. */
uint16_t queue_driver_index(const struct queue *queue);

/* Has the driver kick when it makes the next request available, whatever waits
 * already. Its index when that was asked for. */
uint16_t queue_kick_at_next(struct queue *queue);

/* What the driver set up, and where the device stands. */
void queue_save(const struct queue *queue, struct state_writer *writer);

/* The rings of an active queue count as changed since the last snapshot: who
 * holds pointers into them, vhost too, need not tell. */
void queue_mark_dirty(const struct queue *queue);

/* The same back, unchecked, into a queue after queue_init. @active: of an
 * active device, queue_resume follows; otherwise it stands at its start. */
void queue_load(struct queue *queue, struct state_reader *reader, bool active);

/* queue_activate for a queue that was loaded: besides, it must stand where its
 * ring can be. -EINVAL or -EFAULT with a reason in @err. */
int queue_resume(struct queue *queue, struct gmem *mem, bool event_idx,
		 struct error *err) must_check;

/* Somebody else has filled the device area: goes on where it ends now. */
void queue_adopt_used(struct queue *queue);

#endif
