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

enum undo_kind {
	UNDO_FILE,
	UNDO_DIRECTORY,
	UNDO_MOUNT, /* the name is a path */
	UNDO_TAP,   /* the name is an interface's */
};

struct undo_entry {
	int dir_fd; /* owned by the entry; -1: in no directory */
	char name[NAME_MAX + 1];
	enum undo_kind kind;
};

struct undo {
	struct undo_entry entries[UNDO_MAX];
	size_t count;
};

/* Notes that @name was made in @dir_fd, of which a copy is kept. -errno. */
int undo_note(struct undo *undo, int dir_fd, const char *name,
	      bool directory) must_check;

/* Notes that something was mounted on @path, as this process sees it: what it
 * is mounted on cannot be removed before. -errno. */
int undo_note_mount(struct undo *undo, const char *path) must_check;

/* Notes that the tap @name was made in the network namespace that this process
 * is in. -errno. */
int undo_note_tap(struct undo *undo, const char *name) must_check;

/* Removes all of it, last first, and forgets it. What cannot be removed (a
 * directory that others filled meanwhile) stays. */
void undo_run(struct undo *undo);

#endif
