/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings a working set in: before the guest runs, or beside it on a thread of
 * its own (`ember_prefetch`).
 *
 * Life cycle: prefetch_create as soon as the memory is mapped -> prefetch_begin
 * when everything else is in place -> prefetch_destroy at any time, before the
 * memory goes. Thread: loop.
 */
#ifndef EMBER_PREFETCH_H
#define EMBER_PREFETCH_H

#include "vmm/config.h"
#include "vmm/gmem.h"

struct prefetch;
struct seccomp_filters;

/*
 * Reads the file at @path; nothing may have touched the memory yet. Here
 * PREFETCH_BEFORE does its work, and so does PREFETCH_COPY: where at least a
 * quarter of 2 MiB is in the set and the memory is GMEM_FILE, all of it is
 * copied. That is the fastest for the guest, which finds huge pages, and shares
 * nothing with other microVMs. -errno with a sentence if the file is not one of
 * this memory, or copying failed; that pages cannot be brought in is for the
 * log.
 */
int prefetch_create(struct prefetch **ret_prefetch, struct gmem *mem,
		    const char *path, enum snapshot_prefetch how,
		    const struct seccomp_filters *filters,
		    struct error *err) must_check;

/*
 * Does the work of PREFETCH_BESIDE; of others there is none left. While it goes
 * on, whoever changes the process's memory map (new threads and mappings) may
 * have to wait for milliseconds: the kernel's lock of it prefers readers. Hence
 * not before the vCPUs have their threads.
 */
void prefetch_begin(struct prefetch *prefetch);

/* Leaves off where it is; with GMEM_UFFD see uffd_detach. Accepts NULL. */
void prefetch_destroy(struct prefetch *prefetch);

#endif
