/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* So many files for one place are written at once, or left by the killed. */
#define SLOTS 8

size_t new_file_directory_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Not with the other's name in it: that may be as long as names can be. */
static char *temporary_name(const char *path, unsigned slot)
{
	size_t len = new_file_directory_len(path);
	const char *name = path + len;
	char *text;

	if (asprintf(&text, "%.*s" NEW_FILE_PREFIX "%08lx-%u", (int)len, path,
		     crc32(crc32(0, NULL, 0), (const uint8_t *)name,
			   (unsigned)strlen(name)),
		     slot) < 0)
		return NULL;
	return text;
}

/* The mark of somebody who lives. */
static bool lock(int fd, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};

	return !fcntl(fd, F_OFD_SETLK, &lock);
}

/* Between the two steps somebody may have taken it for left behind. On file
 * systems without locks nobody does. */
static int open_locked(const char *name)
{
	AUTO_CLOSE int fd =
		open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (!lock(fd, F_WRLCK) && (errno == EAGAIN || errno == EACCES))
		return -EEXIST;
	if (fstat(fd, &st))
		return -errno;
	return st.st_nlink ? take_fd(&fd) : -EEXIST;
}

static int take_slot(struct new_file *file)
{
	int ret = -EEXIST;

	for (unsigned i = 0; i < SLOTS && ret == -EEXIST; i++) {
		free(take_ptr(file->temporary));
		file->temporary = temporary_name(file->path, i);
		if (!file->temporary)
			return -ENOMEM;
		ret = open_locked(file->temporary);
	}
	if (ret < 0) {
		free(take_ptr(file->temporary)); /* it is not ours */
		return ret;
	}
	file->fd = ret;
	return 0;
}

static bool is_called(int fd, const char *name)
{
	struct stat open, named;

	return !fstat(fd, &open) && !lstat(name, &named) &&
	       open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/* By the time of the lock the name may be another file's, of somebody who
 * lives; from then on it cannot become that. */
static void remove_if_left(const char *name)
{
	AUTO_CLOSE int fd =
		open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0 && lock(fd, F_WRLCK) && is_called(fd, name))
		unlink(name);
}

/* What the killed left of files for this place. */
static void remove_left(const char *path)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		char *name = temporary_name(path, i);

		if (name)
			remove_if_left(name);
		free(name);
	}
}

static int create(struct new_file *file)
{
	int ret = take_slot(file);

	if (ret != -EEXIST)
		return ret;
	remove_left(file->path);
	return take_slot(file);
}

int new_file_error(const char *what, const char *verb, int code,
		   struct error *err)
{
	return error_set_os(err, code, "Cannot perform %s on the %s:", verb,
			    what);
}

/* A single file that is mounted cannot be replaced, which would show at the
 * very end. Kernels before 5.8 do not tell. */
static bool is_mount_point(const char *path)
{
	struct statx stx;

	return !statx(AT_FDCWD, path, 0, STATX_TYPE, &stx) &&
	       S_ISREG(stx.stx_mode) &&
	       stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

/* Renaming onto a device or a pipe would take it away from everybody. */
static int look_at_old(const char *path, const char *what, struct stat *ret_st,
		       struct error *err)
{
	if (stat(path, ret_st)) {
		ret_st->st_mode = 0;
		return errno == ENOENT && *path
			       ? 0
			       : new_file_error(what, "open", errno, err);
	}
	if (is_mount_point(path))
		return new_file_error(what, "open", EBUSY, err);
	if (S_ISREG(ret_st->st_mode))
		return 0;
	if (S_ISDIR(ret_st->st_mode))
		return new_file_error(what, "open", EISDIR, err);
	return error_set(err, EINVAL,
			 "Cannot perform open on the %s: %s is not a regular "
			 "file",
			 what, path);
}

/* The directory's part of @path with its links followed; malloc, or NULL. */
static char *resolve_directory(const char *path)
{
	const size_t len = new_file_directory_len(path);
	char *directory = len ? strndup(path, len) : strdup(".");
	char *place = directory ? realpath(directory, NULL) : NULL;

	free(directory);
	return place;
}

char *new_file_place(const char *path)
{
	const char *name = path + new_file_directory_len(path);
	char *place = realpath(path, NULL);
	char *directory;

	if (place || errno != ENOENT)
		return place;
	directory = resolve_directory(path);
	if (directory && asprintf(&place, "%s/%s", directory, name) < 0)
		place = NULL;
	free(directory);
	return place;
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
	file->path = new_file_place(path);
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
	size_t len = new_file_directory_len(path);
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
 *
 * The old file then has the temporary name for a moment. Nobody must take it
 * for left behind and free the name, which could be a living one's next.
 */
static bool exchange(const struct new_file *file)
{
	AUTO_CLOSE int old = open(file->path, O_RDONLY | O_CLOEXEC |
						      O_NOFOLLOW | O_NONBLOCK);

	if (old < 0 || !lock(old, F_RDLCK) ||
	    renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
		      RENAME_EXCHANGE))
		return false;
	if (is_called(old, file->temporary))
		unlink(file->temporary);
	return true;
}

static int take_place(struct new_file *file)
{
	if (!exchange(file) && rename(file->temporary, file->path))
		return -errno;
	free(take_ptr(file->temporary));
	return 0;
}

const char *new_file_name(const struct new_file *file)
{
	return file->temporary + new_file_directory_len(file->temporary);
}

int new_file_write(struct new_file *file, const void *bytes, size_t len,
		   struct error *err)
{
	const uint8_t *from = bytes;

	while (len) {
		ssize_t n = write(file->fd, from, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return new_file_error(file->what, "write",
					      n < 0 ? errno : EIO, err);
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

int new_file_sync(struct new_file *file, struct error *err)
{
	if (!file->synced && fsync(file->fd))
		return new_file_error(file->what, "sync", errno, err);
	file->synced = true;
	return 0;
}

int new_file_commit(struct new_file *file, bool sync, struct error *err)
{
	int ret = sync ? new_file_sync(file, err) : 0;

	if (ret)
		return ret;
	ret = take_place(file);
	if (ret)
		return new_file_error(file->what, "rename", -ret, err);
	remove_left(file->path);
	if (sync)
		ret = sync_directory(file->path);
	return ret ? new_file_error(file->what, "sync", -ret, err) : 0;
}

bool new_file_placed(const struct new_file *file)
{
	return !file->temporary;
}

void new_file_keep(struct new_file *file)
{
	free(take_ptr(file->temporary));
}

void new_file_release(struct new_file *file)
{
	if (file->temporary)
		unlink(file->temporary);
	free(take_ptr(file->temporary));
	free(take_ptr(file->path));
	close_fd(&file->fd);
}
