/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_set.h"
#include "snapshot/prefetch.h"
#include "snapshot/recorder.h"
#include "snapshot/state.h"
#include "snapshot/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <cmocka.h>

#define HIGH GIB(4)
#define LOW_LEN MIB(4)
#define SIZE MIB(6)
#define PAGES (SIZE / PAGE_SIZE_4K)
#define TAG STATE_TAG('W', 'S', 'E', 'T')

static const struct gmem_range ranges[] = {
	{0, LOW_LEN},
	{HIGH, SIZE - LOW_LEN},
};

struct fixture {
	char dir[32], base[48], path[48];
	struct gmem *mem;
	struct working_set *set;
	struct error err;
};

static void map_ranges(struct fixture *f, enum gmem_backing backing,
		       const struct gmem_range two[2])
{
	const struct gmem_request request = {
		.ranges = two,
		.count = 2,
		.backing = backing,
		.fd = open(f->base, O_RDONLY | O_CLOEXEC),
	};

	gmem_destroy(f->mem);
	f->mem = NULL;
	if (backing != GMEM_FILE)
		close(request.fd);
	assert_int_equal(gmem_create(&f->mem, &request, NULL), 0);
}

static void map(struct fixture *f, enum gmem_backing backing)
{
	map_ranges(f, backing, ranges);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char page[PAGE_SIZE_4K];
	int fd;

	assert_non_null(f);
	strcpy(f->dir, "/tmp/ember-set-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	sprintf(f->base, "%s/base", f->dir);
	sprintf(f->path, "%s/set", f->dir);
	fd = open(f->base, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	memset(page, 'x', sizeof(page));
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	close(fd);
	map(f, GMEM_FILE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	working_set_destroy(f->set);
	gmem_destroy(f->mem);
	unlink(f->base);
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static int load(struct fixture *f)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	int ret = working_set_load(&f->set, fd, SIZE, &f->err);

	close(fd);
	return ret;
}

static void touch(struct fixture *f, uint64_t gpa, bool write)
{
	char byte = 'y';

	assert_int_equal(write ? gmem_write(f->mem, gpa, &byte, 1)
			       : gmem_read(f->mem, gpa, &byte, 1),
			 0);
}

static int populate(struct fixture *f)
{
	struct populate all = {.mem = f->mem};

	return working_set_populate(&all, f->set);
}

static bool has(const uint64_t *set, uint64_t page)
{
	return set[page / 64] & BIT(page % 64);
}

static void test_recorded_pages_are_populated(void **state)
{
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	touch(f, 0x5000, true);
	touch(f, HIGH, true);
	touch(f, LOW_LEN - 1, true);
	touch(f, MIB(2), false);
	if (recorder_write_once(f->mem, f->path, &f->err))
		fail_msg("%s", f->err.text);
	map(f, GMEM_FILE);
	if (load(f))
		fail_msg("%s", f->err.text);
	assert_int_equal(working_set_pages_written(f->set), 3);
	assert_true(working_set_pages_read(f->set) >= 1);
	assert_int_equal(populate(f), 0);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	assert_true(has(own, 5));
	assert_true(has(own, LOW_LEN / PAGE_SIZE_4K - 1));
	assert_true(has(own, LOW_LEN / PAGE_SIZE_4K));
	assert_false(has(own, 6));
	/* The page cache has what was read. */
	assert_false(has(shared, MIB(2) / PAGE_SIZE_4K));
	assert_false(has(shared, MIB(1) / PAGE_SIZE_4K));
}

static bool kernel_can_watch(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	assert_int_equal(uname(&name), 0);
	sscanf(name.release, "%d.%d", &major, &minor);
	return major > 6 || (major == 6 && minor >= 7);
}

/* Kernels before 6.7 cannot: then there are neighbours. */
static void test_watched_record_is_exact(void **state)
{
	struct fixture *f = *state;
	struct recorder *recorder;

	assert_int_equal(
		recorder_create(&recorder, f->mem, f->path, NULL, &f->err), 0);
	touch(f, 0x5000, true);
	touch(f, MIB(1), false);
	touch(f, MIB(2), false);
	touch(f, HIGH, false);
	assert_int_equal(recorder_write(recorder, NULL, &f->err), 0);
	recorder_destroy(recorder);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), 1);
	if (working_set_pages_read(f->set) != 3 && !kernel_can_watch())
		skip();
	assert_int_equal(working_set_pages_read(f->set), 3);
}

static void test_other_backings_record_what_exists(void **state)
{
	struct fixture *f = *state;

	map(f, GMEM_ANONYMOUS);
	touch(f, 0x5000, true);
	touch(f, HIGH, true);
	assert_int_equal(recorder_write_once(f->mem, f->path, &f->err), 0);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), 0);
	assert_int_equal(working_set_pages_read(f->set), 2);
	assert_int_equal(populate(f), 0);
}

