/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gmem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

static const struct gmem_range two_ranges[] = {
	{0, MIB(4)},
	{GIB(4), MIB(2)},
};

static struct gmem *make(enum gmem_backing backing)
{
	const struct gmem_request request = {
		.ranges = two_ranges, .count = 2, .backing = backing};
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(&mem, &request, NULL), 0);
	return mem;
}

/* A file of @size bytes with "low" at the start and "high" at 4 MiB, which are
 * the first bytes of the two regions. */
static int make_file(uint64_t size)
{
	char path[] = "/tmp/ember-gmem-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(pwrite(fd, "low", 3, 0), 3);
	assert_int_equal(pwrite(fd, "high", 4, MIB(4)), 4);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* Another open file description of @fd. */
static int reopen(int fd)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int map_file(struct gmem **ret_mem, int fd, enum gmem_pages pages,
		    struct error *err)
{
	const struct gmem_request request = {
		.ranges = two_ranges,
		.count = 2,
		.backing = GMEM_FILE,
		.pages = pages,
		.fd = fd,
	};

	return gmem_create(ret_mem, &request, err);
}

static bool lock(int fd, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
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
		const struct gmem_request request = {.ranges = cases[i],
						     .count = 2};
		struct gmem *mem = NULL;
		struct error err = {0};

		assert_int_equal(gmem_create(&mem, &request, &err), -EINVAL);
		assert_null(mem);
	}
}

static void test_create_too_large_says_out_of_memory(void **state)
{
	const struct gmem_range range = {0, UINT64_C(1) << 60};
	const struct gmem_request request = {.ranges = &range, .count = 1};
	struct gmem *mem = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(gmem_create(&mem, &request, &err), -ENOMEM);
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

/* The place below the one that the kernel would choose is taken. */
static void test_regions_are_aligned_without_room_below(void **state)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint8_t *place = mmap(NULL, MIB(4), PROT_NONE, flags, -1, 0);
	uintptr_t below = ALIGN_DOWN((uintptr_t)place - 1, MIB(2));
	struct gmem *mem = NULL;
	void *other;

	(void)state;
	assert_ptr_not_equal(place, MAP_FAILED);
	munmap(place, MIB(4));
	other = mmap((void *)below, PAGE_SIZE_4K, PROT_NONE,
		     flags | MAP_FIXED_NOREPLACE, -1, 0);
	assert_int_equal(map_file(&mem, make_file(MIB(6)), GMEM_PAGES_4K, NULL),
			 0);
	for (size_t i = 0; i < gmem_region_count(mem); i++) {
		const struct gmem_region *region = gmem_region(mem, i);

		assert_int_equal((uintptr_t)region->hva % MIB(2), 0);
		assert_memory_equal(region->hva, i ? "high" : "low", 3);
	}
	gmem_destroy(mem);
	if (other != MAP_FAILED)
		munmap(other, PAGE_SIZE_4K);
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

static void test_file_is_mapped_privately(void **state)
{
	int fd = make_file(MIB(6));
	struct gmem *one = NULL, *other = NULL;
	char buf[5] = "";

	(void)state;
	assert_int_equal(map_file(&one, reopen(fd), GMEM_PAGES_4K, NULL), 0);
	assert_int_equal(
		map_file(&other, reopen(fd), GMEM_PAGES_TRANSPARENT, NULL), 0);
	assert_int_equal(gmem_backing(one), GMEM_FILE);
	assert_int_equal(gmem_read(one, GIB(4), buf, 4), 0);
	assert_string_equal(buf, "high");
	assert_int_equal(gmem_write(one, GIB(4), "mine", 4), 0);
	assert_int_equal(gmem_read(other, GIB(4), buf, 4), 0);
	assert_string_equal(buf, "high");
	assert_int_equal(pread(fd, buf, 4, MIB(4)), 4);
	assert_string_equal(buf, "high");
	gmem_destroy(one);
	gmem_destroy(other);
	close(fd);
}

static void test_file_too_short_is_refused(void **state)
{
	struct gmem *mem = NULL;
	struct error err = {0};
	int fds[2];

	(void)state;
	assert_int_equal(
		map_file(&mem, make_file(MIB(6) - 1), GMEM_PAGES_4K, &err),
		-EINVAL);
	assert_string_equal(err.text, "memory file is 6291455 bytes, the "
				      "snapshot needs 6291456");
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(map_file(&mem, fds[0], GMEM_PAGES_4K, &err), -EINVAL);
	assert_string_equal(err.text, "The memory file is not a regular file");
	assert_int_equal(fcntl(fds[0], F_GETFD), -1); /* taken over */
	close(fds[1]);
	assert_int_equal(map_file(&mem, -1, GMEM_PAGES_4K, &err), -EBADF);
	assert_null(mem);
}

static void test_file_is_locked_while_it_is_mapped(void **state)
{
	int fd = make_file(MIB(6));
	struct gmem *mem = NULL;
	struct error err = {0};

	(void)state;
	assert_true(lock(fd, F_WRLCK));
	assert_int_equal(map_file(&mem, reopen(fd), GMEM_PAGES_4K, &err),
			 -EBUSY);
	assert_true(lock(fd, F_UNLCK));
	assert_int_equal(map_file(&mem, reopen(fd), GMEM_PAGES_4K, &err), 0);
	assert_false(lock(fd, F_WRLCK));
	assert_true(lock(fd, F_RDLCK));
	gmem_destroy(mem);
	assert_true(lock(fd, F_WRLCK));
	close(fd);
}

/* Needs three 2 MiB pages, which most machines do not have. */
static void test_file_is_copied_into_huge_pages(void **state)
{
	int fd = make_file(MIB(6));
	struct gmem *mem = NULL;
	struct error err = {0};
	char buf[5] = "";
	int ret = map_file(&mem, reopen(fd), GMEM_PAGES_2M, &err);

	(void)state;
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		close(fd);
		skip();
	}
	assert_int_equal(gmem_backing(mem), GMEM_ANONYMOUS);
	assert_true(lock(fd, F_WRLCK));
	assert_int_equal(gmem_read(mem, GIB(4), buf, 4), 0);
	assert_string_equal(buf, "high");
	gmem_destroy(mem);
	close(fd);
}

