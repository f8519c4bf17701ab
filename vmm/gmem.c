/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * Each region is one host mapping. Host addresses are aligned so that a huge
 * page of the host can back a huge page of the guest: host and guest address
 * are equal modulo 2 MiB. A look-up is a scan over at most four regions that
 * compares by subtraction, so no sum can overflow. Only what is not RAM is then
 * looked for in the pluggable region, and its blocks looked at.
 */
#include "vmm/gmem.h"

#include "vmm/gmem_blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define HUGE_PAGE_SIZE MIB(2)
#define HUGE_POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* Mappings that a guest can make of a memory file by giving pages of it back: a
 * quarter of what a process may have (vm.max_map_count). */
#define PIECES_MAX 16384

struct gmem {
	size_t count;
	size_t ram_count; /* the pluggable region, if any, is behind these */
	struct gmem_region regions[GMEM_REGIONS_MAX];
	enum gmem_backing backing;
	enum gmem_pages pages;
	int fd; /* memfd or memory file behind all regions, or -1 */
	/* One bit per 4 KiB page, regions in order; NULL: not tracked. */
	uint64_t *dirty; /* accessed by __atomic built-ins */
	/* The same, written by the loop only; NULL: none ever was. */
	uint64_t *discarded;
	int64_t pieces; /* at most as many mappings more than there were */
	int handler;	/* GMEM_UFFD: the page-fault handler's socket, or -1 */
};

/* ----------------------------------------------------------------- mapping */

/* A number that the kernel tells; -1 where it cannot be seen, as in a jail. */
static long read_count(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[24] = "";

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	return strtol(text, NULL, 10);
}

/* Pages of the pool that nobody has, or was promised. */
static long pool_spare(void)
{
	long free_pages = read_count(HUGE_POOL "free_hugepages");
	long promised = read_count(HUGE_POOL "resv_hugepages");

	return free_pages < 0 || promised < 0 ? -1 : free_pages - promised;
}

static int pool_error(uint64_t size, struct error *err)
{
	long spare = pool_spare();
	char count[24] = "fewer";

	if (spare >= 0)
		snprintf(count, sizeof(count), "%ld", spare);
	return error_set(err, ENOMEM,
			 "Cannot create mmap region: %s (os error %d). The "
			 "guest needs %" PRIu64 " pages of 2 MiB, and the "
			 "host's pool (/proc/sys/vm/nr_hugepages) has %s to "
			 "spare",
			 os_error_text(ENOMEM), ENOMEM, size / HUGE_PAGE_SIZE,
			 count);
}

static int map_error(int code, const struct gmem *mem, struct error *err)
{
	if (mem && mem->pages == GMEM_PAGES_2M && code == ENOMEM)
		return pool_error(gmem_size(mem), err);
	return error_set_os(err, code, "Cannot create mmap region:");
}

/* With room to align, of which what is too much is given back. */
uint8_t *gmem_reserve(uint64_t len)
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
static int map_flags(const struct gmem *mem)
{
	int flags = 0;

	if (mem->pages != GMEM_PAGES_2M)
		flags |= MAP_NORESERVE;
	if (mem->backing == GMEM_MEMFD)
		return flags | MAP_SHARED;
	if (mem->backing == GMEM_FILE)
		return flags | MAP_PRIVATE;
	if (mem->pages == GMEM_PAGES_2M)
		flags |= (int)(MAP_HUGETLB | MAP_HUGE_2MB);
	return flags | MAP_PRIVATE | MAP_ANONYMOUS;
}

static void *map_at(const struct gmem *mem, const struct gmem_region *region,
		    void *at, int flags)
{
	return mmap(at, region->len, PROT_READ | PROT_WRITE,
		    map_flags(mem) | flags, region->fd,
		    region->fd < 0 ? 0 : (off_t)region->fd_off);
}

/* The boundary below a place that was free: mostly there is room, and then this
 * is half of the calls that reserving takes. MAP_FAILED: there was none. */
