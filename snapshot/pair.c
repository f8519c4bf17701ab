/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/pair.h"

#include "vmm/gmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAG STATE_TAG('P', 'A', 'I', 'R')
#define VERSION 1

static const char mark_text[48] =
	"ember: a diff snapshot is being merged here\n";

void pair_draw_id(struct pair_id *id)
{
	uint64_t now = monotonic_ns();

	if (getrandom(id, sizeof(*id), GRND_NONBLOCK) == (ssize_t)sizeof(*id))
		return;
	*id = (struct pair_id){0};
	memcpy(id->bytes, &now, sizeof(now));
}

bool pair_id_same(const struct pair_id *a, const struct pair_id *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool pair_id_none(const struct pair_id *id)
{
	return pair_id_same(id, &(const struct pair_id){0});
}

/* ------------------------------------------------------- in the state file */

void pair_save(struct state_writer *writer, const struct snapshot_pair *pair)
{
	state_begin(writer, TAG, VERSION, 0);
	state_put(writer, pair->id.bytes, sizeof(pair->id.bytes));
	state_put_u64(writer, pair->identity);
	state_put_string(writer, pair->name);
	state_end(writer);
}

/* One of ours, and below no other directory. */
static bool legal_name(const char *name)
{
	return !*name ||
	       (strlen(name) < NEW_FILE_NAME_MAX &&
		!strncmp(name, NEW_FILE_PREFIX, strlen(NEW_FILE_PREFIX)) &&
		!strchr(name, '/'));
}

int pair_load(const struct state_file *state, struct snapshot_pair *pair,
	      struct error *err)
{
	AUTO_FREE char *name = NULL;
	struct state_reader reader;
	int ret;

	*pair = (struct snapshot_pair){0};
	if (!state_find(state, TAG, 0, &reader))
		return 0;
	ret = state_need(state, TAG, 0, VERSION, &reader, err);
	if (ret)
		return ret;
	state_get(&reader, pair->id.bytes, sizeof(pair->id.bytes));
	pair->identity = state_get_u64(&reader);
	name = state_get_string(&reader);
	ret = state_reader_end(&reader, err);
	if (ret)
		return ret;
	if (!name || !legal_name(name))
		return error_set(err, EINVAL,
				 "The state has a memory file's name that "
				 "cannot be");
	strcpy(pair->name, name);
	return 0;
}

/* ---------------------------------------------------------------- the mark */

int pair_put_mark(int fd, uint64_t size, const struct pair_id *id)
{
	struct pair_mark mark = {.id = *id};
	ssize_t n;

	memcpy(mark.text, mark_text, sizeof(mark.text));
	do
		n = pwrite(fd, &mark, sizeof(mark), (off_t)size);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(mark))
		return 0;
	if (n < 0)
		return -errno;
	return pair_remove_mark(fd, size) ? -EIO : -ENOSPC;
}

int pair_remove_mark(int fd, uint64_t size)
{
	return ftruncate(fd, (off_t)size) ? -errno : 0;
}

int pair_get_mark(int fd, uint64_t size, struct pair_id *ret_id)
{
	struct pair_mark mark;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st))
		return -errno;
	if ((uint64_t)st.st_size < size + sizeof(mark))
		return 0;
	do
		n = pread(fd, &mark, sizeof(mark), (off_t)size);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n != (ssize_t)sizeof(mark) ||
	    memcmp(mark.text, mark_text, sizeof(mark.text)) != 0)
		return 0;
	*ret_id = mark.id;
	return 1;
}

/* ----------------------------------------------------------------- loading */

/* Inode numbers are soon used again, ext4 does so at every second snapshot that
 * takes another's place. */
uint64_t pair_identity(int fd, const char *path)
{
	struct statx stx;

	if (statx(fd, path, AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &stx))
		return 0;
	return stx.stx_ino ^
	       ((uint64_t)stx.stx_btime.tv_sec * UINT64_C(1000000000) +
		stx.stx_btime.tv_nsec);
}

/* Where the new memory file is as long as it has no name; malloc, or NULL. */
static char *unnamed_path(const struct snapshot_pair *pair, const char *place)
{
	char *name;

	if (!pair->name[0] || !place ||
	    asprintf(&name, "%.*s%s", (int)new_file_directory_len(place), place,
		     pair->name) < 0)
		return NULL;
	return name;
}

static int open_unnamed(const struct snapshot_pair *pair, const char *name)
{
	AUTO_CLOSE int fd = -1;

	if (!name)
		return -1;
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	return fd >= 0 && pair_identity(fd, "") == pair->identity ? take_fd(&fd)
								  : -1;
}

/* Who should have done it is dead, or we would not have got the lock; with it,
 * nobody else takes the file for left behind. If it had no name, a diff of this
 * microVM would be merged into the old memory. In a directory that is only to
 * be read it stays as it is. */
static void give_name(const struct snapshot_pair *pair, const char *name,
		      const char *place)
{
	if (pair_identity(AT_FDCWD, name) == pair->identity)
		(void)rename(name, place);
}

static int check_mark(const struct snapshot_pair *pair, int fd, uint64_t size,
		      struct error *err)
{
	struct pair_id id;
	int ret = pair_get_mark(fd, size, &id);

	if (ret <= 0 || pair_id_same(&id, &pair->id))
		return 0; /* what is no file is refused by who maps it */
	return error_set(err, EINVAL,
			 "a diff snapshot was merged into the memory file and "
			 "not completed, it does not go with this state");
}

int pair_open_memory(const struct state_file *state, const char *path,
		     uint64_t size, int *ret_fd, struct error *err)
{
	AUTO_FREE char *place = new_file_place(path);
	AUTO_FREE char *name = NULL;
	AUTO_CLOSE int fd = -1;
	struct snapshot_pair pair;
	bool unnamed;
	int ret = pair_load(state, &pair, err);

	if (ret)
		return ret;
	name = unnamed_path(&pair, place);
	fd = open_unnamed(&pair, name);
	unnamed = fd >= 0;
	if (!unnamed)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return error_set_os(err, errno, "Failed to load guest memory:");
	/* Before the mark is looked for: nobody begins to merge any more. */
	ret = gmem_lock_file(fd, err);
	if (!ret)
		ret = check_mark(&pair, fd, size, err);
	if (ret)
		return ret;
	if (unnamed)
		give_name(&pair, name, place);
	*ret_fd = take_fd(&fd);
	return 0;
}