static void test_pool_that_is_too_small_is_named(void **state)
{
	static const enum gmem_backing backings[] = {GMEM_ANONYMOUS, GMEM_MEMFD,
						     GMEM_UFFD};
	const struct gmem_range range = {0, GIB(1024)};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		const struct gmem_request request = {
			.ranges = &range,
			.count = 1,
			.backing = backings[i],
			.pages = GMEM_PAGES_2M,
			.fd = -1,
		};
		struct gmem *mem = NULL;
		struct error err = {0};

		assert_int_equal(gmem_create(&mem, &request, &err), -ENOMEM);
		assert_null(mem);
		assert_non_null(strstr(
			err.text,
			"Cannot create mmap region: Out of memory (os error "
			"12). The guest needs 524288 pages of 2 MiB, and the "
			"host's pool (/proc/sys/vm/nr_hugepages) has "));
	}
}

static void test_copied_parts_of_a_file_are_apart_from_it(void **state)
{
	int fd = make_file(MIB(6));
	struct gmem *mem = NULL;
	char buf[5] = "";

	(void)state;
	assert_int_equal(map_file(&mem, reopen(fd), GMEM_PAGES_4K, NULL), 0);
	assert_int_equal(gmem_copy_begin(mem, GIB(4), MIB(2)), 0);
	assert_int_equal(gmem_read(mem, GIB(4), buf, 4), 0);
	assert_string_equal(buf, "");
	assert_int_equal(gmem_copy_file(mem, GIB(4), MIB(2)), 0);
	assert_int_equal(pwrite(fd, "HIGH", 4, MIB(4)), 4);
	assert_int_equal(pwrite(fd, "LOW", 3, 0), 3);
	assert_int_equal(gmem_read(mem, GIB(4), buf, 4), 0);
	assert_string_equal(buf, "high");
	assert_int_equal(gmem_read(mem, 0, buf, 4), 0);
	assert_string_equal(buf, "LOW");
	assert_int_equal(gmem_copy_begin(mem, 4096, MIB(2)), -EFAULT);
	assert_int_equal(gmem_copy_begin(mem, MIB(4), MIB(2)), -EFAULT);
	assert_int_equal(gmem_copy_file(mem, 4096, MIB(2)), -EFAULT);
	assert_int_equal(gmem_copy_file(mem, MIB(4), MIB(2)), -EFAULT);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(gmem_copy_begin(mem, 0, MIB(2)), 0);
	assert_int_equal(gmem_copy_file(mem, 0, MIB(2)), -ENODATA);
	gmem_destroy(mem);
	close(fd);
}

static bool resident(const uint8_t *hva)
{
	unsigned char vec;
	uintptr_t page = ALIGN_DOWN((uintptr_t)hva, PAGE_SIZE_4K);

	assert_int_equal(mincore((void *)page, 1, &vec), 0);
	return vec & 1;
}

