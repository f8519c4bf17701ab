/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 * A microVM holds a shared lock on the memory file it maps (gmem_create). Who
 * writes in place takes an exclusive one. If the file is the very one we map,
 * our own lock has to go for it; the order in lock_exclusive makes sure that
 * there is one on the file at any time.
 */
#include "snapshot/in_place.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* False only if somebody else's lock is in the way. */
static bool lock(int fd, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};

	return !fcntl(fd, F_OFD_SETLK, &lock) ||
	       (errno != EAGAIN && errno != EACCES);
}

static bool lock_exclusive(int fd, int own)
{
	if (own < 0)
		return lock(fd, F_WRLCK);
	if (!lock(fd, F_RDLCK))
		return false;
	lock(own, F_UNLCK);
	if (lock(fd, F_WRLCK))
		return true;
	lock(own, F_RDLCK);
	return false;
}

static bool same_file(int fd, const struct stat *st)
{
	struct stat other;

	return fd >= 0 && !fstat(fd, &other) && other.st_dev == st->st_dev &&
	       other.st_ino == st->st_ino;
}

static int check_mark(const struct in_place *place,
		      const struct in_place_request *request, struct error *err)
{
	struct pair_id id;
	int ret = pair_get_mark(place->fd, place->size, &id);

	for (size_t i = 0; ret > 0 && i < request->known_count; i++)
		if (pair_id_same(&id, &request->known[i]))
			return 0;
	if (ret <= 0)
		return ret ? new_file_error(request->what, "read", -ret, err)
			   : -ENOENT;
	return error_set(err, EINVAL,
			 "Another microVM began to merge a diff into %s and "
			 "did not complete it; write this one elsewhere",
			 request->path);
}

/* A file of another size is none to merge into. */
static int check_size(const struct in_place *place,
		      const struct in_place_request *request,
		      const struct stat *st, struct error *err)
{
	if (!S_ISREG(st->st_mode))
		return -ENOENT;
	if ((uint64_t)st->st_size == place->size)
		return 0;
	if ((uint64_t)st->st_size != place->size + sizeof(struct pair_mark))
		return -ENOENT;
	return check_mark(place, request, err);
}

static int take(struct in_place *place, const struct in_place_request *request,
		const struct stat *st, struct error *err)
{
	int own = same_file(request->base, st) ? request->base : -1;

	if (st->st_nlink > 1)
		return error_set(err, EBUSY,
				 "The diff would change a file with %ju names, "
				 "%s; remove the others or write it elsewhere",
				 (uintmax_t)st->st_nlink, request->path);
	if (!lock_exclusive(place->fd, own))
		return error_set(err, EBUSY,
				 "The diff would change %s, which another "
				 "microVM has mapped; write it elsewhere",
				 request->path);
	place->own = own;
	return 0;
}

int in_place_open(struct in_place *place,
		  const struct in_place_request *request, struct error *err)
{
	struct stat st;
	int ret;

	*place = (struct in_place){.own = -1, .size = request->size};
	place->fd = open(request->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (place->fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (place->fd < 0 || fstat(place->fd, &st))
		return new_file_error(request->what, "open", errno, err);
	ret = check_size(place, request, &st, err);
	return ret ? ret : take(place, request, &st, err);
}

void in_place_release(struct in_place *place)
{
	if (place->fd >= 0 && place->own >= 0) {
		lock(place->fd, F_RDLCK);
		lock(place->own, F_RDLCK);
	}
	close_fd(&place->fd); /* and with it the lock */
	place->own = -1;
}
