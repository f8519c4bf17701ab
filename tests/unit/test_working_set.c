/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_set.h"
#include "snapshot/state.h"
#include "snapshot/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

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

static void map(struct fixture *f, enum gmem_backing backing)
{
	const struct gmem_request request = {
		.ranges = ranges,
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
	if (working_set_record(f->mem, f->path, &f->err))
		fail_msg("%s", f->err.text);
	map(f, GMEM_FILE);
	if (load(f))
		fail_msg("%s", f->err.text);
	assert_int_equal(working_set_pages_written(f->set), 3);
	assert_true(working_set_pages_read(f->set) >= 1);
	assert_int_equal(working_set_populate(f->mem, f->set), 0);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	assert_true(has(own, 5));
	assert_true(has(own, LOW_LEN / PAGE_SIZE_4K - 1));
	assert_true(has(own, LOW_LEN / PAGE_SIZE_4K));
	assert_true(has(shared, MIB(2) / PAGE_SIZE_4K));
	assert_false(has(own, 6));
	assert_false(has(shared, MIB(1) / PAGE_SIZE_4K));
}

/* Kernels before 6.7 cannot. */
static void test_watched_record_is_exact(void **state)
{
	struct fixture *f = *state;
	int watch = -1;

	if (working_set_watch(f->mem, &watch))
		skip();
	touch(f, 0x5000, true);
	touch(f, MIB(1), false);
	touch(f, MIB(2), false);
	touch(f, HIGH, false);
	assert_int_equal(working_set_record(f->mem, f->path, &f->err), 0);
	close(watch);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), 1);
	assert_int_equal(working_set_pages_read(f->set), 3);
	map(f, GMEM_ANONYMOUS);
	assert_int_equal(working_set_watch(f->mem, &watch), -EOPNOTSUPP);
}

static void test_other_backings_record_what_exists(void **state)
{
	struct fixture *f = *state;

	map(f, GMEM_ANONYMOUS);
	touch(f, 0x5000, true);
	touch(f, HIGH, true);
	assert_int_equal(working_set_record(f->mem, f->path, &f->err), 0);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), 0);
	assert_int_equal(working_set_pages_read(f->set), 2);
	assert_int_equal(working_set_populate(f->mem, f->set), 0);
}

static void test_record_needs_a_place(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(working_set_record(f->mem, "/no/such/file", &f->err),
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
	assert_int_equal(working_set_record(f->mem, f->path, &f->err), 0);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_pages_written(f->set), PAGES);
	map(f, GMEM_FILE);
	assert_int_equal(pthread_create(&guest, NULL, keep_writing, f->mem), 0);
	assert_int_equal(working_set_populate(f->mem, f->set), 0);
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
		SIZE, 1, 2, {{PAGES - 1, 1}, {9, 8}, {5, 6}}, 3, ""};
	struct fixture *f = *state;
	uint64_t own[PAGES / 64], shared[PAGES / 64];

	write_set(f, &set, 1);
	assert_int_equal(load(f), 0);
	assert_int_equal(working_set_populate(f->mem, f->set), 0);
	assert_int_equal(page_set_scan(f->mem, NULL, own, shared), 0);
	assert_true(has(own, PAGES - 1));
	for (uint64_t page = 5; page < 17; page++)
		assert_true(has(shared, page));
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