static void *map_below(const struct gmem *mem, const struct gmem_region *region,
		       void *place)
{
	void *at = (void *)ALIGN_DOWN((uintptr_t)place, HUGE_PAGE_SIZE);
	void *hva = map_at(mem, region, at, MAP_FIXED_NOREPLACE);

	if (hva == at || hva == MAP_FAILED)
		return hva;
	munmap(hva, region->len); /* before Linux 4.17 it was a hint */
	return MAP_FAILED;
}

static void *map_reserved(const struct gmem *mem,
			  const struct gmem_region *region)
{
	void *at = gmem_reserve(region->len);
	void *hva = at ? map_at(mem, region, at, MAP_FIXED) : MAP_FAILED;
	int code = errno;

	if (at && hva == MAP_FAILED)
		munmap(at, region->len);
	errno = at ? code : ENOMEM;
	return hva;
}

static void *map_aligned(const struct gmem *mem,
			 const struct gmem_region *region)
{
	/* Since Linux 6.7 large mappings are aligned without being asked. */
	void *hva = map_at(mem, region, NULL, 0);
	void *place = hva;

	if (hva == MAP_FAILED || (uintptr_t)hva % HUGE_PAGE_SIZE == 0)
		return hva;
	munmap(hva, region->len);
	hva = map_below(mem, region, place);
	return hva == MAP_FAILED ? map_reserved(mem, region) : hva;
}

static int map_region(const struct gmem *mem, struct gmem_region *region)
{
	void *hva = map_aligned(mem, region);

	if (hva == MAP_FAILED)
		return -errno;
	region->hva = hva;
	if (mem->pages == GMEM_PAGES_TRANSPARENT &&
	    madvise(hva, region->len, MADV_HUGEPAGE) &&
	    mem->backing != GMEM_FILE) /* there it is a wish */
		return -errno;
	return 0;
}

static int make_memfd(uint64_t size, enum gmem_pages pages)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	AUTO_CLOSE int fd = -1;

	if (pages == GMEM_PAGES_2M)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	fd = memfd_create("guest-memory", flags);
	/* Whoever else gets it could cut it, and have us die of that. */
	if (fd < 0 || ftruncate(fd, (off_t)size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return take_fd(&fd);
}

/* Who writes into a memory file takes an exclusive lock (in_place.c). */
int gmem_lock_file(int fd, struct error *err)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	if (!fcntl(fd, F_OFD_SETLK, &lock) ||
	    (errno != EAGAIN && errno != EACCES))
		return 0; /* not every file system has locks */
	return error_set(err, EBUSY,
			 "The memory file is being written to by another "
			 "microVM");
}

static int check_file(int fd, uint64_t size, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_set_os(err, errno,
				    "The memory file cannot be used:");
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL,
				 "The memory file is not a regular file");
	if ((uint64_t)st.st_size < size)
		return error_set(err, EINVAL,
				 "memory file is %jd bytes, the snapshot needs "
				 "%" PRIu64,
				 (intmax_t)st.st_size, size);
	return gmem_lock_file(fd, err);
}

static int fill(uint8_t *to, size_t len, int fd, uint64_t off);

/* Copies what of the extent the file has, hole by hole. */
static int fill_extent(const struct gmem_extent *extent, int fd)
{
	off_t end = (off_t)(extent->off + extent->len);
	off_t off = lseek(fd, (off_t)extent->off, SEEK_DATA);
	int ret;

	while (off >= 0 && off < end) {
		off_t hole = lseek(fd, off, SEEK_HOLE);

		if (hole < 0)
			return -errno;
		hole = MIN(hole, end);
		ret = fill(extent->hva + ((uint64_t)off - extent->off),
			   (size_t)(hole - off), fd, (uint64_t)off);
		if (ret)
			return ret;
		off = lseek(fd, hole, SEEK_DATA);
	}
	return off < 0 && errno != ENXIO ? -errno : 0;
}