static void test_populate_makes_pages_present(void **state)
{
	struct gmem *mem = make(GMEM_ANONYMOUS);
	const struct gmem_region *high = gmem_region(mem, 1);

	(void)state;
	assert_int_equal(gmem_track_dirty(mem), 0);
	assert_int_equal(gmem_populate(mem, GIB(4) + 0x1fff, 2, true), 0);
	assert_true(resident(high->hva + 0x1000));
	assert_true(resident(high->hva + 0x2000));
	assert_false(resident(high->hva + 0x3000));
	assert_false(gmem_page_dirty(mem, GIB(4) + 0x1000));
	assert_int_equal(gmem_populate(mem, GIB(4) + 0x3000, 1, false), 0);
	assert_true(resident(high->hva + 0x3000));
	assert_int_equal(gmem_populate(mem, MIB(4) - 1, 2, true), -EFAULT);
	/* There is no file to copy. */
	assert_int_equal(gmem_copy_begin(mem, 0, MIB(2)), -EFAULT);
	assert_int_equal(gmem_copy_file(mem, 0, MIB(2)), -EFAULT);
	gmem_destroy(mem);
}

/* ------------------------------------------------------ back to the host */

static const enum gmem_backing all_backings[] = {GMEM_ANONYMOUS, GMEM_MEMFD,
						 GMEM_FILE, GMEM_UFFD};

static struct gmem *make_any(enum gmem_backing backing, enum gmem_pages pages)
{
	const struct gmem_request request = {
		.ranges = two_ranges,
		.count = 2,
		.backing = backing,
		.pages = pages,
		.fd = backing == GMEM_FILE ? make_file(MIB(6)) : -1,
	};
	struct gmem *mem = NULL;
	struct error err = {0};

	if (gmem_create(&mem, &request, &err))
		print_message("%s\n", err.text);
	return mem;
}

static void fill(struct gmem *mem, uint64_t gpa, uint64_t len)
{
	char page[4096];

	memset(page, 'x', sizeof(page));
	for (uint64_t at = gpa; at < gpa + len; at += sizeof(page))
		assert_int_equal(gmem_write(mem, at, page, sizeof(page)), 0);
}

static char byte_at(const struct gmem *mem, uint64_t gpa)
{
	char byte = '?';

	assert_int_equal(gmem_read(mem, gpa, &byte, 1), 0);
	return byte;
}

static void test_discarded_pages_are_zeros(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all_backings); i++) {
		struct gmem *mem = make_any(all_backings[i], GMEM_PAGES_4K);
		void *held;

		assert_non_null(mem);
		fill(mem, 0, MIB(1));
		fill(mem, GIB(4), 0x2000);
		assert_int_equal(gmem_hold(mem, 0x5000, 8, &held), 0);
		assert_int_equal(gmem_track_dirty(mem), 0);
		/* Halves of pages are left alone. */
		assert_int_equal(gmem_discard(mem, 0x4800, 0x2fff), 0);
		assert_false(resident(gmem_region(mem, 0)->hva + 0x5000));
		assert_true(gmem_page_dirty(mem, 0x5000));
		assert_true(gmem_page_dirty(mem, 0x6000));
		assert_false(gmem_page_dirty(mem, 0x7000));
		assert_int_equal(byte_at(mem, 0x4fff), 'x');
		assert_int_equal(byte_at(mem, 0x5000), 0);
		assert_int_equal(byte_at(mem, 0x6fff), 0);
		assert_int_equal(byte_at(mem, 0x7000), 'x');
		/* Who held it sees the same. */
		assert_int_equal(*(char *)held, 0);
		assert_int_equal(gmem_write(mem, 0x5000, "new", 3), 0);
		assert_memory_equal(held, "new", 3);
		/* Again, with what was written since; and the other region. */
		assert_int_equal(gmem_discard(mem, 0, MIB(4)), 0);
		assert_int_equal(gmem_discard(mem, GIB(4), 0x1000), 0);
		assert_int_equal(byte_at(mem, 0), 0);
		assert_int_equal(byte_at(mem, 0x5000), 0);
		assert_int_equal(byte_at(mem, MIB(1) - 1), 0);
		assert_int_equal(byte_at(mem, GIB(4)), 0);
		assert_int_equal(byte_at(mem, GIB(4) + 0x1000), 'x');
		gmem_destroy(mem);
	}
}

