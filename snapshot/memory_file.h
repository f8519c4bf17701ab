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
 * Life: open, fill, commit, close. Between fill and commit the state file gets
 * its place, see pair.h. The guest is paused, on the loop thread. No page
 * becomes resident that was not, except with GMEM_UFFD, where a full file needs
 * all pages from the handler.
 */
#ifndef EMBER_MEMORY_FILE_H
#define EMBER_MEMORY_FILE_H

#include "snapshot/pair.h"
#include "vmm/gmem.h"

enum memory_kind {
	MEMORY_FULL,
	MEMORY_DIFF,
};

struct memory_file_request {
	const char *path; /* borrowed until memory_file_close */
	enum memory_kind kind;
	bool sync;	   /* to the disk before it is committed */
	struct pair_id id; /* of the snapshot */
	/* Snapshots whose marks do not matter: what the microVM was loaded
	 * from, and what it began and did not complete. */
	struct pair_id known[2];
};

struct memory_file_stats {
	uint64_t pages_written; /* also those copied from file to file */
	uint64_t bytes_written;
	uint64_t us_scan, us_write, us_sync;
};

struct memory_file;

/* -errno with a sentence. -EBUSY: a diff is refused onto a file that another
 * microVM maps or that has other names (hard links), because both would change
 * under their users. */
int memory_file_open(struct memory_file **ret_file, struct gmem *mem,
		     const struct memory_file_request *request,
		     struct error *err) must_check;

/* What the state file has to know of it. */
int memory_file_pair(const struct memory_file *file, struct snapshot_pair *pair,
		     struct error *err) must_check;

/*
 * @dirty, for MEMORY_DIFF: one bit per 4 KiB page, regions in order. They must
 * count for the next diff if this one fails or is not committed, see
 * gmem_return_dirty. NULL: all pages that may differ from what the microVM was
 * loaded from, or all that exist.
 *
 * After a failed diff in place some of the dirty pages may be written, and the
 * mark stays; writing all of them again completes it. Where the disk is full
 * none is written, if the file system can tell beforehand.
 */
int memory_file_fill(struct memory_file *file, const uint64_t *dirty,
		     struct error *err) must_check;

/* Puts a new file in its place, takes the mark off an old one. On failure
 * either is still found by the state file that was written with it. */
int memory_file_commit(struct memory_file *file, struct error *err) must_check;

/* Is it a new file in the directory of @path? Then its commit syncs both. */
bool memory_file_is_beside(const struct memory_file *file, const char *path);

const struct memory_file_stats *
memory_file_stats(const struct memory_file *file);

/* In any case; what was not committed is given up. Accepts NULL. */
void memory_file_close(struct memory_file *file);

#endif
