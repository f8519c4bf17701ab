/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * The kernel tells about our own page tables in /proc/self/pagemap, a word per
 * page (admin-guide/mm/pagemap.rst): 63 present, 62 in swap, 61 a file's page
 * or shared. A private copy of a file's page is not a file's page any more.
 * Of a memfd the file itself is asked where it has data, because others may
 * have written to it. In a jail there may be no /proc: then mincore tells which
 * anonymous pages exist, as long as there is no swap for them to be in.
 */
#include "snapshot/page_set.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define ENTRY_PRESENT BIT(63)
#define ENTRY_SWAPPED BIT(62)
#define ENTRY_OF_FILE BIT(61)

#define PAGES_PER_READ 8192 /* 64 KiB of pagemap, 32 MiB of the guest */
#define PAGES_PER_LOOK 256  /* where only some pages matter */

uint64_t page_set_pages(const struct gmem *mem)
{
	return gmem_size(mem) / PAGE_SIZE_4K;
}

size_t page_set_words(const struct gmem *mem)
{
	return (size_t)(page_set_pages(mem) + 63) / 64;
}

uint64_t *page_set_create(const struct gmem *mem)
{
	return calloc(page_set_words(mem), sizeof(uint64_t));
}

/* The first page at or after @page whose bit is @wanted; @pages if none. */
static uint64_t find(const uint64_t *set, uint64_t pages, uint64_t page,
		     bool wanted)
{
	const uint64_t flip = wanted ? 0 : UINT64_MAX;

	while (page < pages) {
		uint64_t word = (set[page / 64] ^ flip) >> page % 64;

		if (word)
			return MIN(page + (uint64_t)__builtin_ctzll(word),
				   pages);
		page = ALIGN_DOWN(page, 64) + 64;
	}
	return pages;
}

bool page_set_next(const uint64_t *set, uint64_t pages, uint64_t *first,
		   uint64_t *ret_count)
{
	uint64_t start = find(set, pages, *first, true);

	if (start >= pages)
		return false;
	*first = start;
	*ret_count = find(set, pages, start, false) - start;
	return true;
}

static void add(uint64_t *set, uint64_t page)
{
	set[page / 64] |= BIT(page % 64);
}

static void add_range(uint64_t *set, uint64_t first, uint64_t end)
{
	for (uint64_t page = first; page < end; page++)
		if (page % 64 == 0 && end - page >= 64) {
			set[page / 64] = UINT64_MAX;
			page += 63;
		} else {
			add(set, page);
		}
}

void page_set_add_all(const struct gmem *mem, uint64_t *set)
{
	struct gmem_extent extent = {0};

	while (gmem_next_extent(mem, &extent))
		add_range(set, extent.off / PAGE_SIZE_4K,
			  (extent.off + extent.len) / PAGE_SIZE_4K);
}

static void sort_entries(const uint64_t *entries, size_t count, uint64_t first,
			 uint64_t *own, uint64_t *shared)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t entry = entries[i];

		if (!(entry & (ENTRY_PRESENT | ENTRY_SWAPPED)))
			continue;
		if (!(entry & ENTRY_OF_FILE))
			add(own, first + i);
		else if (shared)
			add(shared, first + i);
	}
}

struct scan {
	int pagemap;
	uint64_t *buffer;
	const uint64_t *only;
	uint64_t *own, *shared;
};

/* The pages from *@page on that are to be looked at next: all, or those around
 * the next that matters. Zero: there are no more below @end. */
static uint64_t next_chunk(const struct scan *scan, uint64_t *page,
			   uint64_t end)
{
	uint64_t chunk = PAGES_PER_READ;

	if (scan->only) {
		*page = find(scan->only, end, *page, true);
		chunk = PAGES_PER_LOOK;
	}
	return MIN(end - *page, chunk);
}

