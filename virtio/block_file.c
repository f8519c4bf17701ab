/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/block_file.h"

#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
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
	make_serial(&st, file.serial);
	file.fd = take_fd(&fd);
	*ret_file = file;
	return 0;
}

void block_file_close(struct block_file *file)
{
	close_fd(&file->fd);
}

/* Drops @done bytes from the front; returns how many elements are left. */
static int skip(struct iovec **iov, int count, size_t done)
{
	while (count && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		count--;
	}
	if (count) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
	return count;
}

typedef ssize_t (*transfer_fn)(int fd, const struct iovec *iov, int count,
			       off_t off);

static int transfer(transfer_fn fn, const struct block_file *file,
		    struct iovec *iov, int count, uint64_t off)
{
	while (count) {
		ssize_t done = fn(file->fd, iov, count, (off_t)off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done == 0)
			return -EIO; /* the file has shrunk under the guest */
		off += (uint64_t)done;
		count = skip(&iov, count, (size_t)done);
	}
	return 0;
}

int block_file_read(const struct block_file *file, struct iovec *iov, int count,
		    uint64_t off)
{
	return transfer(preadv, file, iov, count, off);
}

int block_file_write(const struct block_file *file, struct iovec *iov,
		     int count, uint64_t off)
{
	return transfer(pwritev, file, iov, count, off);
}

int block_file_flush(const struct block_file *file)
{
	return fdatasync(file->fd) ? -errno : 0;
}
