/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a block device: opened without being able to hang, and
 * measured; and what is done with it. A struct block_io is a piece of work that
 * may take several system calls: those of block_file_call on the caller's
 * thread, or the same ones made by a ring (block_ring.h). After each of them
 * block_io_advance says what is left. Thread: loop.
 */
#ifndef EMBER_BLOCK_FILE_H
#define EMBER_BLOCK_FILE_H

#include "vmm/error.h"

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#define BLOCK_SECTOR_SIZE 512
#define BLOCK_SERIAL_LEN 20

/* Of an iovec array that a struct block_io has. */
#define BLOCK_IOV_MAX 256

struct block_file {
	int fd; /* -1: closed */
	bool read_only;
	uint64_t sectors;
	uint32_t unit; /* sectors that are given back at once */
	uint8_t serial[BLOCK_SERIAL_LEN]; /* device and inode, NUL-padded */
};

enum block_op {
	BLOCK_OP_READ,
	BLOCK_OP_WRITE,
	BLOCK_OP_SYNC,	  /* what was written becomes durable */
	BLOCK_OP_DISCARD, /* a range is not needed any more */
	BLOCK_OP_CLEAR,	  /* it reads as zeros, and may lose its room */
	BLOCK_OP_ZERO,	  /* it reads as zeros, and keeps its room */
	BLOCK_OP_FILL,	  /* the same for files that can only be written */
};

struct block_io {
	enum block_op op;
	struct iovec *iov; /* READ, WRITE, FILL: what is left; used up */
	int count;
	struct iovec *room; /* CLEAR, ZERO: BLOCK_IOV_MAX, for FILL */
	uint64_t off, len;  /* bytes; what is left of a range */
};

/* Opens a regular file or block device. @ret_file is untouched on error. */
int block_file_open(struct block_file *ret_file, const char *path,
		    bool read_only, struct error *err) must_check;
void block_file_close(struct block_file *file);

/* Makes the next system call of @io. What it returned, or -errno. */
ssize_t block_file_call(const struct block_file *file,
			const struct block_io *io) must_check;

/* The mode of fallocate for a range. */
int block_io_mode(const struct block_io *io);

/* @res has come of the last call of @io. 1: there is another to make. 0: all is
 * done. -EIO when the file ends before, else -errno; -EOPNOTSUPP when the file
 * system cannot give back a range. */
int block_io_advance(struct block_io *io, ssize_t res) must_check;

/* All of it. 0 or -errno, as above. */
int block_file_run(const struct block_file *file,
		   struct block_io *io) must_check;

/* Makes what was written durable. */
int block_file_flush(const struct block_file *file) must_check;

#endif
