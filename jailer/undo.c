/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/undo.h"

#include "jailer/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

int undo_note(struct undo *undo, enum undo_kind kind, int fd, const char *name)
{
	struct undo_entry *entry = &undo->entries[undo->count];

	if (undo->count == UNDO_MAX)
		return -ENOSPC;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	*entry = (struct undo_entry){.kind = kind, .fd = -1};
	if (fd >= 0) {
		entry->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (entry->fd < 0)
			return -errno;
	}
	strcpy(entry->name, name);
	undo->count++;
	return 0;
}

int undo_note_owner(struct undo *undo, int fd, const struct stat *st)
{
	int ret = undo_note(undo, UNDO_OWNER, fd, "");

	if (ret)
		return ret;
	undo->entries[undo->count - 1].uid = st->st_uid;
	undo->entries[undo->count - 1].gid = st->st_gid;
	undo->entries[undo->count - 1].mode = st->st_mode & 07777;
	return 0;
}

int undo_mkdir(struct undo *undo, int dir_fd, const char *name, mode_t mode,
	       int *ret_fd)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir_fd, name, flags);

	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(dir_fd, name, mode) == 0) {
			int ret = undo_note(undo, UNDO_DIRECTORY, dir_fd, name);

			if (ret) {
				unlinkat(dir_fd, name, AT_REMOVEDIR);
				return ret;
			}
		} else if (errno != EEXIST) {
			return -errno;
		}
		fd = openat(dir_fd, name, flags);
	}
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int undo_create(struct undo *undo, int dir_fd, const char *name, mode_t mode,
		int *ret_fd)
{
	AUTO_CLOSE int fd = openat(
		dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	int ret;

	if (fd < 0)
		return -errno;
	ret = undo_note(undo, UNDO_FILE, dir_fd, name);
	if (ret) {
		unlinkat(dir_fd, name, 0);
		return ret;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static void give_back(const struct undo_entry *entry)
{
	if (fchown(entry->fd, entry->uid, entry->gid) == 0)
		fchmod(entry->fd, entry->mode);
}

static void leave_cgroup(const struct undo_entry *entry)
{
	/* By number: it may be another thread that undoes. Refused where the
	 * old cgroup is gone: then the new one stays too. */
	if (dprintf(entry->fd, "%d", getpid()) < 0)
		return;
}

static void undo_one(const struct undo_entry *entry)
{
	switch (entry->kind) {
	case UNDO_OWNER:
		give_back(entry);
		return;
	case UNDO_CGROUP:
		leave_cgroup(entry);
		return;
	case UNDO_MOUNT:
		umount2(entry->name, MNT_DETACH | UMOUNT_NOFOLLOW);
		return;
	case UNDO_TAP:
		tap_remove(entry->name);
		return;
	case UNDO_FILE:
	case UNDO_DIRECTORY:
	default:
		unlinkat(entry->fd, entry->name,
			 entry->kind == UNDO_DIRECTORY ? AT_REMOVEDIR : 0);
	}
}

void undo_run(struct undo *undo)
{
	while (undo->count) {
		struct undo_entry *entry = &undo->entries[--undo->count];

		undo_one(entry);
		close_fd(&entry->fd);
	}
}