static void test_record_needs_a_place(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(recorder_write_once(f->mem, "/no/such/file", &f->err),
			 -ENOENT);
	assert_string_equal(f->err.text,
			    "Cannot perform open on the working set file: No "
			    "such file or directory (os error 2)");
}

static void *keep_writing(void *arg)
{
	struct gmem *mem = arg;

	for (uint64_t i = 0; i < PAGES; i++)
		if (gmem_write(mem,
			       i * PAGE_SIZE_4K + (i * PAGE_SIZE_4K < LOW_LEN
							   ? 0
							   : HIGH - LOW_LEN),
			       &i, sizeof(i)))
			abort();
	return NULL;
}

static void test_populate_beside_a_running_guest_changes_nothing(void **state)
{
	struct fixture *f = *state;
	pthread_t guest;

	keep_writing(f->mem);
	assert_int_equal(recorder_write_once(f->mem, f->path, &f->err), 0);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), PAGES);
	map(f, GMEM_FILE);
	assert_int_equal(pthread_create(&guest, NULL, keep_writing, f->mem), 0);
	assert_int_equal(populate(f), 0);
	assert_int_equal(pthread_join(guest, NULL), 0);
	for (uint64_t i = 0; i < LOW_LEN / PAGE_SIZE_4K; i++) {
		uint64_t value;

		assert_int_equal(gmem_read(f->mem, i * PAGE_SIZE_4K, &value, 8),
				 0);
		assert_int_equal(value, i);
	}
}

struct hostile {
	uint64_t size;
	uint32_t written, read; /* as told */
	uint32_t ranges[3][2];
	size_t count; /* as they are */
	const char *text;
};

static void write_set(struct fixture *f, const struct hostile *set,
		      uint16_t version)
{
	struct state_writer writer;
	int fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	state_writer_init(&writer);
	state_begin(&writer, TAG, version, 0);
	state_put_u64(&writer, set->size);
	state_put_u32(&writer, set->written);
	state_put_u32(&writer, set->read);
	for (size_t i = 0; i < set->count; i++) {
		state_put_u32(&writer, set->ranges[i][0]);
		state_put_u32(&writer, set->ranges[i][1]);
	}
	state_end(&writer);
	assert_int_equal(state_writer_finish(&writer), 0);
	assert_int_equal(write(fd, writer.bytes, writer.len), writer.len);
	state_writer_release(&writer);
	close(fd);
}

