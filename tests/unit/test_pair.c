/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/in_place.h"
#include "snapshot/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE KIB(64)

struct fixture {
	char dir[32], memory[48], left[64];
	struct error err;
};

static void write_file(const char *path, off_t size, char first)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(pwrite(fd, &first, 1, 0), 1);
	close(fd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/ember-pair-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->memory, sizeof(f->memory), "%s/memory", f->dir);
	snprintf(f->left, sizeof(f->left), "%s/.ember-12345678-0", f->dir);
	write_file(f->memory, SIZE, 'm');
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->memory);
	unlink(f->left);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* A state file with this pair in it, or with none. */
static void make_state(struct state_file *file,
		       const struct snapshot_pair *pair)
{
	struct state_writer writer;

	state_writer_init(&writer);
	if (pair)
		pair_save(&writer, pair);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(state_file_parse(file, writer.bytes, writer.len, NULL),
			 0);
}

static struct snapshot_pair pair_of(const char *name, const char *path)
{
	struct snapshot_pair pair = {.id = {{1, 2, 3}}};

	pair.identity = pair_identity(AT_FDCWD, path);
	assert_true(pair.identity);
	strcpy(pair.name, name);
	return pair;
}

/* What the memory file that is opened begins with; 0: none is. */
static char opened(struct fixture *f, const struct snapshot_pair *pair,
		   const char *path)
{
	struct state_file file;
	char first = 0;
	int fd = -1;

	f->err.text[0] = '\0';
	make_state(&file, pair);
	if (pair_open_memory(&file, path, SIZE, &fd, &f->err) == 0) {
		assert_int_equal(pread(fd, &first, 1, 0), 1);
		close(fd);
	}
	state_file_release(&file);
	return first;
}

/* --------------------------------------------------------------- two names */

static void test_open_before_the_file_has_its_name(void **state)
{
	struct fixture *f = *state;
	struct snapshot_pair pair;
	char missing[64];

	write_file(f->left, SIZE, 'n');
	pair = pair_of(".ember-12345678-0", f->left);
	assert_int_equal(opened(f, &pair, f->memory), 'n');
	assert_int_equal(access(f->left, F_OK), -1); /* it has its name now */
	assert_int_equal(opened(f, NULL, f->memory), 'n');
	assert_int_equal(rename(f->memory, f->left), 0);
	snprintf(missing, sizeof(missing), "%s/new", f->dir);
	assert_int_equal(opened(f, &pair, missing), 'n');
	assert_int_equal(rename(missing, f->memory), 0);
}

/* Otherwise its diffs would go into the memory of the snapshot before. */
static void test_merge_after_the_file_got_its_name_late(void **state)
{
	struct fixture *f = *state;
	struct in_place_request request = {
		.path = f->memory, .what = "memory", .size = SIZE};
	struct snapshot_pair pair;
	struct in_place place;
	struct state_file file;

	write_file(f->left, SIZE, 'n');
	pair = pair_of(".ember-12345678-0", f->left);
	make_state(&file, &pair);
	assert_int_equal(pair_open_memory(&file, f->memory, SIZE, &request.base,
					  &f->err),
			 0);
	assert_int_equal(in_place_open(&place, &request, &f->err), 0);
	assert_int_equal(place.own, request.base);
	in_place_release(&place);
	close(request.base);
	state_file_release(&file);
}

