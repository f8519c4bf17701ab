/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A request (virtio 1.2, 5.2.6) is a 16-byte header, data, and a status byte
 * that the device writes. Only the order is given, not how the driver cut it
 * into buffers: the header is copied from the readable stream, the status goes
 * to the last writable byte, and data is what remains of either stream.
 *
 * A file that cannot be read or written fails the request; so does a range that
 * is not on the disk.
 */
#include "virtio/block_request.h"

#include "vmm/log.h"
#include "vmm/metrics.h"

#include <assert.h>
#include <errno.h>

static_assert(BLOCK_IOV_MAX == CHAIN_SEGMENTS_MAX, "an iovec per segment");

/* Request types (5.2.6). */
enum {
	BLOCK_IN = 0,
	BLOCK_OUT = 1,
	BLOCK_FLUSH = 4,
	BLOCK_GET_ID = 8,
	BLOCK_DISCARD = 11,
	BLOCK_WRITE_ZEROES = 13,
};

/* Status values, and what stands for none yet. */
enum {
	BLOCK_S_PENDING = -1,
	BLOCK_S_OK = 0,
	BLOCK_S_IOERR = 1,
	BLOCK_S_UNSUPP = 2,
};

struct block_header {
	le32 type;
	le32 reserved;
	le64 sector;
};

/* A range as the driver gives it. */
struct block_segment {
	le64 sector;
	le32 sectors;
	le32 flags;
};

#define BLOCK_FLAG_UNMAP 1

struct block_request_type {
	uint32_t type;
	enum block_op op;
	unsigned feature; /* that must be negotiated; 0: none */
	/* BLOCK_S_PENDING: request->io is to be done. */
	int (*begin)(struct block_request *request,
		     const struct block_disk *disk, uint64_t sector);
};

/* ---------------------------------------------------- beginning a request */

/* Whole sectors, all of them on the disk. */
static bool range_valid(const struct block_disk *disk, uint64_t sector,
			uint64_t len)
{
	uint64_t all = disk->file->sectors;

	return len % BLOCK_SECTOR_SIZE == 0 && sector <= all &&
	       len / BLOCK_SECTOR_SIZE <= all - sector;
}

static int begin_transfer(struct block_request *request, uint64_t sector,
			  int count)
{
	if (count < 0)
		return BLOCK_S_IOERR;
	request->start_ns = monotonic_ns();
	request->io = (struct block_io){
		.op = request->type->op,
		.iov = request->iov,
		.count = count,
		.off = sector * BLOCK_SECTOR_SIZE,
		.len = request->len,
	};
	return BLOCK_S_PENDING;
}

static int begin_in(struct block_request *request,
		    const struct block_disk *disk, uint64_t sector)
{
	struct chain *chain = &request->chain;
	int count;

	request->len = chain->writable.left - 1; /* the status byte */
	if (!range_valid(disk, sector, request->len))
		return BLOCK_S_IOERR;
	count = chain_borrow_writable(chain, request->len, request->iov,
				      BLOCK_IOV_MAX, &request->borrowed);
	return begin_transfer(request, sector, count);
}

static int begin_out(struct block_request *request,
		     const struct block_disk *disk, uint64_t sector)
{
	struct chain *chain = &request->chain;
	size_t borrowed;
	int count;

	request->len = chain->readable.left;
	if (disk->file->read_only || !range_valid(disk, sector, request->len))
		return BLOCK_S_IOERR;
	count = chain_borrow_readable(chain, request->len, request->iov,
				      BLOCK_IOV_MAX, &borrowed);
	return begin_transfer(request, sector, count);
}

/* What was completed before is covered; what is in flight need not be
 * (5.2.6.2). */
static int begin_flush(struct block_request *request,
		       const struct block_disk *disk, uint64_t sector)
{
	(void)sector;
	metric_inc(&disk->metrics->flush_count);
	request->io = (struct block_io){.op = BLOCK_OP_SYNC};
	return BLOCK_S_PENDING;
}

