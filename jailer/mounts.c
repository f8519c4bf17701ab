/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount that becomes the jail's root is a copy of the one that its
 * directory is in. The namespace is new, so the directory has to be looked up
 * there once more: what is found must be what root_fd is. The copy is mounted
 * over the root of the namespace and then changes places with it, so that
 * nothing of this is to be seen in the jail's files, and nothing has to be
 * undone on a failure but to end.
 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int failed(const char *step, const char *path, struct error *err)
{
	return error_set_os(err, errno, "Failed to %s %s:", step, path);
}

static int attach(int tree_fd, const char *path)
{
	return move_mount(tree_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

/* A mount, nowhere yet, of the file at @path, which must be the open one. */
static int copy_mount(const char *path, int same_as, unsigned int flags,
		      int *ret_fd, struct error *err)
{
	AUTO_CLOSE int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat found, wanted;
	int tree;

	if (fd < 0 || fstat(fd, &found) || fstat(same_as, &wanted))
		return failed("find", path, err);
	if (found.st_dev != wanted.st_dev || found.st_ino != wanted.st_ino)
		return error_set(err, EINVAL,
				 "%s is no longer what it was when this began",
				 path);
	tree = open_tree(fd, "",
			 AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				 flags);
	if (tree < 0)
		return failed("copy the mount of", path, err);
	*ret_fd = tree;
	return 0;
}

/* With "." for both, the old root ends up on top of the new one. */
static int change_root(struct jail *jail, int tree_fd, struct error *err)
{
	const char *path = jail->root_path;

	if (attach(tree_fd, "/"))
		return failed("mount", path, err);
	if (fchdir(tree_fd))
		return failed("change to", path, err);
	if (syscall(SYS_pivot_root, ".", "."))
		return failed("pivot_root to", path, err);
	if (umount2(".", MNT_DETACH))
		return failed("unmount the old root from", path, err);
	if (chdir("/"))
		return failed("change to", "/", err);
	return 0;
}

/* The host's binary, on the file that was made for it. */
static int attach_binary(struct jail *jail, int tree_fd, struct error *err)
{
	const char *path = jail->exec_name; /* in / */

	if (attach(tree_fd, path))
		return failed("mount", jail->exec_path, err);
	if (undo_note(&jail->undo, UNDO_MOUNT, -1, path))
		return failed("note", path, err);
	if (mount(NULL, path, NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV,
		  NULL))
		return failed("make read-only", path, err);
	return 0;
}

int jail_enter_root(struct jail *jail, struct error *err)
{
	AUTO_CLOSE int root = -1;
	AUTO_CLOSE int binary = -1;
	int ret;

	if (jail->args.daemonize) {
		jail->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (jail->null_fd < 0)
			return failed("open", "/dev/null", err);
	}
	if (unshare(CLONE_NEWNS))
		return failed("unshare", "the mount namespace", err);
	/* What the jail mounts must not reach the host. */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL))
		return failed("make a slave mount of", "/", err);
	ret = copy_mount(jail->root_path, jail->root_fd, AT_RECURSIVE, &root,
			 err);
	if (!ret && jail->binary_fd >= 0)
		ret = copy_mount(jail->exec_path, jail->binary_fd, 0, &binary,
				 err);
	if (!ret)
		ret = change_root(jail, root, err);
	if (!ret && jail->binary_fd >= 0)
		ret = attach_binary(jail, binary, err);
	close_fd(&jail->binary_fd);
	return ret;
}