static void test_hostile_files_are_refused(void **state)
{
	static const struct hostile cases[] = {
		{SIZE - 4096, 0, 0, {{0}}, 0, "a memory of 6287360 bytes"},
		{SIZE, 1, 0, {{0}}, 0, "0 bytes for 1 ranges"},
		{SIZE, 0, 1, {{0, 1}, {1, 1}}, 2, "16 bytes for 1 ranges"},
		{SIZE, UINT32_MAX, UINT32_MAX, {{0}}, 0, "for 8589934590 "},
		{SIZE, 1, 0, {{0, 0}}, 1, "Range 0 of the working set"},
		{SIZE, 1, 0, {{PAGES, 1}}, 1, "Range 0 of the working set"},
		{SIZE, 0, 2, {{0, 1}, {1, PAGES}}, 2, "Range 1 of the"},
		{SIZE, 1, 0, {{1, UINT32_MAX}}, 1, "Range 0 of the working"},
		{SIZE, 2, 0, {{0, PAGES}, {0, 1}}, 2, "Range 1 of the"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_set(f, &cases[i], 1);
		assert_int_equal(load(f), -EINVAL);
		if (!strstr(f->err.text, cases[i].text))
			fail_msg("%s", f->err.text);
		assert_null(f->set);
	}
	write_set(f, &cases[0], 2);
	assert_int_equal(load(f), -EINVAL);
	assert_string_equal(f->err.text, "Section WSET has version 2, this "
					 "program knows 1");
	assert_int_equal(truncate(f->path, 20), 0);
	assert_int_equal(load(f), -EINVAL);
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(load(f), -EBADF);
}

static void test_any_order_and_overlaps_are_taken(void **state)
{
	static const struct hostile set = {
		SIZE, 3, 0, {{PAGES - 1, 1}, {9, 8}, {5, 6}}, 3, ""};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	write_set(f, &set, 1);
	assert_int_equal(load(f), 0);
	assert_int_equal(populate(f), 0);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	assert_true(has(own, PAGES - 1));
	for (uint64_t page = 5; page < 17; page++)
		assert_true(has(own, page));
}

/* The pages of the file's ranges, in its order. */
static size_t pages_in_order(const struct fixture *f, uint32_t *ret_pages,
			     size_t max)
{
	struct state_file file;
	struct state_reader reader;
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	uint32_t left;
	size_t count = 0;

	assert_int_equal(state_file_read(&file, fd, NULL), 0);
	assert_int_equal(state_need(&file, TAG, 0, 1, &reader, NULL), 0);
	state_get_u64(&reader);
	left = state_get_u32(&reader);
	left += state_get_u32(&reader);
	while (left--) {
		uint32_t first = state_get_u32(&reader);
		uint32_t n = state_get_u32(&reader);

		for (uint32_t i = 0; i < n; i++) {
			assert_true(count < max);
			ret_pages[count++] = first + i;
		}
	}
	state_file_release(&file);
	close(fd);
	return count;
}

/* Looks are taken when the file is written; those of the thread may come in
 * between and change nothing. */
static void test_order_is_that_of_first_touch(void **state)
{
	static const uint32_t turns[][2] = {{900, 300}, {7, 8}, {200, 899}};
	struct fixture *f = *state;
	struct recorder *recorder;
	uint32_t pages[PAGES];

	assert_int_equal(
		recorder_create(&recorder, f->mem, f->path, NULL, &f->err), 0);
	recorder_start(recorder);
	recorder_begin(recorder);
	for (size_t i = 0; i < ARRAY_SIZE(turns); i++) {
		touch(f, turns[i][0] * PAGE_SIZE_4K, true);
		touch(f, turns[i][1] * PAGE_SIZE_4K, true);
		assert_int_equal(recorder_write(recorder, NULL, &f->err), 0);
	}
	recorder_destroy(recorder);
	assert_true(pages_in_order(f, pages, PAGES) == 6);
	for (size_t i = 0; i < ARRAY_SIZE(turns); i++)
		assert_true(MAX(pages[2 * i], pages[2 * i + 1]) ==
				    MAX(turns[i][0], turns[i][1]) &&
			    MIN(pages[2 * i], pages[2 * i + 1]) ==
				    MIN(turns[i][0], turns[i][1]));
}

/* It does not wait; the file is there when the recorder is gone. */
static void test_finish_writes_before_the_end(void **state)
{
	struct fixture *f = *state;
	struct recorder *recorder;

	assert_int_equal(
		recorder_create(&recorder, f->mem, f->path, NULL, &f->err), 0);
	recorder_start(recorder);
	recorder_begin(recorder);
	recorder_begin(recorder);
	touch(f, 0x5000, true);
	recorder_finish(recorder);
	recorder_finish(recorder);
	recorder_destroy(recorder);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), 1);
}

static void test_unfinished_recording_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct recorder *recorder;

	assert_int_equal(
		recorder_create(&recorder, f->mem, f->path, NULL, &f->err), 0);
	recorder_start(recorder);
	recorder_begin(recorder);
	touch(f, 0x5000, true);
	recorder_destroy(recorder);
	assert_int_equal(access(f->path, F_OK), -1);
	recorder_destroy(NULL);
}

