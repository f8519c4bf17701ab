/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int undo_note(struct undo *undo, int dir_fd, const char *name, bool directory)
{
	struct undo_entry *entry = &undo->entries[undo->count];

	if (undo->count == UNDO_MAX)
		return -ENOSPC;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	entry->dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	if (entry->dir_fd < 0)
		return -errno;
	strcpy(entry->name, name);
	entry->directory = directory;
	undo->count++;
	return 0;
}

void undo_run(struct undo *undo)
{
	while (undo->count) {
		struct undo_entry *entry = &undo->entries[--undo->count];

		unlinkat(entry->dir_fd, entry->name,
			 entry->directory ? AT_REMOVEDIR : 0);
		close_fd(&entry->dir_fd);
	}
}
