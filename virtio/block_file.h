/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a block device: opened without being able to hang, measured,
 * read and written in full or not at all. Thread: loop.
 */
#ifndef EMBER_BLOCK_FILE_H
#define EMBER_BLOCK_FILE_H

#include "vmm/error.h"

#include <stdbool.h>
#include <sys/uio.h>

#define BLOCK_SECTOR_SIZE 512
#define BLOCK_SERIAL_LEN 20

struct block_file {
	int fd; /* -1: closed */
	bool read_only;
	uint64_t sectors;
	uint8_t serial[BLOCK_SERIAL_LEN]; /* device and inode, NUL-padded */
};

/* Opens a regular file or block device. @ret_file is untouched on error. */
int block_file_open(struct block_file *ret_file, const char *path,
		    bool read_only, struct error *err) must_check;
void block_file_close(struct block_file *file);

/* Transfers all of @iov (which is used up) at byte @off. -EIO when the file
 * ends before, else -errno. */
int block_file_read(const struct block_file *file, struct iovec *iov, int count,
		    uint64_t off) must_check;
int block_file_write(const struct block_file *file, struct iovec *iov,
		     int count, uint64_t off) must_check;

/* Makes what was written durable. */
int block_file_flush(const struct block_file *file) must_check;

#endif
