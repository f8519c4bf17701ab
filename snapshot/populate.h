/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making guest memory present by the megabyte without getting into anybody's
 * way: in pieces, since a piece holds the process's memory map and everybody
 * who wants to change that waits for its end, and with a look in between at
 * whether it is still wanted.
 *
 * Any thread; the caller's structs.
 */
#ifndef EMBER_POPULATE_H
#define EMBER_POPULATE_H

#include "vmm/gmem.h"

struct populate {
	struct gmem *mem;
	bool (*cancelled)(const void *arg); /* NULL: it never is */
	const void *arg;
	/* So far: */
	uint64_t bytes, calls;
};

/*
 * As gmem_populate: as if the guest had read all of [gpa, gpa+len), or (@write)
 * written to it. -ECANCELED between two pieces.
 */
int populate_range(struct populate *populate, uint64_t gpa, uint64_t len,
		   bool write) must_check;

#endif
