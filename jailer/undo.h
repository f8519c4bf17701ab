/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stages made outside this process, to take away again when a later
 * one fails. Entries name files below a directory descriptor: those still lead
 * there after pivot_root. Nothing is removed that was there before.
 */
#ifndef EMBER_JAILER_UNDO_H
#define EMBER_JAILER_UNDO_H

#include "vmm/util.h"

#include <limits.h>
#include <stdbool.h>

#define UNDO_MAX 128

struct undo_entry {
	int dir_fd; /* owned by the entry */
	char name[NAME_MAX + 1];
	bool directory;
};

struct undo {
	struct undo_entry entries[UNDO_MAX];
	size_t count;
};

/* Notes that @name was made in @dir_fd, of which a copy is kept. -errno. */
int undo_note(struct undo *undo, int dir_fd, const char *name,
	      bool directory) must_check;

/* Removes all of it, last first, and forgets it. What cannot be removed (a
 * directory that others filled meanwhile) stays. */
void undo_run(struct undo *undo);

#endif
