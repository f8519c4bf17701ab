/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stages made or changed outside this process, to set right again when
 * a later one fails. Entries name files below a directory descriptor: those
 * still lead there after pivot_root. Nothing is removed that was there before.
 */
#ifndef EMBER_JAILER_UNDO_H
#define EMBER_JAILER_UNDO_H

#include "vmm/util.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#define UNDO_MAX 128

enum undo_kind {
	UNDO_FILE,	/* remove NAME in FD */
	UNDO_DIRECTORY, /* remove NAME in FD, unless others filled it */
	UNDO_OWNER,	/* give FD its owner and mode back */
	UNDO_CGROUP,	/* move this process back: FD is a file for PIDs */
	UNDO_MOUNT,	/* unmount NAME, a path */
	UNDO_TAP,	/* remove the network interface NAME */
};

struct undo_entry {
	enum undo_kind kind;
	int fd; /* owned by the entry, or -1 */
	char name[NAME_MAX + 1];
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

struct undo {
	struct undo_entry entries[UNDO_MAX];
	size_t count;
};

/* All return -errno, and keep a copy of the descriptor they are given. */
int undo_note(struct undo *undo, enum undo_kind kind, int fd,
	      const char *name) must_check;
int undo_note_owner(struct undo *undo, int fd,
		    const struct stat *st) must_check;

/* Opens the directory @name in @dir_fd, made with @mode if it is not there.
 * Symbolic links are not followed. */
int undo_mkdir(struct undo *undo, int dir_fd, const char *name, mode_t mode,
	       int *ret_fd) must_check;

/* Makes the file @name, which must not be there, and opens it for writing. */
int undo_create(struct undo *undo, int dir_fd, const char *name, mode_t mode,
		int *ret_fd) must_check;

/* Undoes all of it, last first, and forgets it. What cannot be removed (a
 * directory that others filled meanwhile) stays. */
void undo_run(struct undo *undo);

#endif
