/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the only way from a guest-physical address to bytes.
 *
 * RAM is one or two regions (below and above the MMIO gap), each one host
 * mapping. What backs them (anonymous memory, a shared memfd, later a snapshot
 * file or userfaultfd; 4 KiB, transparent or 2 MiB pages) is chosen at creation
 * and known to nobody else.
 *
 * Every access takes a length and is refused (-EFAULT) unless all of it lies
 * in one region. There are three forms:
 *   copy   gmem_read, gmem_write: for everything that is parsed
 *   loan   gmem_map ... gmem_unmap: for bulk I/O by readv/writev only
 *   hold   gmem_hold: a loan for the life of the microVM, for virtqueue rings
 * The layer that writes marks dirty: gmem_write, gmem_unmap of a loan for
 * writing, and gmem_mark_dirty for holders.
 *
 * Threads: created and destroyed by the loop thread; copies, loans and marks
 * may be made from any thread (the dirty bitmap is atomic).
 */
#ifndef EMBER_GMEM_H
#define EMBER_GMEM_H

#include "vmm/error.h"

#include <stdbool.h>
#include <sys/uio.h>

#define GMEM_REGIONS_MAX 4

enum gmem_backing {
	GMEM_ANONYMOUS,
	GMEM_MEMFD, /* MAP_SHARED: can be handed to another process */
};

enum gmem_pages {
	GMEM_PAGES_4K,
	GMEM_PAGES_TRANSPARENT, /* MADV_HUGEPAGE */
	GMEM_PAGES_2M,		/* hugetlbfs, reserved when mapped */
};

enum gmem_dir {
	GMEM_DEVICE_READS,
	GMEM_DEVICE_WRITES,
};

struct gmem_region {
	uint64_t gpa;
	uint64_t len;
	uint8_t *hva;
	int fd; /* memfd or -1 */
	uint64_t fd_off;
};

struct gmem_range {
	uint64_t gpa;
	uint64_t len;
};

struct gmem;

/* Maps @count ranges (ascending, page-aligned, not touching each other).
 * On -errno @err holds `... (os error N)` and *@ret_mem is untouched. */
int gmem_create(struct gmem **ret_mem, const struct gmem_range *ranges,
		size_t count, enum gmem_backing backing, enum gmem_pages pages,
		struct error *err) must_check;

/* Unmaps everything; accepts NULL. No vCPU may run and no loan be open. */
void gmem_destroy(struct gmem *mem);

size_t gmem_region_count(const struct gmem *mem);
const struct gmem_region *gmem_region(const struct gmem *mem, size_t i);
uint64_t gmem_size(const struct gmem *mem); /* bytes over all regions */

/* True when all of [gpa, gpa+len) is RAM within one region; len 0 is true
 * only for a gpa inside a region. */
bool gmem_contains(const struct gmem *mem, uint64_t gpa, uint64_t len);

int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf,
	      size_t len) must_check;
int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf,
	       size_t len) must_check;
int gmem_zero(struct gmem *mem, uint64_t gpa, size_t len) must_check;

/* Reads exactly @len bytes of @fd at @off straight into the guest.
 * -EFAULT, -errno of pread, or -ENODATA when the file ends before. */
int gmem_read_file(struct gmem *mem, uint64_t gpa, size_t len, int fd,
		   uint64_t off) must_check;

/* Borrows [gpa, gpa+len) as one iovec; return it with gmem_unmap, which marks
 * the pages dirty for GMEM_DEVICE_WRITES. Bytes may change under the reader. */
int gmem_map(struct gmem *mem, uint64_t gpa, size_t len,
	     struct iovec *ret_iov) must_check;
void gmem_unmap(struct gmem *mem, uint64_t gpa, size_t len, enum gmem_dir dir);

/* Pointer that stays valid until gmem_destroy; for virtio/queue.c only. */
int gmem_hold(struct gmem *mem, uint64_t gpa, size_t len,
	      void **ret_ptr) must_check;
void gmem_mark_dirty(struct gmem *mem, uint64_t gpa, size_t len);

/* Host-side dirty tracking, one bit per 4 KiB page of all regions in order. */
int gmem_track_dirty(struct gmem *mem) must_check;
bool gmem_page_dirty(const struct gmem *mem, uint64_t gpa);

#endif