static int begin_get_id(struct block_request *request,
			const struct block_disk *disk, uint64_t sector)
{
	struct chain *chain = &request->chain;

	(void)sector;
	if (chain->writable.left - 1 < BLOCK_SERIAL_LEN)
		return BLOCK_S_IOERR;
	return chain_write(chain, disk->file->serial, BLOCK_SERIAL_LEN)
		       ? BLOCK_S_IOERR
		       : BLOCK_S_OK;
}

/* -------------------------------------------------------- ranges of a disk */

/* The next range is to be done, if there is one. Those of nothing are not. */
static int begin_range(struct block_request *request)
{
	const struct block_range *range;

	do {
		if (request->range == request->range_count)
			return BLOCK_S_OK;
		range = &request->ranges[request->range++];
	} while (!range->len);
	request->io = (struct block_io){
		.op = request->type->op == BLOCK_OP_ZERO && range->unmap
			      ? BLOCK_OP_CLEAR
			      : request->type->op,
		.room = request->iov,
		.off = range->off,
		.len = range->len,
	};
	return BLOCK_S_PENDING;
}

/* 5.2.6.2: flags that mean nothing are not supported, and to unmap is not an
 * option of DISCARD. */
static int check_segment(const struct block_request *request,
			 const struct block_disk *disk,
			 const struct block_segment *segment)
{
	bool discard = request->type->op == BLOCK_OP_DISCARD;
	uint32_t known = discard ? 0 : BLOCK_FLAG_UNMAP;
	uint32_t sectors = le32_get(segment->sectors);
	uint64_t most =
		discard ? BLOCK_DISCARD_SECTORS_MAX : BLOCK_ZEROES_SECTORS_MAX;

	if (le32_get(segment->flags) & ~known)
		return BLOCK_S_UNSUPP;
	if (sectors > most ||
	    !range_valid(disk, le64_get(segment->sector),
			 (uint64_t)sectors * BLOCK_SECTOR_SIZE))
		return BLOCK_S_IOERR;
	return BLOCK_S_OK;
}

/* All are checked before any is done. */
static int begin_ranges(struct block_request *request,
			const struct block_disk *disk, uint64_t sector)
{
	struct chain *chain = &request->chain;
	uint64_t len = chain->readable.left;
	size_t count = len / sizeof(struct block_segment);

	(void)sector; /* the ranges have their own */
	if (!count || count > BLOCK_RANGES_MAX ||
	    len % sizeof(struct block_segment) || disk->file->read_only)
		return BLOCK_S_IOERR;
	for (size_t i = 0; i < count; i++) {
		struct block_segment segment;
		int status = chain_read(chain, &segment, sizeof(segment))
				     ? BLOCK_S_IOERR
				     : check_segment(request, disk, &segment);

		if (status)
			return status;
		request->ranges[i] = (struct block_range){
			.off = le64_get(segment.sector) * BLOCK_SECTOR_SIZE,
			.len = (uint64_t)le32_get(segment.sectors) *
			       BLOCK_SECTOR_SIZE,
			.unmap = le32_get(segment.flags) & BLOCK_FLAG_UNMAP,
		};
	}
	request->range_count = (uint16_t)count;
	return begin_range(request);
}

/* ----------------------------------------------------- finishing a request */

static const struct block_request_type types[] = {
	{BLOCK_IN, BLOCK_OP_READ, 0, begin_in},
	{BLOCK_OUT, BLOCK_OP_WRITE, 0, begin_out},
	{BLOCK_FLUSH, BLOCK_OP_SYNC, VIRTIO_BLK_F_FLUSH, begin_flush},
	{BLOCK_GET_ID, BLOCK_OP_READ, 0, begin_get_id},
	{BLOCK_DISCARD, BLOCK_OP_DISCARD, VIRTIO_BLK_F_DISCARD, begin_ranges},
	{BLOCK_WRITE_ZEROES, BLOCK_OP_ZERO, VIRTIO_BLK_F_WRITE_ZEROES,
	 begin_ranges},
};

