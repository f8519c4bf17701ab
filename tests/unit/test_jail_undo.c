/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A directory of the test's own. */
struct place {
	char path[32];
	int fd;
	struct undo undo;
};

static int set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->path, "/tmp/ember-undo-XXXXXX");
	assert_non_null(mkdtemp(place->path));
	place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = place;
	return place->fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct place *place = *state;
	int ret = rmdir(place->path);

	close(place->fd);
	free(place);
	return ret; /* what a test left is a failure */
}

static bool is_there(const struct place *place, const char *name)
{
	return faccessat(place->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_file(const struct place *place, const char *name)
{
	close(openat(place->fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static void test_undo_run_removes_last_first(void **state)
{
	struct place *place = *state;
	int dir = -1, below = -1, file = -1;

	assert_int_equal(undo_mkdir(&place->undo, place->fd, "a", 0755, &dir),
			 0);
	assert_int_equal(undo_mkdir(&place->undo, dir, "b", 0755, &below), 0);
	assert_int_equal(undo_create(&place->undo, below, "c", 0600, &file), 0);
	assert_int_equal(write(file, "x", 1), 1);
	close(file);
	close(below);
	close(dir);
	assert_true(is_there(place, "a/b/c"));
	undo_run(&place->undo);
	assert_false(is_there(place, "a"));
	assert_int_equal(place->undo.count, 0);
}

static void test_undo_mkdir_existing_stays(void **state)
{
	struct place *place = *state;
	int fd = -1;

	assert_int_equal(mkdirat(place->fd, "a", 0700), 0);
	assert_int_equal(undo_mkdir(&place->undo, place->fd, "a", 0755, &fd),
			 0);
	close(fd);
	undo_run(&place->undo);
	assert_true(is_there(place, "a"));
	assert_int_equal(unlinkat(place->fd, "a", AT_REMOVEDIR), 0);
}

static void test_undo_mkdir_no_link_is_followed(void **state)
{
	struct place *place = *state;
	int fd = -1;

	assert_int_equal(symlinkat("/tmp", place->fd, "link"), 0);
	assert_int_equal(undo_mkdir(&place->undo, place->fd, "link", 0755, &fd),
			 -ENOTDIR);
	assert_int_equal(fd, -1);
	assert_int_equal(place->undo.count, 0);
	assert_int_equal(unlinkat(place->fd, "link", 0), 0);
}

static void test_undo_mkdir_file_is_refused(void **state)
{
	struct place *place = *state;
	int fd = -1;

	make_file(place, "file");
	assert_int_equal(undo_mkdir(&place->undo, place->fd, "file", 0755, &fd),
			 -ENOTDIR);
	assert_int_equal(unlinkat(place->fd, "file", 0), 0);
}

static void test_undo_create_existing_is_refused_and_stays(void **state)
{
	struct place *place = *state;
	int fd = -1;

	make_file(place, "file");
	assert_int_equal(
		undo_create(&place->undo, place->fd, "file", 0600, &fd),
		-EEXIST);
	undo_run(&place->undo);
	assert_true(is_there(place, "file"));
	assert_int_equal(unlinkat(place->fd, "file", 0), 0);
	assert_int_equal(symlinkat("nowhere", place->fd, "link"), 0);
	assert_int_equal(
		undo_create(&place->undo, place->fd, "link", 0600, &fd),
		-EEXIST);
	assert_false(is_there(place, "nowhere"));
	assert_int_equal(unlinkat(place->fd, "link", 0), 0);
}

static void test_undo_run_filled_directory_stays(void **state)
{
	struct place *place = *state;
	int fd = -1;

	assert_int_equal(undo_mkdir(&place->undo, place->fd, "a", 0755, &fd),
			 0);
	close(fd);
	make_file(place, "a/theirs");
	undo_run(&place->undo);
	assert_true(is_there(place, "a/theirs"));
	assert_int_equal(unlinkat(place->fd, "a/theirs", 0), 0);
	assert_int_equal(unlinkat(place->fd, "a", AT_REMOVEDIR), 0);
}

static void test_undo_note_owner_mode_comes_back(void **state)
{
	struct place *place = *state;
	struct stat st;

	assert_int_equal(fchmod(place->fd, 0751), 0);
	assert_int_equal(fstat(place->fd, &st), 0);
	assert_int_equal(undo_note_owner(&place->undo, place->fd, &st), 0);
	assert_int_equal(fchmod(place->fd, 0700), 0);
	undo_run(&place->undo);
	assert_int_equal(fstat(place->fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0751);
}

static void test_undo_run_cgroup_gets_the_process(void **state)
{
	struct place *place = *state;
	char text[32] = {0}, want[32];
	int fd = openat(place->fd, "procs", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	snprintf(want, sizeof(want), "%d", getpid());
	assert_int_equal(undo_note(&place->undo, UNDO_CGROUP, fd, ""), 0);
	undo_run(&place->undo);
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, want);
	close(fd);
	assert_int_equal(unlinkat(place->fd, "procs", 0), 0);
}

static void test_undo_note_too_many_undoes_the_last(void **state)
{
	struct place *place = *state;
	int fd = -1;

	for (size_t i = 0; i < UNDO_MAX; i++)
		assert_int_equal(
			undo_note(&place->undo, UNDO_MOUNT, -1, "none"), 0);
	assert_int_equal(undo_mkdir(&place->undo, place->fd, "a", 0755, &fd),
			 -ENOSPC);
	assert_false(is_there(place, "a"));
	assert_int_equal(undo_create(&place->undo, place->fd, "f", 0600, &fd),
			 -ENOSPC);
	assert_false(is_there(place, "f"));
	assert_int_equal(fd, -1);
	place->undo.count = 0;
}

static void test_undo_note_too_long_a_name_is_refused(void **state)
{
	struct place *place = *state;
	char name[NAME_MAX + 2];

	memset(name, 'x', sizeof(name));
	name[NAME_MAX + 1] = '\0';
	assert_int_equal(undo_note(&place->undo, UNDO_FILE, place->fd, name),
			 -ENAMETOOLONG);
	name[NAME_MAX] = '\0';
	assert_int_equal(undo_note(&place->undo, UNDO_FILE, place->fd, name),
			 0);
	undo_run(&place->undo);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_undo_run_removes_last_first),
		TEST(test_undo_mkdir_existing_stays),
		TEST(test_undo_mkdir_no_link_is_followed),
		TEST(test_undo_mkdir_file_is_refused),
		TEST(test_undo_create_existing_is_refused_and_stays),
		TEST(test_undo_run_filled_directory_stays),
		TEST(test_undo_note_owner_mode_comes_back),
		TEST(test_undo_run_cgroup_gets_the_process),
		TEST(test_undo_note_too_many_undoes_the_last),
		TEST(test_undo_note_too_long_a_name_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
