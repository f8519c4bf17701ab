/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds out which pages a guest touches after its load, in which order, and
 * writes that down as a working set (snapshot/working_set.h).
 *
 * The guest is never stopped for it. A thread (`ember_recorder`) looks at the
 * page tables a millisecond after it begins, then two later, four, and so on;
 * what a look finds that earlier ones did not was touched in between. That is
 * the order of the file: exact where a guest is busiest, coarse later on.
 *
 * With GMEM_FILE it is known what was written and what was only read; otherwise
 * all pages that exist count as read. Pages that a prefetch brought in count as
 * touched. All of it is read from /proc/self/pagemap, which a jail may lack:
 * there a working set can be used, but not recorded.
 *
 * Life cycle: recorder_create before anything touches the memory ->
 * recorder_start when the vCPUs have their threads, and before the loop thread
 * can start none any more -> recorder_begin when the guest runs ->
 * recorder_write any number of times, or recorder_finish -> recorder_destroy
 * before the memory goes.
 */
#ifndef EMBER_RECORDER_H
#define EMBER_RECORDER_H

#include "vmm/gmem.h"

struct recorder;
struct seccomp_filters;

/*
 * @path: where recorder_finish writes, copied. With GMEM_FILE the kernel is
 * kept from mapping the neighbours of what is read along with it (whole pieces
 * of the page cache), until the recording ends; it takes Linux 6.7, and without
 * the record has many times the pages that were read. The host's huge pages are
 * turned off for this memory. Thread: loop. -errno with a sentence.
 */
int recorder_create(struct recorder **ret_recorder, struct gmem *mem,
		    const char *path, const struct seccomp_filters *filters,
		    struct error *err) must_check;

/* Makes the thread, which waits. Without it there is no order, and no end by
 * itself: a matter for the log. Once. Thread: loop. */
void recorder_start(struct recorder *recorder);

/* Starts the looks, once; more calls do nothing. Thread: loop. */
void recorder_begin(struct recorder *recorder);

/* A last look by the thread, then the file, then the end; what goes wrong is
 * for the log. Never blocks; any thread, any number of times. */
void recorder_finish(struct recorder *recorder);

/* Looks and writes to @path now, or (NULL) to the path of the start. The
 * recording goes on. Any thread. -errno with a sentence. */
int recorder_write(struct recorder *recorder, const char *path,
		   struct error *err) must_check;

/* A recording that is not finished is lost. Accepts NULL. Thread: loop. */
void recorder_destroy(struct recorder *recorder);

/* The same for a guest that nobody watched from the start: what is mapped now,
 * with neighbours, by address; without what was read from a huge page of the
 * page cache before something in it was written. Any thread. */
int recorder_write_once(struct gmem *mem, const char *path,
			struct error *err) must_check;

#endif
