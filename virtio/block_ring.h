/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring behind all drives with io_engine "Async": one for the microVM.
 *
 * A drive joins, which puts its file into the ring's table. Requests are taken
 * from the ring's store, which is as large as the ring is deep, queued, and
 * submitted together. A request that is done waits in a list of its drive until
 * the drive looks.
 *
 * What the ring may be used for is fixed when it is made: vectored reads and
 * writes, fsync and fallocate, on files of its table. Whoever takes over the
 * process gains nothing by it.
 *
 * Threads: the loop, but for block_ring_wait and what gives requests back,
 * which a vCPU thread uses when it resets a device. Everything that has a drive
 * is called with its device's lock held; the ring has a lock of its own, which
 * is taken after it.
 */
#ifndef EMBER_BLOCK_RING_H
#define EMBER_BLOCK_RING_H

#include "virtio/block_request.h"
#include "vmm/loop.h"

struct block_ring;

#define BLOCK_RING_DEPTH 128

/* A drive; embedded in its owner. Zero-initialise with both functions set. */
struct block_ring_user {
	/* Loop thread, no lock held: requests are done. */
	void (*done)(struct block_ring_user *user);
	/* Any thread, under the ring's lock: have the loop look soon, since
	 * requests are done, or can be taken again. */
	void (*wake)(struct block_ring_user *user);
	/* private */
	struct block_ring *ring; /* NULL: not joined */
	unsigned slot;		 /* in the ring's table of files */
	unsigned in_flight;	 /* queued or submitted */
	bool starved;		 /* could not take a request */
	struct block_request *first_done, **last_done;
};

/* -errno with a sentence if the host's kernel has no io_uring, or none for us.
 */
int block_ring_create(struct block_ring **ret_ring,
		      struct error *err) must_check;

/* Accepts NULL. All drives have left. */
void block_ring_destroy(struct block_ring *ring);

/* Puts @fd, which stays the caller's, into the table. -ENOSPC when it is full,
 * -errno of the kernel. */
int block_ring_join(struct block_ring *ring, struct block_ring_user *user,
		    int fd) must_check;

/* Nothing is in flight. Safe on a user that never joined. */
void block_ring_leave(struct block_ring_user *user);

/* Another file for a drive with nothing in flight. */
int block_ring_set_file(struct block_ring_user *user, int fd) must_check;

/* Has @loop call user->done from now on; again for the same loop: nothing. */
int block_ring_watch(struct block_ring *ring, struct loop *loop) must_check;

/* NULL: all are in use; user->wake will be called when that has changed. */
struct block_request *block_ring_take(struct block_ring_user *user);
void block_ring_give(struct block_ring_user *user,
		     struct block_request *request);

/* Queues the next call of request->io. Until the request is done it and the
 * memory its iovecs are of belong to the kernel. */
void block_ring_queue(struct block_ring_user *user,
		      struct block_request *request);

/* Submits what is queued, and looks what is done already. What the kernel
 * cannot take now is done with -EAGAIN. */
void block_ring_submit(struct block_ring_user *user);

/* The next request that is done, with request->res; NULL: none. */
struct block_request *block_ring_next_done(struct block_ring_user *user);

/* Until nothing of the drive is in flight: all is in the list then. Waits for
 * the disk. */
void block_ring_wait(struct block_ring_user *user);

#endif