static int begin(struct block_request *request, const struct block_disk *disk)
{
	struct block_header header;

	if (chain_read(&request->chain, &header, sizeof(header)))
		return BLOCK_S_IOERR;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		const struct block_request_type *type = &types[i];

		if (type->type != le32_get(header.type))
			continue;
		if (type->feature && !(disk->features & BIT(type->feature)))
			break;
		request->type = type;
		return type->begin(request, disk, le64_get(header.sector));
	}
	return BLOCK_S_UNSUPP;
}

static void count_transfer(const struct block_request *request,
			   struct block_metrics *metrics)
{
	uint64_t us = (monotonic_ns() - request->start_ns) / 1000;

	if (request->type->op == BLOCK_OP_READ) {
		metric_inc(&metrics->read_count);
		metric_add(&metrics->read_bytes, request->len);
		metric_agg_record(&metrics->read_agg, us);
	} else if (request->type->op == BLOCK_OP_WRITE) {
		metric_inc(&metrics->write_count);
		metric_add(&metrics->write_bytes, request->len);
		metric_agg_record(&metrics->write_agg, us);
	}
}

/* The status byte is the last writable one. */
static void finish(struct block_request *request, const struct block_disk *disk,
		   int status)
{
	struct chain *chain = &request->chain;
	const uint8_t byte = (uint8_t)status;

	if (status != BLOCK_S_OK)
		metric_inc(status == BLOCK_S_UNSUPP
				   ? &disk->metrics->invalid_reqs_count
				   : &disk->metrics->execute_fails);
	if (chain_seek_writable_tail(chain, 1) || chain_write(chain, &byte, 1))
		log_guest("block: the status byte is not in RAM");
}

uint64_t block_request_bytes(const struct block_request *request)
{
	uint64_t out = request->chain.readable.left;
	uint64_t in = request->chain.writable.left;
	uint64_t bytes = 0;

	if (out > sizeof(struct block_header))
		bytes += out - sizeof(struct block_header);
	if (in > 1)
		bytes += in - 1; /* the status byte */
	return bytes;
}

uint64_t block_request_zeroes(const struct block_request *request)
{
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < request->range_count; i++)
		if (request->type->op == BLOCK_OP_ZERO)
			bytes += request->ranges[i].len;
	return bytes;
}

/* A chain without a writable byte is given back all the same: there is nowhere
 * to complain. */
bool block_request_begin(struct block_request *request,
			 const struct block_disk *disk)
{
	int status;

	request->type = NULL;
	request->borrowed = 0;
	request->range = request->range_count = 0;
	if (request->chain.writable.left == 0) {
		metric_inc(&disk->metrics->invalid_reqs_count);
		log_guest("block: request without room for a status");
		return false;
	}
	status = begin(request, disk);
	if (status == BLOCK_S_PENDING && request->io.op <= BLOCK_OP_WRITE &&
	    !request->io.count) {
		count_transfer(request, disk->metrics);
		status = BLOCK_S_OK; /* of no bytes */
	}
	if (status == BLOCK_S_PENDING)
		return true;
	finish(request, disk, status);
	return false;
}

bool block_request_next(struct block_request *request,
			const struct block_disk *disk, int ret)
{
	int status = BLOCK_S_OK;

	if (ret)
		status = ret == -EOPNOTSUPP ? BLOCK_S_UNSUPP : BLOCK_S_IOERR;
	else if (request->range_count)
		status = begin_range(request);
	if (status == BLOCK_S_PENDING)
		return true;
	/* How much of a failed read arrived is unknown: all of it may be
	 * changed. */
	chain_return_writable(&request->chain, request->borrowed);
	if (status == BLOCK_S_OK)
		count_transfer(request, disk->metrics);
	else
		request->chain.written = 0;
	finish(request, disk, status);
	return false;
}

void block_request_drop(struct block_request *request)
{
	chain_return_writable(&request->chain, request->borrowed);
}