/* In a child, whose root is a directory without /proc: 0 if it was refused. */
static int record_in_a_jail(struct fixture *f)
{
	if (unshare(CLONE_NEWUSER) || chroot(f->dir) || chdir("/"))
		return 77;
	if (recorder_write_once(f->mem, "/set", &f->err) != -ENOENT)
		return 1;
	return strcmp(f->err.text, "No working set can be recorded without "
				   "/proc/self/pagemap: No such file or "
				   "directory (os error 2)") != 0;
}

static void test_record_without_proc_is_refused(void **state)
{
	struct fixture *f = *state;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(record_in_a_jail(f));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Of the second 2 MiB; a range that begins before them stays. Not from a file,
 * so that what is read is asked for, too. */
static void test_left_out_ranges_are_not_populated(void **state)
{
	static const struct hostile set = {
		SIZE, 1, 2, {{600, 10}, {700, 5}, {500, 20}}, 3, ""};
	static const bool there[] = {false, true};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64];

	map(f, GMEM_ANONYMOUS);
	write_set(f, &set, 1);
	assert_int_equal(load(f), 0);
	working_set_leave_out(f->set, 9, there, ARRAY_SIZE(there));
	assert_int_equal(working_set_pages_written(f->set), 10);
	assert_int_equal(working_set_pages_read(f->set), 25);
	assert_int_equal(populate(f), 0);
	assert_int_equal(page_set_scan(f->mem, NULL, own, NULL), 0);
	assert_true(has(own, 500) && has(own, 519));
	assert_false(has(own, 600) || has(own, 609) || has(own, 700));
}

/* ----------------------------------------------------------------- prefetch */

/* Written 5 and 6, read 100..199: as a file. */
static void write_usual_set(struct fixture *f)
{
	static const struct hostile set = {SIZE, 1, 1, {{5, 2}, {100, 100}},
					   2,	 ""};

	write_set(f, &set, 1);
}

static void test_prefetch_brings_in_what_the_file_says(void **state)
{
	static const enum snapshot_prefetch ways[] = {
		PREFETCH_BEFORE, PREFETCH_BESIDE, PREFETCH_COPY};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	write_usual_set(f);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		struct prefetch *prefetch;

		map(f, GMEM_FILE);
		assert_int_equal(prefetch_create(&prefetch, f->mem, f->path,
						 ways[i], NULL, &f->err),
				 0);
		prefetch_begin(prefetch);
		assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
		assert_true(ways[i] == PREFETCH_BESIDE || /* may not be ready */
			    (has(own, 5) && has(own, 6)));
		/* The page cache has it. */
		assert_false(has(own, 100) || has(shared, 100));
		prefetch_destroy(prefetch);
	}
}

static void prefetch_by_copy(struct fixture *f)
{
	struct prefetch *prefetch;

	assert_int_equal(prefetch_create(&prefetch, f->mem, f->path,
					 PREFETCH_COPY, NULL, &f->err),
			 0);
	prefetch_begin(prefetch);
	prefetch_destroy(prefetch);
}

static void assert_copied(const struct fixture *f, const uint64_t *own,
			  uint64_t first, uint64_t gpa)
{
	for (uint64_t i = 0; i < 512; i++) {
		char byte = 0;

		assert_true(has(own, first + i));
		assert_int_equal(gmem_read(f->mem,
					   gpa + i * PAGE_SIZE_4K + 4095, &byte,
					   1),
				 0);
		assert_int_equal(byte, 'x');
	}
}

/* 102 pages of 512 are too few, 130 are enough. */
static void test_prefetch_copies_where_the_set_is_dense(void **state)
{
	static const struct hostile set = {SIZE, 0, 2, {{0, 100}, {600, 130}},
					   2,	 ""};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	write_set(f, &set, 1);
	prefetch_by_copy(f);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	assert_false(has(own, 0));
	assert_copied(f, own, 512, MIB(2));
	assert_false(has(own, 1024));
}

/* Two are one mapping, the third is next to them only in the file. */
static void test_prefetch_copies_neighbours(void **state)
{
	static const struct hostile set = {SIZE, 0, 2, {{0, 700}, {1024, 200}},
					   2,	 ""};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	write_set(f, &set, 1);
	prefetch_by_copy(f);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	assert_copied(f, own, 0, 0);
	assert_copied(f, own, 512, MIB(2));
	assert_copied(f, own, 1024, HIGH);
}

