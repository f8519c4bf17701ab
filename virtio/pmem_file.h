/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file behind a persistent memory device: opened without being able to
 * hang, and mapped so that the guest can have it as memory.
 *
 * The mapping is shared: what the guest writes is in the host's page cache, for
 * everybody who maps or reads the file, and on the disk after a flush. It is as
 * long as the file, rounded up to 2 MiB, and its address is a multiple of that,
 * so that huge pages of the host's can back huge pages of the guest's. What
 * lies behind the end of the file is memory of nobody's: it begins as zeros,
 * and what is written there is not kept.
 *
 * The bytes are the guest's and are never looked at from here: a file that gets
 * shorter while it is mapped ends a guest that touches what is gone (KVM_RUN
 * fails with EFAULT), not the monitor. Thread: loop.
 */
#ifndef EMBER_PMEM_FILE_H
#define EMBER_PMEM_FILE_H

#include "vmm/error.h"

#include <stdbool.h>

#define PMEM_ALIGN MIB(2)

struct pmem_file {
	int fd; /* -1: closed */
	bool read_only;
	uint64_t size; /* bytes of the file, as it was opened */
	uint64_t len;  /* of the mapping: a multiple of PMEM_ALIGN */
	uint8_t *hva;
};

/* Opens and maps a regular file, with at least one byte; others, block devices
 * too, are refused. *@ret_file is untouched on error. */
int pmem_file_open(struct pmem_file *ret_file, const char *path, bool read_only,
		   struct error *err) must_check;

/* Nobody may use the mapping any more. Accepts what is closed. */
void pmem_file_close(struct pmem_file *file);

/* Makes what the guest wrote so far durable; nothing to do for a read-only
 * file. Waits for the disk. -errno. */
int pmem_file_flush(const struct pmem_file *file) must_check;

#endif