/* What is behind RAM, if anything is. */
static int plan_blocks(struct gmem *mem, const struct gmem_pluggable *pluggable,
		       uint64_t unit)
{
	struct gmem_region *region = &mem->regions[mem->count - 1];

	mem->ram_count = mem->count;
	if (!pluggable)
		return 0;
	if (mem->count < 2 || !pluggable->block_len || !pluggable->slot_len ||
	    pluggable->block_len % unit ||
	    pluggable->slot_len % pluggable->block_len ||
	    region->len % pluggable->slot_len)
		return -EINVAL;
	mem->ram_count--;
	region->slot_len = pluggable->slot_len;
	return gmem_blocks_create(&region->blocks, region->len,
				  pluggable->block_len, pluggable->plugged);
}

/* Checks the ranges and lays them out one behind the other in the backing. */
static int plan(struct gmem *mem, const struct gmem_request *request)
{
	uint64_t unit =
		request->pages == GMEM_PAGES_2M ? HUGE_PAGE_SIZE : PAGE_SIZE_4K;
	uint64_t end = 0, size = 0;

	if (request->count == 0 || request->count > GMEM_REGIONS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < request->count; i++) {
		const struct gmem_range *range = &request->ranges[i];

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
	mem->count = request->count;
	return plan_blocks(mem, request->pluggable, unit);
}

static int map_regions(struct gmem *mem)
{
	for (size_t i = 0; i < mem->count; i++) {
		struct gmem_region *region = &mem->regions[i];
		int ret;

		region->fd = mem->fd;
		ret = map_region(mem, region);
		if (ret)
			return ret;
	}
	return 0;
}

/* 2 MiB pages of a plain file's bytes. */
static int map_copy(struct gmem *mem)
{
	AUTO_CLOSE int fd = take_fd(&mem->fd);
	struct gmem_extent extent = {0};
	int ret;

	mem->backing = GMEM_ANONYMOUS;
	ret = map_regions(mem);
	while (!ret && gmem_next_extent(mem, &extent))
		ret = fill_extent(&extent, fd);
	return ret;
}

static int create(struct gmem *mem, const struct gmem_request *request,
		  struct error *err)
{
	int ret = plan(mem, request);

	if (ret)
		return map_error(-ret, mem, err);
	if (mem->backing == GMEM_FILE) {
		ret = check_file(mem->fd, gmem_size(mem), err);
		if (ret)
			return ret;
	}
	if (mem->backing == GMEM_MEMFD) {
		mem->fd = make_memfd(gmem_size(mem), mem->pages);
		if (mem->fd < 0)
			return map_error(-mem->fd, mem, err);
	}
	ret = mem->backing == GMEM_FILE && mem->pages == GMEM_PAGES_2M
		      ? map_copy(mem)
		      : map_regions(mem);
	return ret ? map_error(-ret, mem, err) : 0;
}

int gmem_create(struct gmem **ret_mem, const struct gmem_request *request,
		struct error *err)
{
	AUTO_CLOSE int fd = request->backing == GMEM_FILE ? request->fd : -1;
	struct gmem *mem = calloc(1, sizeof(*mem));
	int ret;

	if (!mem)
		return map_error(ENOMEM, NULL, err);
	mem->backing = request->backing;
	mem->pages = request->pages;
	mem->fd = take_fd(&fd);
	mem->handler = -1;
	ret = create(mem, request, err);
	if (ret) {
		gmem_destroy(mem);
		return ret;
	}
	*ret_mem = mem;
	return 0;
}

void gmem_destroy(struct gmem *mem)
{
	if (!mem)
		return;
	for (size_t i = 0; i < GMEM_REGIONS_MAX; i++) {
		if (mem->regions[i].hva)
			munmap(mem->regions[i].hva, mem->regions[i].len);
		gmem_blocks_destroy(mem->regions[i].blocks);
	}
	close_fd(&mem->fd);
	free(mem->dirty);
	free(mem->discarded);
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

enum gmem_backing gmem_backing(const struct gmem *mem)
{
	return mem->backing;
}

enum gmem_pages gmem_pages(const struct gmem *mem)
{
	return mem->pages;
}

/* ------------------------------------------------------- what is plugged */

const struct gmem_region *gmem_pluggable(const struct gmem *mem)
{
	return mem->ram_count < mem->count ? &mem->regions[mem->ram_count]
					   : NULL;
}

void gmem_plug(struct gmem *mem, uint64_t gpa, uint64_t len, bool plugged)
{
	struct gmem_region *region = &mem->regions[mem->ram_count];

	gmem_blocks_set(region->blocks, gpa - region->gpa, len, plugged);
}

/* From @off of the region on, which is within it. */
static bool extent_in(const struct gmem_region *region, uint64_t off,
		      struct gmem_extent *extent)
{
	uint64_t len = region->len - off;

	if (region->blocks && !gmem_blocks_next(region->blocks, &off, &len))
		return false;
	*extent = (struct gmem_extent){region->fd_off + off, len,
				       region->hva + off};
	return true;
}

bool gmem_next_extent(const struct gmem *mem, struct gmem_extent *extent)
{
	const uint64_t next = extent->off + extent->len;

	for (size_t i = 0; i < mem->count; i++) {
		const struct gmem_region *region = &mem->regions[i];

		if (next < region->fd_off + region->len)
			return extent_in(region, next - region->fd_off, extent);
	}
	return false;
}

/* ------------------------------------------------------------- translation */

static uint8_t *translate_pluggable(const struct gmem_region *region,
				    uint64_t gpa, uint64_t len)
{
	uint64_t off = gpa - region->gpa;

	if (gpa < region->gpa || off >= region->len || len > region->len - off)
		return NULL;
	return gmem_blocks_all(region->blocks, off, MAX(len, 1u))
		       ? region->hva + off
		       : NULL;
}

/* The one place where an address becomes a pointer; NULL unless all of the
 * bytes are in one region, and there. */
static uint8_t *translate(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	for (size_t i = 0; i < mem->ram_count; i++) {
		const struct gmem_region *region = &mem->regions[i];
		uint64_t off = gpa - region->gpa;

		if (gpa >= region->gpa && off < region->len)
			return len <= region->len - off ? region->hva + off
							: NULL;
	}
	return mem->ram_count < mem->count
		       ? translate_pluggable(&mem->regions[mem->ram_count], gpa,
					     len)
		       : NULL;
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

static int populate(uint8_t *start, uint64_t len, bool write)
{
	uintptr_t first = ALIGN_DOWN((uintptr_t)start, PAGE_SIZE_4K);
	int advice = write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	while (madvise((void *)first, (uintptr_t)start + len - first, advice))
		if (errno != EINTR)
			return -errno;
	return 0;
}

int gmem_populate(struct gmem *mem, uint64_t gpa, uint64_t len, bool write)
{
	uint8_t *start = translate(mem, gpa, len);

	return start ? populate(start, len, write) : -EFAULT;
}

static int read_all(uint8_t *to, size_t len, int fd, uint64_t off)
{
	size_t done = 0;

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
	return 0;
}

static int fill(uint8_t *to, size_t len, int fd, uint64_t off)
{
	/* Cheaper by the batch than by a fault each. Where the host's kernel
	 * does not know how (before 5.14), they fault. */
	if (populate(to, len, true) == -EFAULT)
		return -EFAULT;
	return read_all(to, len, fd, off);
}

static bool is_copyable(const struct gmem *mem, uint64_t gpa, uint64_t len)
{
	return mem->backing == GMEM_FILE && (gpa | len) % HUGE_PAGE_SIZE == 0;
}

int gmem_copy_begin(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	uint8_t *at = translate(mem, gpa, len);

	if (!at || !is_copyable(mem, gpa, len))
		return -EFAULT;
	if (mmap(at, len, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0) == MAP_FAILED)
		return -errno;
	/* A wish: without, there is a fault per page. */
	(void)madvise(at, len, MADV_HUGEPAGE);
	return 0;
}

int gmem_copy_file(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	uint8_t *at = translate(mem, gpa, len);
	const struct gmem_region *region = mem->regions;

	if (!at || !is_copyable(mem, gpa, len))
		return -EFAULT;
	while (gpa - region->gpa >= region->len)
		region++;
	return read_all(at, len, region->fd,
			region->fd_off + (gpa - region->gpa));
}

int gmem_read_file(struct gmem *mem, uint64_t gpa, size_t len, int fd,
		   uint64_t off)
{
	uint8_t *to = translate(mem, gpa, len);
	int ret;

	if (!to || off > INT64_MAX - len)
		return -EFAULT;
	ret = fill(to, len, fd, off);
	if (!ret)
		gmem_mark_dirty(mem, gpa, len);
	return ret;
}

/* ------------------------------------------------------ back to the host */

static uint64_t page_number(const struct gmem *mem, uint64_t gpa);

static size_t bitmap_words(const struct gmem *mem)
{
	return (gmem_size(mem) / PAGE_SIZE_4K + 63) / 64;
}

static uint64_t *discarded_bits(const struct gmem *mem)
{
	return __atomic_load_n(&mem->discarded, __ATOMIC_ACQUIRE);
}

static bool is_discarded(const struct gmem *mem, uint64_t page)
{
	const uint64_t *bits = discarded_bits(mem);

	return bits && __atomic_load_n(&bits[page / 64], __ATOMIC_RELAXED) &
			       BIT(page % 64);
}

/* Pages from @first on, at most @max, that all were discarded, or all never. */
static uint64_t run_of(const struct gmem *mem, uint64_t first, uint64_t max)
{
	bool kind = is_discarded(mem, first);
	uint64_t n = 1;

	if (!discarded_bits(mem))
		return max;
	while (n < max && is_discarded(mem, first + n) == kind)
		n++;
	return n;
}

uint64_t gmem_run(const struct gmem *mem, uint64_t gpa, uint64_t len,
		  bool *ret_discarded)
{
	uint64_t first, skip, n;

	*ret_discarded = false;
	if (!discarded_bits(mem) || len == 0 || !translate(mem, gpa, len))
		return len;
	first = page_number(mem, gpa);
	skip = gpa % PAGE_SIZE_4K;
	n = run_of(mem, first, page_number(mem, gpa + (len - 1)) - first + 1);
	*ret_discarded = is_discarded(mem, first);
	return MIN(n * PAGE_SIZE_4K - skip, len);
}

static int prepare_discarded(struct gmem *mem)
{
	uint64_t *bits;

	if (mem->discarded)
		return 0;
	bits = calloc(bitmap_words(mem), sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	__atomic_store_n(&mem->discarded, bits, __ATOMIC_RELEASE);
	return 0;
}

static void note_discarded(struct gmem *mem, uint64_t first, uint64_t pages)
{
	for (uint64_t page = first; page < first + pages; page++)
		__atomic_fetch_or(&mem->discarded[page / 64], BIT(page % 64),
				  __ATOMIC_RELAXED);
}

/*
 * What a new anonymous mapping in place of these pages of a file adds to the
 * number of mappings, at most. On its own it cuts one in three; beside another
 * it becomes one with it; between two others a piece of the file is gone.
 */
static int pieces_made(const struct gmem *mem, const struct gmem_region *region,
		       uint64_t first, uint64_t pages)
{
	uint64_t begin = region->fd_off / PAGE_SIZE_4K;
	uint64_t end = begin + region->len / PAGE_SIZE_4K;
	bool left = first > begin && is_discarded(mem, first - 1);
	bool right = first + pages < end && is_discarded(mem, first + pages);

	if (left && right)
		return -1;
	return left || right ? 0 : 2;
}

/* Of a private mapping of a file MADV_DONTNEED would bring the file's bytes
 * back: there the mapping is replaced, once and for all. */
static int replace(struct gmem *mem, const struct gmem_region *region,
		   uint64_t first, uint64_t pages)
{
	uint64_t len = pages * PAGE_SIZE_4K;
	uint8_t *at = region->hva + (first * PAGE_SIZE_4K - region->fd_off);
	int made = pieces_made(mem, region, first, pages);

	if (made > 0 && mem->pieces + made > PIECES_MAX)
		return -ENOMEM;
	if (mmap(at, len, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0) == MAP_FAILED)
		return -errno;
	mem->pieces += made;
	if (mem->pages == GMEM_PAGES_TRANSPARENT)
		(void)madvise(at, len, MADV_HUGEPAGE); /* a wish */
	return 0;
}

static int drop(struct gmem *mem, const struct gmem_region *region,
		uint64_t first, uint64_t pages)
{
	uint8_t *at = region->hva + (first * PAGE_SIZE_4K - region->fd_off);
	/* MADV_DONTNEED would leave what a memfd has. */
	int advice = mem->backing == GMEM_MEMFD ? MADV_REMOVE : MADV_DONTNEED;

	if (mem->backing == GMEM_FILE && !is_discarded(mem, first))
		return replace(mem, region, first, pages);
	return madvise(at, pages * PAGE_SIZE_4K, advice) ? -errno : 0;
}

bool gmem_handler_ended(const struct gmem *mem)
{
	struct pollfd fd = {.fd = mem->handler};

	return mem->handler >= 0 && poll(&fd, 1, 0) > 0 &&
	       (fd.revents & (POLLHUP | POLLERR));
}

static int discard_pages(struct gmem *mem, const struct gmem_region *region,
			 uint64_t first, uint64_t pages)
{
	while (pages) {
		uint64_t n = mem->backing == GMEM_FILE
				     ? run_of(mem, first, pages)
				     : pages;
		int ret = drop(mem, region, first, n);

		if (ret)
			return ret;
		note_discarded(mem, first, n);
		first += n;
		pages -= n;
	}
	return 0;
}

int gmem_discard(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	uint64_t unit =
		mem->pages == GMEM_PAGES_2M ? HUGE_PAGE_SIZE : PAGE_SIZE_4K;
	const struct gmem_region *region = mem->regions;
	uint64_t skip = -gpa % unit; /* host and guest agree modulo 2 MiB */
	int ret;

	if (!translate(mem, gpa, len))
		return -EFAULT;
	if (len < skip || len - skip < unit)
		return 0;
	gpa += skip;
	len = ALIGN_DOWN(len - skip, unit);
	while (gpa - region->gpa >= region->len)
		region++;
	/* madvise tells it, and waits until it has read that. */
	if (gmem_handler_ended(mem))
		return -EIO;
	ret = prepare_discarded(mem);
	if (ret)
		return ret;
	/* Marks too many are right, too few are not. */
	gmem_mark_dirty(mem, gpa, len);
	return discard_pages(mem, region, page_number(mem, gpa),
			     len / PAGE_SIZE_4K);
}

bool gmem_add_discarded(const struct gmem *mem, uint64_t *bits)
{
	const size_t words = mem->discarded ? bitmap_words(mem) : 0;

	/* No word is touched that need not be. */
	for (size_t i = 0; i < words; i++)
		if (mem->discarded[i])
			bits[i] |= mem->discarded[i];
	return mem->discarded;
}

void gmem_set_handler(struct gmem *mem, int socket)
{
	mem->handler = socket;
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

bool gmem_tracks_dirty(const struct gmem *mem)
{
	return mem->dirty;
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

static size_t dirty_words(const struct gmem *mem)
{
	return mem->dirty ? bitmap_words(mem) : 0;
}

void gmem_take_dirty(struct gmem *mem, uint64_t *bits)
{
	for (size_t i = 0; i < dirty_words(mem); i++)
		if (__atomic_load_n(&mem->dirty[i], __ATOMIC_RELAXED))
			bits[i] |= __atomic_exchange_n(&mem->dirty[i], 0,
						       __ATOMIC_RELAXED);
}

void gmem_return_dirty(struct gmem *mem, const uint64_t *bits)
{
	for (size_t i = 0; i < dirty_words(mem); i++)
		if (bits[i])
			__atomic_fetch_or(&mem->dirty[i], bits[i],
					  __ATOMIC_RELAXED);
}
