/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define TRIES 16

/* Length of the directory's part of @path, with its slash. */
static size_t directory_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/* The name has nothing of the other's: that may be as long as names can be. */
static char *temporary_name(const char *path)
{
	char *name;
	uint64_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) !=
	    (ssize_t)sizeof(random))
		random = monotonic_ns();
	if (asprintf(&name, "%.*s.ember-%016" PRIx64, (int)directory_len(path),
		     path, random) < 0)
		return NULL;
	return name;
}

static int create(struct new_file *file)
{
	int ret = -EEXIST;

	for (int i = 0; i < TRIES && ret == -EEXIST; i++) {
		free(take_ptr(file->temporary));
		file->temporary = temporary_name(file->path);
		if (!file->temporary)
			return -ENOMEM;
		file->fd = open(file->temporary,
				O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		ret = file->fd < 0 ? -errno : 0;
	}
	if (ret)
		free(take_ptr(file->temporary)); /* it is not ours */
	return ret;
}

int new_file_error(const char *what, const char *verb, int code,
		   struct error *err)
{
	return error_set_os(err, code, "Cannot perform %s on the %s:", verb,
			    what);
}

/* Renaming onto a device or a pipe would take it away from everybody. */
static int look_at_old(const char *path, const char *what, struct stat *ret_st,
		       struct error *err)
{
	if (stat(path, ret_st)) {
		ret_st->st_mode = 0;
		return errno == ENOENT
			       ? 0
			       : new_file_error(what, "open", errno, err);
	}
	if (S_ISREG(ret_st->st_mode))
		return 0;
	if (S_ISDIR(ret_st->st_mode))
		return new_file_error(what, "open", EISDIR, err);
	return error_set(err, EINVAL,
			 "Cannot perform open on the %s: %s is not a regular "
			 "file",
			 what, path);
}

int new_file_open(struct new_file *file, const char *path, const char *what,
		  struct error *err)
{
	struct stat old;
	int ret;

	*file = (struct new_file){.fd = -1, .what = what};
	ret = look_at_old(path, what, &old, err);
	if (ret)
		return ret;
	file->path = old.st_mode ? realpath(path, NULL) : strdup(path);
	if (!file->path)
		return new_file_error(what, "open", errno, err);
	ret = create(file);
	if (ret)
		return new_file_error(what, "open", -ret, err);
	/* Best effort: the file is whole and safe either way. */
	if (old.st_mode && (fchown(file->fd, old.st_uid, old.st_gid) ||
			    fchmod(file->fd, old.st_mode & 0777)))
		return 0;
	return 0;
}

/* A directory may be one to write to and not to read: then it is not synced. */
static int sync_directory(const char *path)
{
	size_t len = directory_len(path);
	char *directory = len ? strndup(path, len) : strdup(".");
	AUTO_CLOSE int fd = -1;

	if (!directory)
		return -ENOMEM;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(directory);
	return fd >= 0 && fsync(fd) ? -errno : 0;
}

/*
 * rename() would do, but where it replaces a file ext4 and btrfs write the new
 * one out first, which takes as long as the disk does. Who wants that has
 * synced it.
 */
static int take_place(struct new_file *file)
{
	if (!renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
		       RENAME_EXCHANGE))
		unlink(file->temporary); /* the old one now */
	else if (rename(file->temporary, file->path))
		return -errno;
	free(take_ptr(file->temporary));
	return 0;
}

int new_file_commit(struct new_file *file, bool sync, struct error *err)
{
	int ret;

	if (sync && fsync(file->fd))
		return new_file_error(file->what, "sync", errno, err);
	ret = take_place(file);
	if (ret)
		return new_file_error(file->what, "rename", -ret, err);
	if (sync)
		ret = sync_directory(file->path);
	return ret ? new_file_error(file->what, "sync", -ret, err) : 0;
}

void new_file_release(struct new_file *file)
{
	if (file->temporary)
		unlink(file->temporary);
	free(take_ptr(file->temporary));
	free(take_ptr(file->path));
	close_fd(&file->fd);
}