/* As the most RAM that there may be and what is plugged in behind it. */
static void test_prefetch_copies_neighbours_of_two_regions(void **state)
{
	static const struct gmem_range adjacent[] = {{0, LOW_LEN},
						     {LOW_LEN, MIB(2)}};
	static const struct hostile set = {SIZE, 0, 1, {{0, PAGES}}, 1, ""};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	map_ranges(f, GMEM_FILE, adjacent);
	write_set(f, &set, 1);
	prefetch_by_copy(f);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	for (uint64_t gpa = 0; gpa < SIZE; gpa += MIB(2))
		assert_copied(f, own, gpa / PAGE_SIZE_4K, gpa);
}

static void test_prefetch_of_another_memory_is_refused(void **state)
{
	static const struct hostile set = {SIZE + 4096, 1, 0, {{5, 1}}, 1, ""};
	struct fixture *f = *state;
	struct prefetch *prefetch = NULL;

	write_set(f, &set, 1);
	assert_int_equal(prefetch_create(&prefetch, f->mem, f->path,
					 PREFETCH_BEFORE, NULL, &f->err),
			 -EINVAL);
	assert_string_equal(f->err.text, "The working set is of a memory of "
					 "6295552 bytes, this one has 6291456");
	assert_int_equal(prefetch_create(&prefetch, f->mem, "/no/such/file",
					 PREFETCH_BEFORE, NULL, &f->err),
			 -ENOENT);
	assert_null(prefetch);
	prefetch_destroy(NULL);
}

static bool third_time(const void *arg)
{
	uint64_t calls = ((const struct populate *)arg)->calls;

	return calls == 2;
}

static void test_populate_stops_between_pieces(void **state)
{
	struct fixture *f = *state;
	struct populate some = {.mem = f->mem, .cancelled = third_time};

	some.arg = &some;
	assert_int_equal(populate_range(&some, 0, MIB(4), true), -ECANCELED);
	assert_true(some.calls == 2 && some.bytes > 0 && some.bytes < MIB(4));
	some.cancelled = NULL;
	some.bytes = 0;
	assert_int_equal(populate_range(&some, HIGH, MIB(2), false), 0);
	assert_int_equal(some.bytes, MIB(2));
	assert_int_equal(populate_range(&some, LOW_LEN, 4096, false), -EFAULT);
}

/* What the guest gave back is not brought in for it again. */
static void test_populate_leaves_out_what_was_given_back(void **state)
{
	struct fixture *f = *state;
	struct populate some = {.mem = f->mem};
	uint64_t own[SIZE / PAGE_SIZE_4K / 64 + 1];

	assert_int_equal(gmem_discard(f->mem, PAGE_SIZE_4K, 2 * PAGE_SIZE_4K),
			 0);
	assert_int_equal(populate_range(&some, 0, 4 * PAGE_SIZE_4K, true), 0);
	assert_int_equal(some.bytes, 4 * PAGE_SIZE_4K);
	assert_int_equal(some.calls, 2);
	assert_int_equal(page_set_scan(f->mem, NULL, own, NULL), 0);
	assert_int_equal(own[0] & 0xf, 0x9);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_recorded_pages_are_populated),
		test(test_watched_record_is_exact),
		test(test_other_backings_record_what_exists),
		test(test_record_needs_a_place),
		test(test_populate_beside_a_running_guest_changes_nothing),
		test(test_hostile_files_are_refused),
		test(test_any_order_and_overlaps_are_taken),
		test(test_order_is_that_of_first_touch),
		test(test_finish_writes_before_the_end),
		test(test_unfinished_recording_leaves_nothing),
		test(test_record_without_proc_is_refused),
		test(test_prefetch_brings_in_what_the_file_says),
		test(test_left_out_ranges_are_not_populated),
		test(test_prefetch_copies_where_the_set_is_dense),
		test(test_prefetch_copies_neighbours),
		test(test_prefetch_copies_neighbours_of_two_regions),
		test(test_prefetch_of_another_memory_is_refused),
		test(test_populate_stops_between_pieces),
		test(test_populate_leaves_out_what_was_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
