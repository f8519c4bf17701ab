/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/undo.h"

#include "jailer/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

static int note(struct undo *undo, enum undo_kind kind, int dir_fd,
		const char *name)
{
	struct undo_entry *entry = &undo->entries[undo->count];

	if (undo->count == UNDO_MAX)
		return -ENOSPC;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	entry->dir_fd = dir_fd;
	entry->kind = kind;
	strcpy(entry->name, name);
	undo->count++;
	return 0;
}

int undo_note(struct undo *undo, int dir_fd, const char *name, bool directory)
{
	AUTO_CLOSE int copy = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	int ret;

	if (copy < 0)
		return -errno;
	ret = note(undo, directory ? UNDO_DIRECTORY : UNDO_FILE, copy, name);
	if (!ret)
		take_fd(&copy);
	return ret;
}

int undo_note_mount(struct undo *undo, const char *path)
{
	return note(undo, UNDO_MOUNT, -1, path);
}

int undo_note_tap(struct undo *undo, const char *name)
{
	return note(undo, UNDO_TAP, -1, name);
}

static void take_away(const struct undo_entry *entry)
{
	switch (entry->kind) {
	case UNDO_MOUNT:
		umount2(entry->name, MNT_DETACH | UMOUNT_NOFOLLOW);
		break;
	case UNDO_TAP:
		tap_remove(entry->name);
		break;
	case UNDO_FILE:
	case UNDO_DIRECTORY:
	default:
		unlinkat(entry->dir_fd, entry->name,
			 entry->kind == UNDO_DIRECTORY ? AT_REMOVEDIR : 0);
	}
}

void undo_run(struct undo *undo)
{
	while (undo->count) {
		struct undo_entry *entry = &undo->entries[--undo->count];

		take_away(entry);
		close_fd(&entry->dir_fd);
	}
}