/* Another's snapshot on its way: it may be given up. */
static void test_open_of_a_file_that_is_being_written(void **state)
{
	struct fixture *f = *state;
	struct snapshot_pair pair;
	struct new_file file;
	char path[96];

	assert_int_equal(new_file_open(&file, f->memory, "file", &f->err), 0);
	snprintf(path, sizeof(path), "%s/%s", f->dir, new_file_name(&file));
	pair = pair_of(new_file_name(&file), path);
	assert_int_equal(opened(f, &pair, f->memory), 0);
	assert_non_null(strstr(f->err.text, "is being written to"));
	assert_int_equal(access(path, F_OK), 0);
	new_file_release(&file);
	assert_int_equal(opened(f, &pair, f->memory), 'm');
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

/* Until a new file has another time than those that are there: file systems
 * take it from the coarse clock, or, since Linux 6.13, from the fine one if
 * that was asked for lately. */
static void wait_for_tick(void)
{
	uint64_t start = clock_ns(CLOCK_REALTIME);

	while (clock_ns(CLOCK_REALTIME_COARSE) <= start)
		;
}

static void test_identity_goes_with_the_file_not_with_its_number(void **state)
{
	struct fixture *f = *state;
	uint64_t first = pair_identity(AT_FDCWD, f->memory);
	int fd;

	assert_int_equal(rename(f->memory, f->left), 0);
	fd = open(f->left, O_RDONLY | O_CLOEXEC);
	assert_true(first == pair_identity(fd, ""));
	close(fd);
	assert_true(pair_identity(AT_FDCWD, f->memory) == 0);
	wait_for_tick();
	for (int i = 0; i < 10; i++) { /* some get the old number */
		unlink(f->left);
		write_file(f->left, SIZE, 'n');
		assert_false(first == pair_identity(AT_FDCWD, f->left));
	}
}

static void test_open_after_the_file_has_its_name(void **state)
{
	struct fixture *f = *state;
	struct snapshot_pair pair = pair_of(".ember-12345678-0", f->memory);

	assert_int_equal(opened(f, &pair, f->memory), 'm');
	/* What the old file is called for a moment, or another's new one. */
	write_file(f->left, SIZE, 'o');
	assert_int_equal(opened(f, &pair, f->memory), 'm');
}

static void test_open_of_a_state_without_pair(void **state)
{
	struct fixture *f = *state;
	char missing[64];

	assert_int_equal(opened(f, NULL, f->memory), 'm');
	snprintf(missing, sizeof(missing), "%s/none", f->dir);
	assert_int_equal(opened(f, NULL, missing), 0);
	assert_string_equal(f->err.text,
			    "Failed to load guest memory: No such file or "
			    "directory (os error 2)");
}

static void test_load_of_names_that_are_none_of_ours(void **state)
{
	static const char *const names[] = {
		"memory",
		"/etc/passwd",
		".ember-/../x",
		".ember",
		".ember-0123456789012345678901234",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct snapshot_pair pair = {.identity = 1}, loaded;
		struct state_writer writer;
		struct state_file file;

		state_writer_init(&writer);
		state_begin(&writer, STATE_TAG('P', 'A', 'I', 'R'), 1, 0);
		state_put(&writer, pair.id.bytes, sizeof(pair.id.bytes));
		state_put_u64(&writer, pair.identity);
		state_put_string(&writer, names[i]);
		state_end(&writer);
		assert_int_equal(state_writer_finish(&writer), 0);
		assert_int_equal(
			state_file_parse(&file, writer.bytes, writer.len, NULL),
			0);
		assert_int_equal(pair_load(&file, &loaded, &f->err), -EINVAL);
		assert_int_equal(loaded.name[0], '\0');
		state_file_release(&file);
	}
}

/* ---------------------------------------------------------------- the mark */

static void mark(const struct fixture *f, const struct pair_id *id)
{
	int fd = open(f->memory, O_RDWR | O_CLOEXEC);

	assert_int_equal(pair_put_mark(fd, SIZE, id), 0);
	close(fd);
}

static void test_open_of_a_half_merged_file_is_refused(void **state)
{
	struct fixture *f = *state;
	struct snapshot_pair pair = pair_of("", f->memory);
	const struct pair_id other = {{9}};

	mark(f, &other);
	assert_int_equal(opened(f, &pair, f->memory), 0);
	assert_non_null(strstr(f->err.text, "was merged into the memory file "
					    "and not completed"));
	assert_int_equal(opened(f, NULL, f->memory), 0);
	mark(f, &pair.id); /* all of it was there */
	assert_int_equal(opened(f, &pair, f->memory), 'm');
}

static void test_open_of_a_longer_file_is_none_of_our_business(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(truncate(f->memory, SIZE + 4096), 0);
	assert_int_equal(opened(f, NULL, f->memory), 'm');
	assert_int_equal(truncate(f->memory, 10), 0);
	assert_int_equal(opened(f, NULL, f->memory), 'm');
}

static int open_in_place(struct fixture *f, struct in_place *place,
			 const struct pair_id *known)
{
	const struct in_place_request request = {
		.path = f->memory,
		.what = "memory",
		.size = SIZE,
		.base = -1,
		.known = known,
		.known_count = known ? 1 : 0,
	};

	f->err.text[0] = '\0';
	return in_place_open(place, &request, &f->err);
}

static void test_merge_into_what_somebody_else_left(void **state)
{
	struct fixture *f = *state;
	const struct pair_id id = {{9}};
	struct in_place place;

	mark(f, &id);
	assert_int_equal(open_in_place(f, &place, NULL), -EINVAL);
	assert_non_null(strstr(f->err.text, "Another microVM began to merge"));
	in_place_release(&place);
	assert_int_equal(open_in_place(f, &place, &id), 0);
	assert_int_equal(pair_remove_mark(place.fd, SIZE), 0);
	in_place_release(&place);
	assert_int_equal(open_in_place(f, &place, NULL), 0);
	in_place_release(&place);
}

static void test_merge_into_what_is_no_memory_file(void **state)
{
	struct fixture *f = *state;
	struct in_place place;

	assert_int_equal(truncate(f->memory, SIZE + sizeof(struct pair_mark)),
			 0); /* as long as one with a mark */
	assert_int_equal(open_in_place(f, &place, NULL), -ENOENT);
	in_place_release(&place);
	assert_int_equal(truncate(f->memory, SIZE - 1), 0);
	assert_int_equal(open_in_place(f, &place, NULL), -ENOENT);
	in_place_release(&place);
	assert_int_equal(f->err.text[0], '\0');
}

/* ----------------------------------------------------- what the killed leave
 */

static size_t count_left(const struct fixture *f, const char *name, bool clean)
{
	size_t count = 0;
	char path[96];

	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "%s/%.*s%d", f->dir,
			 (int)strlen(name) - 1, name, i);
		if (access(path, F_OK) == 0)
			count++;
		if (clean)
			unlink(path);
	}
	return count;
}

