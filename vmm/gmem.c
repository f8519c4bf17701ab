/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Each region is one host mapping. Host addresses are aligned so that a huge
 * page of the host can back a huge page of the guest: host and guest address
 * are equal modulo 2 MiB. A look-up is a scan over at most four regions that
 * compares by subtraction, so no sum can overflow.
 */
#include "vmm/gmem.h"

#include <errno.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_SIZE MIB(2)

struct gmem {
	size_t count;
	struct gmem_region regions[GMEM_REGIONS_MAX];
	int fd; /* memfd behind all regions, or -1 */
	/* One bit per 4 KiB page, regions in order; NULL: not tracked. */
	uint64_t *dirty; /* accessed by __atomic built-ins */
};

/* ----------------------------------------------------------------- mapping */

static int map_error(int code, enum gmem_pages pages, struct error *err)
{
	error_set_os(err, code, "Cannot create mmap region:");
	if (pages == GMEM_PAGES_2M && err)
		error_prefix(err, "The pool of 2 MiB pages is too small? ");
	return -code;
}

/* Reserves address space with room to align, gives back what is too much. */
static uint8_t *reserve_aligned(uint64_t len)
{
	uint64_t padded;
	uint8_t *start, *aligned;
	size_t before, after;

	if (__builtin_add_overflow(len, HUGE_PAGE_SIZE, &padded))
		return NULL;
	start = mmap(NULL, padded, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return NULL;
	aligned = (uint8_t *)ALIGN_UP((uintptr_t)start, HUGE_PAGE_SIZE);
	before = (size_t)(aligned - start);
	after = HUGE_PAGE_SIZE - before;
	if (before)
		munmap(start, before);
	munmap(aligned + len, after);
	return aligned;
}

/* Guest RAM is promised, not reserved, except from the huge page pool: there an
 * unreserved page would end in SIGBUS once the pool has run dry. */
static int map_flags(const struct gmem *mem, enum gmem_pages pages)
{
	int flags = MAP_FIXED;

	if (pages != GMEM_PAGES_2M)
		flags |= MAP_NORESERVE;
	if (mem->fd >= 0)
		return flags | MAP_SHARED;
	if (pages == GMEM_PAGES_2M)
		flags |= (int)(MAP_HUGETLB | MAP_HUGE_2MB);
	return flags | MAP_PRIVATE | MAP_ANONYMOUS;
}

static int map_region(const struct gmem *mem, struct gmem_region *region,
		      enum gmem_pages pages)
{
	uint8_t *at = reserve_aligned(region->len);
	void *hva;

	if (!at)
		return -ENOMEM;
	hva = mmap(at, region->len, PROT_READ | PROT_WRITE,
		   map_flags(mem, pages), mem->fd, (off_t)region->fd_off);
	if (hva == MAP_FAILED) {
		int ret = -errno;

		munmap(at, region->len);
		return ret;
	}
	region->hva = hva;
	if (pages == GMEM_PAGES_TRANSPARENT &&
	    madvise(hva, region->len, MADV_HUGEPAGE))
		return -errno;
	return 0;
}

static int make_memfd(uint64_t size, enum gmem_pages pages)
{
	unsigned flags = MFD_CLOEXEC;
	AUTO_CLOSE int fd = -1;

	if (pages == GMEM_PAGES_2M)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	fd = memfd_create("guest-memory", flags);
	if (fd < 0 || ftruncate(fd, (off_t)size))
		return -errno;
	return take_fd(&fd);
}

/* Checks the ranges and lays them out one behind the other in the backing. */
static int plan(struct gmem *mem, const struct gmem_range *ranges, size_t count,
		enum gmem_pages pages, uint64_t *ret_size)
{
	uint64_t unit = pages == GMEM_PAGES_2M ? HUGE_PAGE_SIZE : PAGE_SIZE_4K;
	uint64_t end = 0, size = 0;

	if (count == 0 || count > GMEM_REGIONS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		const struct gmem_range *range = &ranges[i];

		if (range->len == 0 || (range->gpa | range->len) % unit ||
		    (i > 0 && range->gpa < end) ||
		    __builtin_add_overflow(range->gpa, range->len, &end) ||
		    end > INT64_MAX)
			return -EINVAL;
		mem->regions[i] = (struct gmem_region){
			.gpa = range->gpa,
			.len = range->len,
			.fd = -1,
			.fd_off = size,
		};
		size += range->len;
	}
	*ret_size = size;
	return 0;
}

static int create(struct gmem *mem, const struct gmem_range *ranges,
		  size_t count, enum gmem_backing backing,
		  enum gmem_pages pages)
{
	uint64_t size;
	int ret = plan(mem, ranges, count, pages, &size);

	if (ret)
		return ret;
	if (backing == GMEM_MEMFD) {
		mem->fd = make_memfd(size, pages);
		if (mem->fd < 0)
			return mem->fd;
	}
	for (; mem->count < count; mem->count++) {
		struct gmem_region *region = &mem->regions[mem->count];

		region->fd = mem->fd;
		ret = map_region(mem, region, pages);
		if (ret)
			return ret;
	}
	return 0;
}

int gmem_create(struct gmem **ret_mem, const struct gmem_range *ranges,
		size_t count, enum gmem_backing backing, enum gmem_pages pages,
		struct error *err)
{
	struct gmem *mem = calloc(1, sizeof(*mem));
	int ret;

	if (!mem)
		return map_error(ENOMEM, pages, err);
	mem->fd = -1;
	ret = create(mem, ranges, count, backing, pages);
	if (ret) {
		gmem_destroy(mem);
		return map_error(-ret, pages, err);
	}
	*ret_mem = mem;
	return 0;
}

void gmem_destroy(struct gmem *mem)
{
	if (!mem)
		return;
	for (size_t i = 0; i < GMEM_REGIONS_MAX; i++)
		if (mem->regions[i].hva)
			munmap(mem->regions[i].hva, mem->regions[i].len);
	close_fd(&mem->fd);
	free(mem->dirty);
	free(mem);
}

size_t gmem_region_count(const struct gmem *mem)
{
	return mem->count;
}

const struct gmem_region *gmem_region(const struct gmem *mem, size_t i)
{
	return &mem->regions[i];
}

uint64_t gmem_size(const struct gmem *mem)
{
	uint64_t size = 0;

	for (size_t i = 0; i < mem->count; i++)
		size += mem->regions[i].len;
	return size;
}

/* ------------------------------------------------------------- translation */

/* The one place where an address becomes a pointer; NULL unless all of the
 * bytes are in one region. */
static uint8_t *translate(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	for (size_t i = 0; i < mem->count; i++) {
		const struct gmem_region *region = &mem->regions[i];
		uint64_t off = gpa - region->gpa;

		if (gpa >= region->gpa && off < region->len)
			return len <= region->len - off ? region->hva + off
							: NULL;
	}
	return NULL;
}

bool gmem_contains(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	return translate(mem, gpa, len) != NULL;
}

/* ------------------------------------------------------------------ copies */

int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf, size_t len)
{
	const uint8_t *from = translate(mem, gpa, len);

	if (!from)
		return -EFAULT;
	memcpy(buf, from, len);
	return 0;
}

