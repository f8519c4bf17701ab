/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount that becomes the jail's root is a copy of the one that root_fd is
 * in, taken by descriptor: no path is looked up again that somebody could have
 * exchanged. It is mounted over the root of the new namespace and then changes
 * places with it, so that nothing of this is to be seen in the jail's files,
 * and nothing has to be undone on a failure but to end.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>

static int failed(const char *step, const char *path, struct error *err)
{
	return error_set_os(err, errno, "Failed to %s %s:", step, path);
}

static int attach(int tree_fd, const char *path)
{
	return (int)syscall(SYS_move_mount, tree_fd, "", AT_FDCWD, path,
			    MOVE_MOUNT_F_EMPTY_PATH);
}

/* With "." for both, the old root ends up on top of the new one. */
static int change_root(struct jail *jail, struct error *err)
{
	const char *path = jail->root_path;

	if (attach(jail->tree_fd, "/"))
		return failed("mount", path, err);
	if (fchdir(jail->tree_fd))
		return failed("change to", path, err);
	/* The copy of a shared mount is shared as well, until here. */
	if (mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL))
		return failed("make a slave mount of", path, err);
	if (syscall(SYS_pivot_root, ".", "."))
		return failed("pivot_root to", path, err);
	if (umount2(".", MNT_DETACH))
		return failed("unmount the old root from", path, err);
	if (chdir("/"))
		return failed("change to", "/", err);
	return 0;
}

/* The host's binary, on the file that was made for it. */
static int attach_binary(struct jail *jail, struct error *err)
{
	char path[NAME_MAX + 2];

	if (jail->binary_fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/%s", jail->exec_name);
	if (attach(jail->binary_fd, path))
		return failed("mount", jail->exec_path, err);
	close_fd(&jail->binary_fd);
	if (undo_note(&jail->undo, UNDO_MOUNT, -1, jail->exec_name))
		return failed("note", path, err);
	if (mount(NULL, path, NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV,
		  NULL))
		return failed("make read-only", path, err);
	return 0;
}

int jail_enter_root(struct jail *jail, struct error *err)
{
	int ret;

	if (jail->args.daemonize) {
		jail->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (jail->null_fd < 0)
			return failed("open", "/dev/null", err);
	}
	jail->tree_fd =
		(int)syscall(SYS_open_tree, jail->root_fd, "",
			     AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE |
				     OPEN_TREE_CLOEXEC);
	if (jail->tree_fd < 0)
		return failed("get a mount of", jail->root_path, err);
	if (unshare(CLONE_NEWNS))
		return failed("unshare", "the mount namespace", err);
	/* What the jail mounts must not reach the host. */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL))
		return failed("make a slave mount of", "/", err);
	ret = change_root(jail, err);
	return ret ? ret : attach_binary(jail, err);
}