static void test_discard_of_no_ram_is_refused(void **state)
{
	static const struct gmem_range cases[] = {
		{MIB(4), 4096},
		{MIB(4) - 4096, 8192},
		{UINT64_MAX - 4095, 4096},
		{GIB(4), UINT64_MAX},
		{GIB(4) - 4096, 8192},
	};
	struct gmem *mem = make(GMEM_ANONYMOUS);
	uint64_t bits[MIB(6) / 4096 / 64] = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(gmem_discard(mem, cases[i].gpa, cases[i].len),
				 -EFAULT);
	assert_int_equal(gmem_discard(mem, 0, 0), 0);
	assert_int_equal(gmem_discard(mem, 1, 4096), 0);
	assert_false(gmem_add_discarded(mem, bits));
	gmem_destroy(mem);
}

static void test_discard_of_huge_pages_takes_whole_ones(void **state)
{
	struct gmem *mem = make_any(GMEM_ANONYMOUS, GMEM_PAGES_2M);

	(void)state;
	if (!mem)
		skip(); /* there is no pool */
	fill(mem, 0, MIB(4));
	assert_int_equal(gmem_discard(mem, 4096, MIB(2)), 0);
	assert_int_equal(byte_at(mem, MIB(1)), 'x');
	assert_int_equal(gmem_discard(mem, 4096, MIB(4) - 4096), 0);
	assert_int_equal(byte_at(mem, MIB(2) - 1), 'x');
	assert_int_equal(byte_at(mem, MIB(2)), 0);
	gmem_destroy(mem);
}

static void test_discarded_file_in_transparent_pages(void **state)
{
	struct gmem *mem = make_any(GMEM_FILE, GMEM_PAGES_TRANSPARENT);

	(void)state;
	assert_non_null(mem);
	assert_int_equal(gmem_discard(mem, 0, MIB(2)), 0);
	assert_int_equal(byte_at(mem, 0), 0);
	assert_int_equal(byte_at(mem, GIB(4)), 'h');
	gmem_destroy(mem);
}

static void test_runs_tell_what_was_discarded(void **state)
{
	struct gmem *mem = make(GMEM_ANONYMOUS);
	uint64_t bits[MIB(6) / 4096 / 64] = {0};
	bool discarded;

	(void)state;
	assert_int_equal(gmem_run(mem, 0, MIB(4), &discarded), MIB(4));
	assert_false(discarded);
	assert_int_equal(gmem_discard(mem, 0x3000, 0x2000), 0);
	assert_int_equal(gmem_discard(mem, GIB(4), 0x1000), 0);
	assert_int_equal(gmem_run(mem, 0x800, MIB(1), &discarded), 0x2800);
	assert_false(discarded);
	assert_int_equal(gmem_run(mem, 0x3800, MIB(1), &discarded), 0x1800);
	assert_true(discarded);
	assert_int_equal(gmem_run(mem, 0x3000, 5, &discarded), 5);
	assert_true(discarded);
	assert_int_equal(gmem_run(mem, MIB(4) - 1, 1, &discarded), 1);
	assert_false(discarded);
	assert_true(gmem_add_discarded(mem, bits));
	assert_int_equal(bits[0], BIT(3) | BIT(4));
	assert_int_equal(bits[MIB(4) / 4096 / 64], BIT(0));
	gmem_destroy(mem);
}

static size_t count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	size_t lines = 0;
	int c;

	assert_non_null(maps);
	while ((c = getc(maps)) != EOF)
		lines += c == '\n';
	fclose(maps);
	return lines;
}

/* A vhost device, a handler of page faults, another program. */
static void test_discard_of_a_memfd_is_seen_by_all(void **state)
{
	struct gmem *mem = make(GMEM_MEMFD);
	char bytes[2] = "";
	int fd = gmem_region(mem, 0)->fd;
	char *other = mmap(NULL, 0x2000, PROT_READ, MAP_SHARED, fd, 0);

	(void)state;
	assert_ptr_not_equal(other, MAP_FAILED);
	fill(mem, 0, 0x2000);
	assert_int_equal(other[0x1000], 'x');
	assert_int_equal(gmem_discard(mem, 0x1000, 0x1000), 0);
	assert_int_equal(other[0x1000], 0);
	assert_int_equal(pread(fd, bytes, 2, 0xfff), 2);
	assert_memory_equal(bytes, "x", 2);
	assert_int_equal(munmap(other, 0x2000), 0);
	gmem_destroy(mem);
}

