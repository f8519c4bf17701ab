/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of guest pages: which pages this microVM has a content of its own for,
 * and which it has mapped.
 *
 * A set is an array of 64-bit words, one bit per 4 KiB page, the regions one
 * behind the other: page N is what stands at N * 4096 in a memory file. No
 * page is touched to find out. Any thread; the sets belong to the caller.
 */
#ifndef EMBER_PAGE_SET_H
#define EMBER_PAGE_SET_H

#include "vmm/gmem.h"

/* Pages of @mem, and 64-bit words of a set of them. */
uint64_t page_set_pages(const struct gmem *mem);
size_t page_set_words(const struct gmem *mem);

/* An empty set for free(); NULL: no memory. */
uint64_t *page_set_create(const struct gmem *mem);

/* Adds all pages that exist: RAM, and what is plugged. */
void page_set_add_all(const struct gmem *mem, uint64_t *set);

/*
 * The next run of set bits at or after *@first, below @pages: its first page
 * and length. False: there is none.
 */
bool page_set_next(const uint64_t *set, uint64_t pages, uint64_t *first,
		   uint64_t *ret_count);

/*
 * Fills two sets, of pages that exist:
 *   @own: pages whose content is not to be had elsewhere. GMEM_FILE: those that
 *         are private copies; otherwise those that exist, also in swap.
 *   @shared: the file's pages that are in this process's page tables, GMEM_FILE
 *         only; the kernel maps some neighbours of what the guest touched. May
 *         be NULL.
 * Only the pages in @only matter, if that is not NULL; others may be in the
 * sets or not. Where /proc is not mounted and there is no better way, all pages
 * are @own. 0 or -errno.
 */
int page_set_scan(const struct gmem *mem, const uint64_t *only, uint64_t *own,
		  uint64_t *shared) must_check;

/* Adds the pages that are in memory now: of the guest's own memory, and without
 * swap, all there are. A memfd's, too, of huge pages. 0 or -errno. */
int page_set_scan_present(const struct gmem *mem, uint64_t *set) must_check;

#endif