/* As by a process that is no more: nobody holds the lock. */
static void leave(struct fixture *f, char name[NEW_FILE_NAME_MAX])
{
	struct new_file file;

	assert_int_equal(new_file_open(&file, f->memory, "file", &f->err), 0);
	strcpy(name, new_file_name(&file));
	new_file_keep(&file);
	new_file_release(&file);
}

static void test_new_file_takes_away_what_the_killed_left(void **state)
{
	struct fixture *f = *state;
	struct new_file file, living;
	char name[NEW_FILE_NAME_MAX];

	for (int i = 0; i < 3; i++)
		leave(f, name);
	assert_int_equal(count_left(f, name, false), 3);
	assert_int_equal(new_file_open(&living, f->memory, "file", &f->err), 0);
	assert_int_equal(new_file_open(&file, f->memory, "file", &f->err), 0);
	assert_int_equal(count_left(f, name, false), 5);
	assert_int_equal(new_file_commit(&file, false, &f->err), 0);
	new_file_release(&file);
	assert_int_equal(count_left(f, name, false), 1); /* the living */
	new_file_release(&living);
	assert_int_equal(count_left(f, name, false), 0);
}

static void test_new_file_finds_a_name_after_many_were_killed(void **state)
{
	struct fixture *f = *state;
	struct new_file file;
	char name[NEW_FILE_NAME_MAX];

	for (int i = 0; i < 20; i++)
		leave(f, name);
	assert_true(count_left(f, name, false) <= 8);
	assert_int_equal(new_file_open(&file, f->memory, "file", &f->err), 0);
	assert_int_equal(new_file_commit(&file, false, &f->err), 0);
	new_file_release(&file);
	assert_int_equal(count_left(f, name, true), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open_before_the_file_has_its_name),
		TEST(test_open_after_the_file_has_its_name),
		TEST(test_merge_after_the_file_got_its_name_late),
		TEST(test_open_of_a_file_that_is_being_written),
		TEST(test_identity_goes_with_the_file_not_with_its_number),
		TEST(test_open_of_a_state_without_pair),
		TEST(test_load_of_names_that_are_none_of_ours),
		TEST(test_open_of_a_half_merged_file_is_refused),
		TEST(test_open_of_a_longer_file_is_none_of_our_business),
		TEST(test_merge_into_what_somebody_else_left),
		TEST(test_merge_into_what_is_no_memory_file),
		TEST(test_new_file_takes_away_what_the_killed_left),
		TEST(test_new_file_finds_a_name_after_many_were_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
