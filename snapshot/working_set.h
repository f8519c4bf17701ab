/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages a guest needs right after a load: recorded from one that ran,
 * made present ahead of time in the next ones.
 *
 * Two lists of page ranges: pages that were written, and pages that were only
 * read. Page N is what stands at N * 4096 in the memory file. The file is of
 * the state file's format (snapshot/state.h) with one section:
 *
 *   "WSET" 1:  le64 size of the memory | le32 ranges written | le32 ranges read
 *              | ranges, each: le32 first page | le32 number of pages
 *
 * in the order in which they are best loaded. It is a hint: one that is wrong
 * costs time and memory, never correctness.
 */
#ifndef EMBER_WORKING_SET_H
#define EMBER_WORKING_SET_H

#include "vmm/gmem.h"

struct working_set;

/*
 * Lets the kernel map only what is touched, until *@ret_watch is closed (the
 * caller's). Otherwise, with GMEM_FILE, it maps the neighbours of what is read
 * along with it, whole pieces of the page cache, and a record has many times
 * the pages that were read. To be called before the guest runs; needs Linux 6.7
 * and no privilege. -errno: the record will be inexact.
 */
int working_set_watch(struct gmem *mem, int *ret_watch) must_check;

/*
 * Writes down what the guest touched up to now; the file takes the place of the
 * old one in one step. With GMEM_FILE it is known what was written. Otherwise
 * all pages that exist count as read. The guest should be paused. -errno with a
 * sentence.
 */
int working_set_record(struct gmem *mem, const char *path,
		       struct error *err) must_check;

/* Reads @fd (borrowed) from its start. -EINVAL with a sentence if it is not
 * whole, or not of a memory of @memory_size bytes. */
int working_set_load(struct working_set **ret_set, int fd, uint64_t memory_size,
		     struct error *err) must_check;
void working_set_destroy(struct working_set *set); /* accepts NULL */

uint64_t working_set_pages_written(const struct working_set *set);
uint64_t working_set_pages_read(const struct working_set *set);

/*
 * Makes the pages present; what was written becomes a private copy right away.
 * Any thread, also while the guest runs, but @mem has to live until it is back;
 * with GMEM_UFFD that is when the handler has served all of it. 0 or -errno of
 * the first range that failed, which ends it; the guest does not mind.
 */
int working_set_populate(struct gmem *mem,
			 const struct working_set *set) must_check;

#endif