/* A guest must not use up the mappings that a process may have. */
static void test_discard_cuts_a_file_in_so_many_pieces_only(void **state)
{
	const struct gmem_range range = {0, MIB(128)};
	const struct gmem_request request = {
		.ranges = &range,
		.count = 1,
		.backing = GMEM_FILE,
		.fd = make_file(MIB(128)),
	};
	struct gmem *mem = NULL;
	uint64_t page = 1;
	size_t before;

	(void)state;
	assert_int_equal(gmem_create(&mem, &request, NULL), 0);
	before = count_mappings();
	while (!gmem_discard(mem, page * 4096, 4096)) {
		/* Memory of its own, so that mappings cannot be joined. */
		assert_int_equal(gmem_write(mem, page * 4096, "x", 1), 0);
		page += 2;
	}
	assert_int_equal(page, 1 + MIB(64) / 4096);
	assert_true(count_mappings() < before + 16500);
	assert_int_equal(gmem_discard(mem, page * 4096, 4096), -ENOMEM);
	/* What has its place already can be given back, and makes room. */
	assert_int_equal(gmem_discard(mem, 1 * 4096, 4096), 0);
	assert_int_equal(byte_at(mem, 4096), 0);
	assert_int_equal(byte_at(mem, 3 * 4096), 'x');
	assert_int_equal(gmem_discard(mem, 4096, MIB(60)), 0);
	assert_int_equal(byte_at(mem, 3 * 4096), 0);
	assert_int_equal(gmem_discard(mem, page * 4096, 4096), 0);
	assert_true(count_mappings() < before + 16500);
	gmem_destroy(mem);
}

/* Else the loop would wait for it to hear of that. */
static void test_discard_without_a_fault_handler_is_refused(void **state)
{
	struct gmem *mem = make(GMEM_UFFD);
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	gmem_set_handler(mem, ends[0]);
	fill(mem, 0, 0x2000);
	assert_int_equal(gmem_discard(mem, 0, 0x1000), 0);
	close(ends[1]);
	assert_int_equal(gmem_discard(mem, 0x1000, 0x1000), -EIO);
	assert_int_equal(byte_at(mem, 0x1000), 'x');
	close(ends[0]);
	gmem_destroy(mem);
}

static void test_dirty_marks_move_and_come_back(void **state)
{
	struct gmem *mem = make(GMEM_ANONYMOUS);
	uint64_t bits[MIB(6) / 4096 / 64] = {0};

	(void)state;
	gmem_take_dirty(mem, bits); /* nothing is tracked yet */
	assert_int_equal(gmem_track_dirty(mem), 0);
	gmem_mark_dirty(mem, 0x1000, 1);
	gmem_mark_dirty(mem, GIB(4), 1);
	bits[0] = BIT(5);
	gmem_take_dirty(mem, bits);
	assert_int_equal(bits[0], BIT(5) | BIT(1));
	assert_int_equal(bits[MIB(4) / 4096 / 64], BIT(0));
	assert_false(gmem_page_dirty(mem, 0x1000));
	gmem_return_dirty(mem, bits);
	assert_true(gmem_page_dirty(mem, 0x1000));
	assert_true(gmem_page_dirty(mem, 0x5000));
	assert_true(gmem_page_dirty(mem, GIB(4)));
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
		cmocka_unit_test(test_regions_are_aligned_without_room_below),
		cmocka_unit_test(test_read_file_needs_all_bytes),
		cmocka_unit_test(test_every_way_of_writing_marks_dirty),
		cmocka_unit_test(test_file_is_mapped_privately),
		cmocka_unit_test(test_file_too_short_is_refused),
		cmocka_unit_test(test_file_is_locked_while_it_is_mapped),
		cmocka_unit_test(test_file_is_copied_into_huge_pages),
		cmocka_unit_test(test_pool_that_is_too_small_is_named),
		cmocka_unit_test(test_copied_parts_of_a_file_are_apart_from_it),
		cmocka_unit_test(test_populate_makes_pages_present),
		cmocka_unit_test(test_discarded_pages_are_zeros),
		cmocka_unit_test(test_discard_of_no_ram_is_refused),
		cmocka_unit_test(test_discard_of_huge_pages_takes_whole_ones),
		cmocka_unit_test(test_discarded_file_in_transparent_pages),
		cmocka_unit_test(test_runs_tell_what_was_discarded),
		cmocka_unit_test(test_discard_of_a_memfd_is_seen_by_all),
		cmocka_unit_test(
			test_discard_cuts_a_file_in_so_many_pieces_only),
		cmocka_unit_test(
			test_discard_without_a_fault_handler_is_refused),
		cmocka_unit_test(test_dirty_marks_move_and_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
