/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A state file in words, for people and scripts. Any thread.
 */
#ifndef EMBER_DESCRIBE_H
#define EMBER_DESCRIBE_H

#include "snapshot/state.h"

#include <stdio.h>

/* When and by whom a snapshot was taken. */
struct snapshot_meta {
	char *version; /* of the program */
	char *id;      /* of the microVM */
	uint64_t time; /* seconds since 1970 */
	char *parent;  /* state file it was loaded from itself; NULL: none */
};

void snapshot_meta_save(struct state_writer *writer,
			const struct snapshot_meta *meta);

/* Release it in any case. */
int snapshot_meta_load(const struct state_file *file,
		       struct snapshot_meta *meta,
		       struct error *err) must_check;
void snapshot_meta_release(struct snapshot_meta *meta);

/* The first line is the format's version, `v1.1.0`; others have the form
 * `name: value`. */
int snapshot_describe(const char *path, FILE *out,
		      struct error *err) must_check;

#endif
