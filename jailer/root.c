/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Opens a directory below @dir_fd, made if it is not there. No symbolic link
 * is followed: others may have written here before. */
static int enter(struct jail *jail, int dir_fd, const char *name, int *ret_fd,
		 struct error *err)
{
	int fd;

	if (mkdirat(dir_fd, name, 0755) == 0) {
		int ret = undo_note(&jail->undo, dir_fd, name, true);

		if (ret)
			return error_set_os(err, -ret, "Cannot note %s:", name);
	} else if (errno != EEXIST) {
		return error_set_os(err, errno,
				    "Failed to create directory %s of %s:",
				    name, jail->root_path);
	}
	fd = openat(dir_fd, name,
		    O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set_os(err, errno,
				    "Failed to open directory %s of %s:", name,
				    jail->root_path);
	*ret_fd = fd;
	return 0;
}

int jail_make_root(struct jail *jail, struct error *err)
{
	const char *names[] = {jail->exec_name, jail->args.id, "root"};
	AUTO_CLOSE int fd = open(jail->args.chroot_base_dir,
				 O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_set_os(err, errno, "Failed to open %s:",
				    jail->args.chroot_base_dir);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int next = -1;
		int ret = enter(jail, fd, names[i], &next, err);

		if (ret)
			return ret;
		close(fd);
		fd = next;
	}
	jail->root_fd = take_fd(&fd);
	return 0;
}

static int copy_bytes(int from, int to)
{
	for (;;) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, MIB(64), 0);

		if (n <= 0)
			return n < 0 ? -errno : 0;
	}
}

/* Opened for writing only if it is a file that nobody else has a name for. */
static int open_copy(struct jail *jail, mode_t mode, int *ret_fd,
		     struct error *err)
{
	const char *name = jail->exec_name;
	AUTO_CLOSE int fd = openat(jail->root_fd, name,
				   O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
				   mode & 0777);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return error_set_os(err, errno,
				    "Failed to open %s/%s:", jail->root_path,
				    name);
	if (st.st_nlink > 1)
		return error_set(err, EMLINK, "Detected hard link at: %s/%s",
				 jail->root_path, name);
	if (ftruncate(fd, 0))
		return error_set_os(err, errno,
				    "Failed to empty %s/%s:", jail->root_path,
				    name);
	*ret_fd = take_fd(&fd);
	return undo_note(&jail->undo, jail->root_fd, name, false);
}

int jail_place_exec_file(struct jail *jail, struct error *err)
{
	AUTO_CLOSE int from = open(jail->exec_path, O_RDONLY | O_CLOEXEC);
	AUTO_CLOSE int to = -1;
	struct stat st;
	int ret;

	if (from < 0 || fstat(from, &st))
		return error_set_os(err, errno,
				    "Failed to open %s:", jail->exec_path);
	ret = open_copy(jail, st.st_mode, &to, err);
	if (ret)
		return ret;
	ret = copy_bytes(from, to);
	if (!ret && (fchmod(to, st.st_mode & 0777) ||
		     fchown(to, (uid_t)jail->args.uid, (gid_t)jail->args.gid)))
		ret = -errno;
	if (ret)
		return error_set_os(err, -ret,
				    "Failed to copy %s to %s:", jail->exec_path,
				    jail->root_path);
	return 0;
}