int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf, size_t len)
{
	uint8_t *to = translate(mem, gpa, len);

	if (!to)
		return -EFAULT;
	memcpy(to, buf, len);
	gmem_mark_dirty(mem, gpa, len);
	return 0;
}

int gmem_zero(struct gmem *mem, uint64_t gpa, size_t len)
{
	uint8_t *to = translate(mem, gpa, len);

	if (!to)
		return -EFAULT;
	memset(to, 0, len);
	gmem_mark_dirty(mem, gpa, len);
	return 0;
}

/* Pages that are about to be written are cheaper by the batch than by a fault
 * each. Where the host's kernel does not know how (before 5.14), they fault. */
static void populate(uint8_t *start, size_t len)
{
	uintptr_t first = ALIGN_DOWN((uintptr_t)start, PAGE_SIZE_4K);

	if (madvise((void *)first, (uintptr_t)start + len - first,
		    MADV_POPULATE_WRITE))
		return;
}

int gmem_read_file(struct gmem *mem, uint64_t gpa, size_t len, int fd,
		   uint64_t off)
{
	uint8_t *to = translate(mem, gpa, len);
	size_t done = 0;

	if (!to || off > INT64_MAX - len)
		return -EFAULT;
	populate(to, len);
	while (done < len) {
		ssize_t n =
			pread(fd, to + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	gmem_mark_dirty(mem, gpa, len);
	return 0;
}

/* --------------------------------------------------------- loans and holds */

int gmem_map(struct gmem *mem, uint64_t gpa, size_t len, struct iovec *ret_iov)
{
	uint8_t *base = translate(mem, gpa, len);

	if (!base)
		return -EFAULT;
	*ret_iov = (struct iovec){.iov_base = base, .iov_len = len};
	return 0;
}

void gmem_unmap(struct gmem *mem, uint64_t gpa, size_t len, enum gmem_dir dir)
{
	if (dir == GMEM_DEVICE_WRITES)
		gmem_mark_dirty(mem, gpa, len);
}

int gmem_hold(struct gmem *mem, uint64_t gpa, size_t len, void **ret_ptr)
{
	uint8_t *base = translate(mem, gpa, len);

	if (!base)
		return -EFAULT;
	*ret_ptr = base;
	return 0;
}

/* ---------------------------------------------------------- dirty tracking */

int gmem_track_dirty(struct gmem *mem)
{
	size_t pages = gmem_size(mem) / PAGE_SIZE_4K;

	if (!mem->dirty)
		mem->dirty = calloc(pages / 64 + 1, sizeof(*mem->dirty));
	return mem->dirty ? 0 : -ENOMEM;
}

/* Number of the page in the bitmap; @gpa is known to be RAM. */
static uint64_t page_number(const struct gmem *mem, uint64_t gpa)
{
	const struct gmem_region *region = mem->regions;

	while (gpa - region->gpa >= region->len)
		region++;
	return (region->fd_off + (gpa - region->gpa)) / PAGE_SIZE_4K;
}

void gmem_mark_dirty(struct gmem *mem, uint64_t gpa, size_t len)
{
	uint64_t first, last;

	if (!mem->dirty || len == 0 || !translate(mem, gpa, len))
		return;
	first = page_number(mem, gpa);
	last = page_number(mem, gpa + (len - 1));
	for (uint64_t page = first; page <= last; page++)
		__atomic_fetch_or(&mem->dirty[page / 64], BIT(page % 64),
				  __ATOMIC_RELAXED);
}

bool gmem_page_dirty(const struct gmem *mem, uint64_t gpa)
{
	uint64_t page;

	if (!mem->dirty || !translate(mem, gpa, 1))
		return false;
	page = page_number(mem, gpa);
	return __atomic_load_n(&mem->dirty[page / 64], __ATOMIC_RELAXED) &
	       BIT(page % 64);
}