static int scan_extent(const struct scan *scan,
		       const struct gmem_extent *extent)
{
	const uint64_t first = extent->off / PAGE_SIZE_4K;
	const uint64_t end = first + extent->len / PAGE_SIZE_4K;
	const uint64_t entry = (uintptr_t)extent->hva / PAGE_SIZE_4K - first;
	uint64_t page = first, want;

	while ((want = next_chunk(scan, &page, end)) > 0) {
		ssize_t n = pread(scan->pagemap, scan->buffer, want * 8,
				  (off_t)(entry + page) * 8);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 8)
			return n < 0 ? -errno : -EIO;
		sort_entries(scan->buffer, (size_t)n / 8, page, scan->own,
			     scan->shared);
		page += (uint64_t)n / 8;
	}
	return 0;
}

static int scan_pagemap(const struct gmem *mem, struct scan *scan)
{
	struct gmem_extent extent = {0};
	int ret = 0;

	scan->buffer = malloc(PAGES_PER_READ * 8);
	if (!scan->buffer)
		return -ENOMEM;
	while (!ret && gmem_next_extent(mem, &extent))
		ret = scan_extent(scan, &extent);
	free(take_ptr(scan->buffer));
	return ret;
}

static int scan_data(int fd, const struct gmem_extent *extent, uint64_t *own)
{
	const off_t end = (off_t)(extent->off + extent->len);
	off_t off = lseek(fd, (off_t)extent->off, SEEK_DATA);

	while (off >= 0 && off < end) {
		off_t hole = lseek(fd, off, SEEK_HOLE);

		if (hole < 0)
			return -errno;
		/* Who shares it may have made it longer. */
		hole = MIN(hole, end);
		add_range(own, (uint64_t)off / PAGE_SIZE_4K,
			  ALIGN_UP((uint64_t)hole, PAGE_SIZE_4K) /
				  PAGE_SIZE_4K);
		off = lseek(fd, hole, SEEK_DATA);
	}
	return off < 0 && errno != ENXIO ? -errno : 0;
}

/* Not where nothing is plugged, whatever the guest has left there; and a file
 * of huge pages says that all of it is data. */
static int scan_memfd(const struct gmem *mem, uint64_t *own)
{
	struct gmem_extent extent = {0};
	int ret = 0;

	while (!ret && gmem_next_extent(mem, &extent))
		ret = scan_data(gmem_region(mem, 0)->fd, &extent, own);
	return ret;
}

static bool swap_is_possible(void)
{
	struct sysinfo info;

	return sysinfo(&info) || info.totalswap > 0;
}

int page_set_scan_present(const struct gmem *mem, uint64_t *own)
{
	unsigned char resident[PAGES_PER_READ / 8];
	struct gmem_extent extent = {0};

	while (gmem_next_extent(mem, &extent)) {
		uint64_t first = extent.off / PAGE_SIZE_4K;
		uint64_t pages = extent.len / PAGE_SIZE_4K;

		for (uint64_t done = 0; done < pages;) {
			uint64_t n = MIN(pages - done, sizeof(resident));

			if (mincore(extent.hva + done * PAGE_SIZE_4K,
				    n * PAGE_SIZE_4K, resident))
				return -errno;
			for (uint64_t page = 0; page < n; page++)
				if (resident[page] & 1)
					add(own, first + done + page);
			done += n;
		}
	}
	return 0;
}

/* A new set has no memory yet, and gets none for that. */
static void clear(const struct gmem *mem, uint64_t *set)
{
	const size_t words = page_set_words(mem);

	for (size_t i = 0; i < words; i++)
		if (set[i])
			set[i] = 0;
}

int page_set_scan(const struct gmem *mem, const uint64_t *only, uint64_t *own,
		  uint64_t *shared)
{
	struct scan scan = {.only = only, .own = own, .shared = shared};
	AUTO_CLOSE int pagemap = -1;

	clear(mem, own);
	if (shared)
		clear(mem, shared);
	if (gmem_backing(mem) == GMEM_MEMFD)
		return scan_memfd(mem, own);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	scan.pagemap = pagemap;
	if (pagemap >= 0)
		return scan_pagemap(mem, &scan);
	if (gmem_backing(mem) != GMEM_FILE && !swap_is_possible())
		return page_set_scan_present(mem, own);
	page_set_add_all(mem, own);
	return 0;
}
