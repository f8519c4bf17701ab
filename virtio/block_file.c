/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/block_file.h"

#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int backing_error(struct error *err, int code, const char *path)
{
	char reason[ERROR_TEXT_MAX / 2];

	snprintf(reason, sizeof(reason), "%s (os error %d) %.400s",
		 os_error_text(code), code, path);
	return error_set(err, code,
			 "Virtio backend error: Error manipulating the backing "
			 "file: %s",
			 reason);
}

static int measure(int fd, const struct stat *st, uint64_t *ret_size)
{
	if (S_ISREG(st->st_mode)) {
		*ret_size = (uint64_t)st->st_size;
		return 0;
	}
	/* No ioctl: in a jail that Landlock guards, those are for /dev. */
	if (S_ISBLK(st->st_mode)) {
		off_t end = lseek(fd, 0, SEEK_END);

		if (end < 0)
			return -errno;
		*ret_size = (uint64_t)end;
		return 0;
	}
	return S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL;
}

/* Stays the same as long as the file is the same, and differs between files. */
static void make_serial(const struct stat *st, uint8_t *serial)
{
	char text[64];

	snprintf(text, sizeof(text), "%lu%lu%lu", (unsigned long)st->st_dev,
		 (unsigned long)st->st_rdev, (unsigned long)st->st_ino);
	memset(serial, 0, BLOCK_SERIAL_LEN);
	memcpy(serial, text, strnlen(text, BLOCK_SERIAL_LEN));
}

/* Units that are not blocks of the host's, or too large to be believed, are of
 * no help to anyone. */
static uint32_t unit_of(const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_blksize;

	if (size < BLOCK_SECTOR_SIZE || size > MIB(1) || (size & (size - 1)))
		size = PAGE_SIZE_4K;
	return (uint32_t)(size / BLOCK_SECTOR_SIZE);
}

int block_file_open(struct block_file *ret_file, const char *path,
		    bool read_only, struct error *err)
{
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	AUTO_CLOSE int fd = open(path, (read_only ? O_RDONLY : O_RDWR) |
					       O_CLOEXEC | O_NONBLOCK);
	struct block_file file = {.read_only = read_only};
	struct stat st;
	uint64_t size = 0;
	int ret;

	if (fd < 0 || fstat(fd, &st))
		return backing_error(err, errno, path);
	ret = measure(fd, &st, &size);
	if (ret)
		return backing_error(err, -ret, path);
	if (size % BLOCK_SECTOR_SIZE)
		log_warn("Disk size %lu is not a multiple of sector size %d; "
			 "the remainder will not be visible to the guest.",
			 (unsigned long)size, BLOCK_SECTOR_SIZE);
	file.sectors = size / BLOCK_SECTOR_SIZE;
	file.unit = unit_of(&st);
	make_serial(&st, file.serial);
	file.fd = take_fd(&fd);
	*ret_file = file;
	return 0;
}

void block_file_close(struct block_file *file)
{
	close_fd(&file->fd);
}

/* ------------------------------------------------------------ what is done */

/* What a file is filled with that has no better way to zeros. */
static const uint8_t zeros[512];

int block_io_mode(const struct block_io *io)
{
	return io->op == BLOCK_OP_ZERO
		       ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
		       : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

ssize_t block_file_call(const struct block_file *file,
			const struct block_io *io)
{
	off_t off = (off_t)io->off;
	ssize_t ret = 0;

	switch (io->op) {
	case BLOCK_OP_READ:
		/* One piece is what most requests have, and cheaper. */
		ret = io->count == 1
			      ? pread(file->fd, io->iov->iov_base,
				      io->iov->iov_len, off)
			      : preadv(file->fd, io->iov, io->count, off);
		break;
	case BLOCK_OP_WRITE:
	case BLOCK_OP_FILL:
		ret = io->count == 1
			      ? pwrite(file->fd, io->iov->iov_base,
				       io->iov->iov_len, off)
			      : pwritev(file->fd, io->iov, io->count, off);
		break;
	case BLOCK_OP_SYNC:
		ret = fdatasync(file->fd);
		break;
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_CLEAR:
	case BLOCK_OP_ZERO:
	default:
		ret = fallocate(file->fd, block_io_mode(io), off,
				(off_t)io->len);
		break;
	}
	return ret < 0 ? -errno : ret;
}

/* Drops @done bytes from the front. */
static void skip(struct block_io *io, size_t done)
{
	while (io->count && done >= io->iov->iov_len) {
		done -= io->iov->iov_len;
		io->iov++;
		io->count--;
	}
	if (io->count) {
		io->iov->iov_base = (char *)io->iov->iov_base + done;
		io->iov->iov_len -= done;
	}
}

/* The next call writes as many zeros as fit into it. */
static int fill(struct block_io *io)
{
	uint64_t left = io->len;

	io->op = BLOCK_OP_FILL;
	io->iov = io->room;
	for (io->count = 0; left && io->count < BLOCK_IOV_MAX; io->count++) {
		struct iovec *iov = &io->iov[io->count];

		/* Never written to: they are what pwritev reads. */
		iov->iov_base = (void *)(uintptr_t)zeros;
		iov->iov_len = MIN(left, sizeof(zeros));
		left -= iov->iov_len;
	}
	return 1;
}

/* A file system may know one way to zeros and not the other, and a device may
 * want larger units for them. */
static int try_otherwise(struct block_io *io, int ret)
{
	if (ret != -EOPNOTSUPP && ret != -EINVAL)
		return ret;
	switch (io->op) {
	case BLOCK_OP_CLEAR:
		io->op = BLOCK_OP_ZERO;
		return 1;
	case BLOCK_OP_ZERO:
		return fill(io);
	case BLOCK_OP_DISCARD:
		return -EOPNOTSUPP;
	case BLOCK_OP_READ:
	case BLOCK_OP_WRITE:
	case BLOCK_OP_SYNC:
	case BLOCK_OP_FILL:
	default:
		return ret;
	}
}

static int advance_transfer(struct block_io *io, size_t done)
{
	if (!done)
		return -EIO; /* the file has shrunk under the guest */
	io->off += done;
	io->len -= done;
	if (io->op == BLOCK_OP_FILL)
		return io->len ? fill(io) : 0;
	skip(io, done);
	return io->count > 0;
}

int block_io_advance(struct block_io *io, ssize_t res)
{
	if (res == -EINTR)
		return 1;
	if (res < 0)
		return try_otherwise(io, (int)res);
	switch (io->op) {
	case BLOCK_OP_READ:
	case BLOCK_OP_WRITE:
	case BLOCK_OP_FILL:
		return advance_transfer(io, (size_t)res);
	case BLOCK_OP_SYNC:
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_CLEAR:
	case BLOCK_OP_ZERO:
	default:
		return 0;
	}
}

int block_file_run(const struct block_file *file, struct block_io *io)
{
	int ret;

	do
		ret = block_io_advance(io, block_file_call(file, io));
	while (ret > 0);
	return ret;
}

int block_file_flush(const struct block_file *file)
{
	return fdatasync(file->fd) ? -errno : 0;
}
