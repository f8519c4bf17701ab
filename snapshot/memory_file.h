/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as a file: the raw bytes of the regions in the order of their
 * addresses, without a header (contract 5.1).
 *
 * A full file always takes the place of the old one in one step: until then
 * that one is whole, and clones that map it keep it. What was never touched,
 * or is zero, is a hole. Of a microVM that runs on a memory file only the
 * private pages are written, the others are copied from file to file.
 *
 * A diff goes into the file that is there, if that has exactly the size of the
 * memory: onto the previous full one it merges. Otherwise a sparse file is
 * made that holds the dirty pages and nothing else. Dirty pages are data even
 * if they are zero: what merges diffs takes a hole for `unchanged`.
 *
 * The guest is paused, on the loop thread. No page becomes resident that was
 * not, except with GMEM_UFFD, where a full file needs all pages from the
 * handler.
 */
#ifndef EMBER_MEMORY_FILE_H
#define EMBER_MEMORY_FILE_H

#include "vmm/gmem.h"

enum memory_kind {
	MEMORY_FULL,
	MEMORY_DIFF,
};

struct memory_file_request {
	const char *path;
	enum memory_kind kind;
	bool sync; /* to the disk before it returns */
	/*
	 * MEMORY_DIFF: one bit per 4 KiB page, regions in order. The caller's:
	 * if the file cannot be written they must count for the next diff, see
	 * gmem_return_dirty. NULL: all pages that may differ from what the
	 * microVM was loaded from, or all that exist.
	 */
	const uint64_t *dirty;
};

struct memory_file_stats {
	uint64_t pages_written; /* also those copied from file to file */
	uint64_t bytes_written;
	uint64_t us_scan, us_write, us_sync;
};

/*
 * -errno with a sentence. -EBUSY: a diff is refused onto a file that another
 * microVM maps or that has other names (hard links), because both would change
 * under their users. After a failed diff in place (-ENOSPC) some of the dirty
 * pages are written; writing all of them again completes it.
 */
int memory_file_write(struct gmem *mem,
		      const struct memory_file_request *request,
		      struct memory_file_stats *ret_stats,
		      struct error *err) must_check;

#endif
