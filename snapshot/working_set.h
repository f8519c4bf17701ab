/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages a guest needs right after a load: recorded from one that ran
 * (snapshot/recorder.h), made present ahead of time in the next ones.
 *
 * Two lists of page ranges: pages that were written, and pages that were only
 * read. Page N is what stands at N * 4096 in the memory file. The file is of
 * the state file's format (snapshot/state.h) with one section:
 *
 *   "WSET" 1:  le64 size of the memory | le32 ranges written | le32 ranges read
 *              | ranges, each: le32 first page | le32 number of pages
 *
 * Each list is in the order in which its pages are best brought in: that of
 * first touch, as exactly as the recorder's looks tell, and by address among
 * those of one look. It is a hint: one that is wrong costs time and memory,
 * never correctness.
 */
#ifndef EMBER_WORKING_SET_H
#define EMBER_WORKING_SET_H

#include "snapshot/populate.h"

struct working_set;

/* What working_set_save writes; @written and @read may be coarsened by it, if
 * there is no end of ranges. */
struct working_set_pages {
	uint64_t *written, *read; /* page sets (snapshot/page_set.h) */
	/* Per page of a set: the look at which it was first seen, from 0 on,
	 * below @look_count. NULL with a count of 1: in no order. */
	const uint8_t *looks;
	unsigned look_count;
};

/* The file takes the place of the old one in one step. -errno with a sentence.
 */
int working_set_save(const struct gmem *mem, struct working_set_pages *pages,
		     const char *path, struct error *err) must_check;

/* Reads @fd (borrowed) from its start. -EINVAL with a sentence if it is not
 * whole, or not of a memory of @memory_size bytes. */
int working_set_load(struct working_set **ret_set, int fd, uint64_t memory_size,
		     struct error *err) must_check;
void working_set_destroy(struct working_set *set); /* accepts NULL */

uint64_t working_set_pages_written(const struct working_set *set);
uint64_t working_set_pages_read(const struct working_set *set);

/* Adds the set's pages up in @ret_counts, one element per 2^@order pages from
 * page 0 on, of which there are @count. */
void working_set_count(const struct working_set *set, unsigned order,
		       uint32_t *ret_counts, size_t count);

/* Leaves out ranges that are in one such piece of 2^@order pages, where that is
 * @there already; the numbers of pages stay what they were in the file. */
void working_set_leave_out(struct working_set *set, unsigned order,
			   const bool *there, size_t count);

/*
 * What was written becomes a private copy right away. What was read is asked of
 * the disk, with GMEM_FILE, or of the page-fault handler.
 * Any thread, also while the guest runs, but the memory has to live until it is
 * back; with GMEM_UFFD that is when the handler has served all of it. 0,
 * -ECANCELED, or -errno of the first range that failed, which ends it; the
 * guest does not mind.
 */
int working_set_populate(struct populate *populate,
			 const struct working_set *set) must_check;

#endif
