/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/pmem_file.h"

#include "vmm/gmem.h"
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int refuse(struct error *err, const char *path, const char *reason)
{
	return error_set(err, EINVAL,
			 "Error manipulating the backing file: %.300s %s", path,
			 reason);
}

static int os_failed(struct error *err, int code, const char *path)
{
	return error_set(err, code,
			 "Error manipulating the backing file: %.300s: %s (os "
			 "error %d)",
			 path, os_error_text(code), code);
}

static int check_kind(const struct stat *st, const char *path,
		      struct error *err)
{
	if (S_ISDIR(st->st_mode))
		return refuse(err, path, "is a directory");
	if (!S_ISREG(st->st_mode))
		return refuse(err, path,
			      "is not a regular file, which it has to be");
	if (st->st_size == 0)
		return error_set(err, EINVAL, "Error backing file size is 0");
	return 0;
}

/* Address space for all of it, then the file over the beginning. */
static int map(struct pmem_file *file)
{
	int prot = file->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
	uint64_t pages = ALIGN_UP(file->size, PAGE_SIZE_4K);

	file->hva = gmem_reserve(file->len);
	if (!file->hva)
		return -ENOMEM;
	if (mmap(file->hva, pages, prot, MAP_SHARED | MAP_FIXED, file->fd, 0) ==
	    MAP_FAILED)
		return -errno;
	if (pages < file->len &&
	    mprotect(file->hva + pages, file->len - pages, prot))
		return -errno;
	return 0;
}

int pmem_file_open(struct pmem_file *ret_file, const char *path, bool read_only,
		   struct error *err)
{
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	struct pmem_file file = {
		.fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC |
					 O_NONBLOCK | O_NOCTTY),
		.read_only = read_only,
	};
	struct stat st;
	int ret;

	if (file.fd < 0 || fstat(file.fd, &st)) {
		ret = os_failed(err, errno, path);
		pmem_file_close(&file);
		return ret;
	}
	ret = check_kind(&st, path, err);
	if (!ret) {
		file.size = (uint64_t)st.st_size;
		file.len = ALIGN_UP(file.size, PMEM_ALIGN);
		ret = map(&file);
		if (ret)
			ret = os_failed(err, -ret, path);
	}
	if (ret) {
		pmem_file_close(&file);
		return ret;
	}
	if (file.size != file.len && !read_only)
		log_warn(
			"pmem: the size of %s is not a multiple of 2 MiB: what "
			"the guest writes behind its end is not kept.",
			path);
	*ret_file = file;
	return 0;
}

void pmem_file_close(struct pmem_file *file)
{
	if (file->hva)
		munmap(file->hva, file->len);
	file->hva = NULL;
	close_fd(&file->fd);
}

/* As good as msync of the mapping: the kernel looks which pages of the file
 * were written through any mapping of it, the guest's included. The file's
 * length does not change, so there is no metadata to wait for. */
int pmem_file_flush(const struct pmem_file *file)
{
	if (file->read_only)
		return 0;
	return fdatasync(file->fd) ? -errno : 0;
}
