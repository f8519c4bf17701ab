/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory file that a diff is merged into.
 *
 * Nobody else may have it mapped, and it may have no other name: both would
 * change under their users. While pages are being written it carries a mark
 * (pair.h) that makes it of no use to a state file that it does not go with.
 */
#ifndef EMBER_IN_PLACE_H
#define EMBER_IN_PLACE_H

#include "snapshot/pair.h"

struct in_place {
	int fd;
	int own; /* our mapping's descriptor of the same file; -1: not ours */
	uint64_t size;
};

struct in_place_request {
	const char *path, *what;
	uint64_t size;
	int base; /* the file that the microVM runs on, or -1 */
	/* Snapshots that this microVM was loaded from or failed to complete:
	 * their marks are no hindrance. */
	const struct pair_id *known;
	size_t known_count;
};

/* -ENOENT without a sentence: nothing there to merge into. Otherwise -errno
 * with one. in_place_release in any case. */
int in_place_open(struct in_place *place,
		  const struct in_place_request *request,
		  struct error *err) must_check;
void in_place_release(struct in_place *place);

#endif
