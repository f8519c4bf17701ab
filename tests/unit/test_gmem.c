/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gmem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static const struct gmem_range two_ranges[] = {
	{0, MIB(4)},
	{GIB(4), MIB(2)},
};

static struct gmem *make(enum gmem_backing backing)
{
	struct gmem *mem = NULL;

	assert_int_equal(
		gmem_create(&mem, two_ranges, 2, backing, GMEM_PAGES_4K, NULL),
		0);
	return mem;
}

static void test_create_bad_ranges_are_refused(void **state)
{
	static const struct gmem_range cases[][2] = {
		{{0, 0}, {MIB(1), 4096}},
		{{1, 4096}, {MIB(1), 4096}},
		{{0, 4095}, {MIB(1), 4096}},
		{{0, 8192}, {4096, 4096}},
		{{MIB(1), 4096}, {0, 4096}},
		{{0, 4096}, {UINT64_MAX - 4095, 4096}},
		{{0, 4096}, {INT64_MAX - 4095, 8192}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gmem *mem = NULL;
		struct error err = {0};

		assert_int_equal(gmem_create(&mem, cases[i], 2, GMEM_ANONYMOUS,
					     GMEM_PAGES_4K, &err),
				 -EINVAL);
		assert_null(mem);
	}
}

static void test_create_too_large_says_out_of_memory(void **state)
{
	const struct gmem_range range = {0, UINT64_C(1) << 60};
	struct gmem *mem = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(gmem_create(&mem, &range, 1, GMEM_ANONYMOUS,
				     GMEM_PAGES_4K, &err),
			 -ENOMEM);
	assert_string_equal(err.text, "Cannot create mmap region: Out of "
				      "memory (os error 12)");
}

static void test_access_stays_within_one_region(void **state)
{
	static const struct {
		uint64_t gpa, len;
		bool inside;
	} cases[] = {
		{0, 1, true},
		{0, MIB(4), true},
		{0, MIB(4) + 1, false},
		{MIB(4) - 1, 1, true},
		{MIB(4) - 1, 2, false},
		{MIB(4), 1, false},
		{MIB(4), 0, false},
		{GIB(4) - 1, 1, false},
		{GIB(4), MIB(2), true},
		{GIB(4) + MIB(2) - 1, 2, false},
		{GIB(4), UINT64_MAX, false},
		{UINT64_MAX, 1, false},
		{1, UINT64_MAX, false},
	};
	struct gmem *mem = make(GMEM_ANONYMOUS);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(gmem_contains(mem, cases[i].gpa, cases[i].len),
				 cases[i].inside);
	gmem_destroy(mem);
}

static void test_copies_read_what_was_written(void **state)
{
	static const enum gmem_backing backings[] = {GMEM_ANONYMOUS,
						     GMEM_MEMFD};
	char buf[6];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct gmem *mem = make(backings[i]);

		assert_int_equal(gmem_write(mem, GIB(4) + 5, "ember", 6), 0);
		assert_int_equal(gmem_read(mem, GIB(4) + 5, buf, 6), 0);
		assert_string_equal(buf, "ember");
		assert_int_equal(gmem_zero(mem, GIB(4) + 5, 5), 0);
		assert_int_equal(gmem_read(mem, GIB(4) + 5, buf, 6), 0);
		assert_int_equal(buf[0], 0);
		assert_int_equal(gmem_write(mem, MIB(4) - 2, "abc", 3),
				 -EFAULT);
		gmem_destroy(mem);
	}
}

static void test_memfd_regions_lie_one_behind_the_other(void **state)
{
	struct gmem *mem = make(GMEM_MEMFD);
	const struct gmem_region *high = gmem_region(mem, 1);
	char buf[4];

	(void)state;
	assert_true(high->fd >= 0);
	assert_int_equal(high->fd_off, MIB(4));
	assert_int_equal(gmem_write(mem, GIB(4), "high", 4), 0);
	assert_int_equal(pread(high->fd, buf, 4, (off_t)high->fd_off), 4);
	assert_memory_equal(buf, "high", 4);
	assert_int_equal(gmem_size(mem), MIB(6));
	gmem_destroy(mem);
}

static void test_regions_are_aligned_for_huge_pages(void **state)
{
	struct gmem *mem = make(GMEM_ANONYMOUS);

	(void)state;
	for (size_t i = 0; i < gmem_region_count(mem); i++)
		assert_int_equal((uintptr_t)gmem_region(mem, i)->hva % MIB(2),
				 0);
	gmem_destroy(mem);
}

static void test_read_file_needs_all_bytes(void **state)
{
	struct gmem *mem = make(GMEM_ANONYMOUS);
	int fd = memfd_create("file", MFD_CLOEXEC);
	char buf[5];

	(void)state;
	assert_int_equal(write(fd, "0123456789", 10), 10);
	assert_int_equal(gmem_read_file(mem, 0x1000, 5, fd, 3), 0);
	assert_int_equal(gmem_read(mem, 0x1000, buf, 5), 0);
	assert_memory_equal(buf, "34567", 5);
	assert_int_equal(gmem_read_file(mem, 0x1000, 8, fd, 3), -ENODATA);
	assert_int_equal(gmem_read_file(mem, MIB(4) - 1, 2, fd, 0), -EFAULT);
	assert_int_equal(gmem_read_file(mem, 0, 2, fd, UINT64_MAX), -EFAULT);
	close(fd);
	gmem_destroy(mem);
}

static void test_every_way_of_writing_marks_dirty(void **state)
{
	struct gmem *mem = make(GMEM_ANONYMOUS);
	struct iovec iov;

	(void)state;
	assert_int_equal(gmem_track_dirty(mem), 0);
	assert_int_equal(gmem_write(mem, 0xfff, "ab", 2), 0);
	assert_true(gmem_page_dirty(mem, 0));
	assert_true(gmem_page_dirty(mem, 0x1000));
	assert_false(gmem_page_dirty(mem, 0x2000));
	assert_int_equal(gmem_map(mem, 0x3000, 10, &iov), 0);
	gmem_unmap(mem, 0x3000, 10, GMEM_DEVICE_READS);
	assert_false(gmem_page_dirty(mem, 0x3000));
	gmem_unmap(mem, 0x3000, 10, GMEM_DEVICE_WRITES);
	assert_true(gmem_page_dirty(mem, 0x3000));
	gmem_mark_dirty(mem, GIB(4) + 0x1000, 1);
	assert_true(gmem_page_dirty(mem, GIB(4) + 0x1fff));
	gmem_mark_dirty(mem, MIB(4) - 1, 2); /* not all of it is RAM */
	assert_false(gmem_page_dirty(mem, MIB(4) - 1));
	gmem_destroy(mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_bad_ranges_are_refused),
		cmocka_unit_test(test_create_too_large_says_out_of_memory),
		cmocka_unit_test(test_access_stays_within_one_region),
		cmocka_unit_test(test_copies_read_what_was_written),
		cmocka_unit_test(test_memfd_regions_lie_one_behind_the_other),
		cmocka_unit_test(test_regions_are_aligned_for_huge_pages),
		cmocka_unit_test(test_read_file_needs_all_bytes),
		cmocka_unit_test(test_every_way_of_writing_marks_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
