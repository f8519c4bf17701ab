/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

/* How often a directory is made anew that somebody removed meanwhile: another
 * jailer that failed, and took its own away. */
#define ATTEMPTS 5

/* A directory, made if it is not there. No link is followed: others may have
 * written here before. */
static int enter(struct jail *jail, int dir_fd, const char *name, mode_t mode,
		 int *ret_fd, struct error *err)
{
	int ret = undo_mkdir(&jail->undo, dir_fd, name, mode, ret_fd);

	if (ret)
		return error_set_os(
			err, -ret, "Failed to create directory %s of %s:", name,
			jail->root_path);
	return 0;
}

/* From the jail's own directory on, only the lock's holder works. Whoever can
 * read that directory could hold the lock for ever: others only pass through.
 */
static int enter_all(struct jail *jail, struct error *err)
{
	AUTO_CLOSE int base =
		open(jail->base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_CLOSE int parent = -1;
	int ret;

	if (base < 0)
		return error_set_os(err, errno,
				    "Failed to open %s:", jail->base_path);
	close_fd(&jail->lock_fd);
	ret = enter(jail, base, jail->exec_name, 0755, &parent, err);
	if (!ret)
		ret = enter(jail, parent, jail->args.id, 0711, &jail->lock_fd,
			    err);
	if (!ret && flock(jail->lock_fd, LOCK_EX | LOCK_NB))
		return error_set_os(
			err, errno,
			"Another jailer is at work in %s:", jail->root_path);
	return ret ? ret
		   : enter(jail, jail->lock_fd, "root", 0755, &jail->root_fd,
			   err);
}

int jail_make_root(struct jail *jail, struct error *err)
{
	int ret = enter_all(jail, err);

	for (int i = 1; ret == -ENOENT && i < ATTEMPTS; i++)
		ret = enter_all(jail, err);
	return ret;
}

/* Within a file system the copy may share its blocks; sendfile works between
 * any two. */
static int copy_bytes(int from, int to)
{
	bool anywhere = false;

	for (;;) {
		ssize_t n = anywhere ? sendfile(to, from, NULL, MIB(64))
				     : copy_file_range(from, NULL, to, NULL,
						       MIB(64), 0);

		if (n > 0)
			continue;
		if (n == 0 || anywhere)
			return n < 0 ? -errno : 0;
		anywhere = true;
	}
}

static int cannot(const char *step, const struct jail *jail, int code,
		  struct error *err)
{
	return error_set_os(err, code, "Failed to %s %s/%s:", step,
			    jail->root_path, jail->exec_name);
}

/* What somebody put there before is written over, if it is a file that nobody
 * else has a name for. Not waiting: it might be a FIFO. */
static int open_existing(struct jail *jail, int *ret_fd, struct error *err)
{
	AUTO_CLOSE int fd =
		openat(jail->root_fd, jail->exec_name,
		       O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return cannot("open", jail, errno, err);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "%s/%s is not a file",
				 jail->root_path, jail->exec_name);
	if (st.st_nlink > 1)
		return error_set(err, EMLINK, "Detected hard link at: %s/%s",
				 jail->root_path, jail->exec_name);
	if (ftruncate(fd, 0))
		return cannot("empty", jail, errno, err);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int copy_exec_file(struct jail *jail, int from, mode_t mode,
			  struct error *err)
{
	AUTO_CLOSE int to = -1;
	int ret = undo_create(&jail->undo, jail->root_fd, jail->exec_name, mode,
			      &to);

	if (ret == -EEXIST)
		ret = open_existing(jail, &to, err);
	else if (ret)
		return cannot("open", jail, -ret, err);
	if (ret)
		return ret;
	ret = copy_bytes(from, to);
	if (!ret && (fchmod(to, mode) ||
		     fchown(to, (uid_t)jail->args.uid, (gid_t)jail->args.gid)))
		ret = -errno;
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to copy %s to %s:", jail->exec_path,
				    jail->root_path);
	return 0;
}

/* The link is the host's file: its owner and mode stay. */
static int link_exec_file(struct jail *jail, int from, mode_t mode,
			  struct error *err)
{
	int ret = 0;

	if (linkat(AT_FDCWD, jail->exec_path, jail->root_fd, jail->exec_name,
		   0))
		ret = -errno;
	/* Another file system, an immutable file, too many links. */
	if (ret == -EXDEV || ret == -EPERM || ret == -EMLINK)
		return copy_exec_file(jail, from, mode, err);
	if (!ret)
		ret = undo_note(&jail->undo, UNDO_FILE, jail->root_fd,
				jail->exec_name);
	return ret ? cannot("link", jail, -ret, err) : 0;
}

/* A mount needs a file to be on; it is made when there is a namespace for it.
 */
static int bind_exec_file(struct jail *jail, int *from, struct error *err)
{
	AUTO_CLOSE int fd = -1;
	int ret = undo_create(&jail->undo, jail->root_fd, jail->exec_name, 0444,
			      &fd);

	if (ret)
		return cannot("create", jail, -ret, err);
	jail->binary_fd = take_fd(from);
	return 0;
}

int jail_place_exec_file(struct jail *jail, struct error *err)
{
	AUTO_CLOSE int from = open(jail->exec_path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (from < 0 || fstat(from, &st))
		return error_set_os(err, errno,
				    "Failed to open %s:", jail->exec_path);
	switch (jail->args.exec_by) {
	case JAIL_EXEC_LINK:
		return link_exec_file(jail, from, st.st_mode & 0777, err);
	case JAIL_EXEC_BIND:
		return bind_exec_file(jail, &from, err);
	case JAIL_EXEC_COPY:
	default:
		return copy_exec_file(jail, from, st.st_mode & 0777, err);
	}
}
