/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of a block device (virtio 1.2, 5.2.6), from the header that the
 * driver wrote to the status byte that it reads. What is in between is a struct
 * block_io, done by one engine or the other. It owns a copy of all that the
 * driver said, and the loans of guest memory.
 *
 * Thread: holder of the device's lock.
 */
#ifndef EMBER_BLOCK_REQUEST_H
#define EMBER_BLOCK_REQUEST_H

#include "virtio/block_file.h"
#include "virtio/chain.h"

struct block_metrics;
struct block_request_type;
struct block_ring_user;

/* Feature bits (5.2.3). */
enum {
	VIRTIO_BLK_F_SEG_MAX = 2,
	VIRTIO_BLK_F_RO = 5,
	VIRTIO_BLK_F_FLUSH = 9,
	VIRTIO_BLK_F_DISCARD = 13,
	VIRTIO_BLK_F_WRITE_ZEROES = 14,
};

/* What a driver is told (5.2.4), in sectors and ranges. One call of fallocate
 * for as much takes milliseconds; zeros may have to be written. */
#define BLOCK_DISCARD_SECTORS_MAX (GIB(1) / BLOCK_SECTOR_SIZE)
#define BLOCK_ZEROES_SECTORS_MAX (MIB(16) / BLOCK_SECTOR_SIZE)
#define BLOCK_RANGES_MAX 16

/* Pieces of memory in one request: without being told, drivers make a request
 * of each. Two such requests, with header and status, fill a ring. */
#define BLOCK_SEGMENTS_MAX 126

/* One range of DISCARD or WRITE_ZEROES, checked. */
struct block_range {
	uint64_t off, len; /* bytes */
	bool unmap;
};

/* The disk as a request sees it. */
struct block_disk {
	const struct block_file *file;
	struct block_metrics *metrics;
	uint64_t features; /* negotiated */
};

struct block_request {
	struct chain chain;
	struct block_io io; /* while block_request_begin or _next says so */
	int res;	    /* what came of its last call */

	/* private */
	const struct block_request_type *type;
	uint64_t start_ns, len;
	size_t borrowed; /* writable bytes on loan */
	uint16_t range, range_count;
	struct block_ring_user *user;
	struct block_request *next;
	struct block_range ranges[BLOCK_RANGES_MAX];
	struct iovec iov[BLOCK_IOV_MAX];
};

/* What a limiter is charged for: the data, in whichever direction. For a
 * request that was not begun. */
uint64_t block_request_bytes(const struct block_request *request);

/* What it is charged for besides, once it was begun: what it fills with zeros.
 */
uint64_t block_request_zeroes(const struct block_request *request);

/* request->chain was popped. True: request->io is to be done. False: the
 * request is finished, its status is in the guest. */
bool block_request_begin(struct block_request *request,
			 const struct block_disk *disk) must_check;

/* request->io is done; @ret is what came of it, 0 or -errno. True: there is
 * another. False: the request is finished. */
bool block_request_next(struct block_request *request,
			const struct block_disk *disk, int ret) must_check;

/* The driver does not want the request any more: gives back what it lent, and
 * touches nothing. */
void block_request_drop(struct block_request *request);

#endif
