/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that comes and goes: its blocks, and what gmem makes of them. */
#include "snapshot/page_set.h"
#include "tests/fake/memory_files.h"
#include "vmm/gmem.h"
#include "vmm/gmem_blocks.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#define BLOCK MIB(2)
#define SLOT MIB(8)
#define REGION GIB(512)
#define TOTAL MIB(32)
#define RAM MIB(4)

static const struct gmem_range ranges[] = {{0, RAM}, {REGION, TOTAL}};

static int make(struct gmem **ret_mem, const struct gmem_pluggable *pluggable,
		enum gmem_backing backing, int fd)
{
	const struct gmem_request request = {
		.ranges = ranges,
		.count = 2,
		.pluggable = pluggable,
		.backing = backing,
		.fd = fd,
	};

	return gmem_create(ret_mem, &request, NULL);
}

static int setup(void **state)
{
	const struct gmem_pluggable pluggable = {BLOCK, SLOT, NULL};
	struct gmem *mem = NULL;

	assert_int_equal(make(&mem, &pluggable, GMEM_ANONYMOUS, -1), 0);
	*state = mem;
	return 0;
}

static int teardown(void **state)
{
	gmem_destroy(*state);
	return 0;
}

/* ------------------------------------------------------------------- blocks */

static void test_blocks_are_found_in_rows(void **state)
{
	struct gmem_blocks *blocks = NULL;
	uint64_t off = 0, len;

	(void)state;
	assert_int_equal(gmem_blocks_create(&blocks, 130 * BLOCK, BLOCK, NULL),
			 0);
	assert_false(gmem_blocks_next(blocks, &off, &len));
	assert_true(gmem_blocks_none(blocks, 0, 130 * BLOCK));
	gmem_blocks_set(blocks, 62 * BLOCK, 4 * BLOCK, true);
	gmem_blocks_set(blocks, 129 * BLOCK, BLOCK, true);
	assert_int_equal(gmem_blocks_plugged(blocks), 5 * BLOCK);
	assert_true(gmem_blocks_next(blocks, &off, &len));
	assert_int_equal(off, 62 * BLOCK);
	assert_int_equal(len, 4 * BLOCK);
	off = 63 * BLOCK + 5; /* within one */
	assert_true(gmem_blocks_next(blocks, &off, &len));
	assert_int_equal(off, 63 * BLOCK + 5);
	assert_int_equal(len, 3 * BLOCK - 5);
	off += len;
	assert_true(gmem_blocks_next(blocks, &off, &len));
	assert_int_equal(off, 129 * BLOCK);
	assert_int_equal(len, BLOCK);
	off += len;
	assert_false(gmem_blocks_next(blocks, &off, &len));
	gmem_blocks_set(blocks, 64 * BLOCK, BLOCK, false);
	assert_true(gmem_blocks_all(blocks, 62 * BLOCK, 2 * BLOCK));
	assert_false(gmem_blocks_all(blocks, 62 * BLOCK, 2 * BLOCK + 1));
	assert_true(gmem_blocks_none(blocks, 64 * BLOCK, BLOCK));
	assert_false(gmem_blocks_none(blocks, 64 * BLOCK, BLOCK + 1));
	gmem_blocks_destroy(blocks);
	gmem_blocks_destroy(NULL);
}

static void test_blocks_come_back_from_their_bits(void **state)
{
	const uint8_t bits[] = {0x81, 0, 0x7};
	struct gmem_blocks *blocks = NULL;
	size_t len;
	uint8_t *again;

	(void)state;
	assert_int_equal(gmem_blocks_create(&blocks, 19 * BLOCK, BLOCK, bits),
			 0);
	assert_int_equal(gmem_blocks_plugged(blocks), 5 * BLOCK);
	assert_true(gmem_blocks_all(blocks, 7 * BLOCK, BLOCK));
	assert_true(gmem_blocks_all(blocks, 16 * BLOCK, 3 * BLOCK));
	again = gmem_blocks_bits(blocks, &len);
	assert_int_equal(len, sizeof(bits));
	assert_memory_equal(again, bits, sizeof(bits));
	free(again);
	gmem_blocks_destroy(blocks);
}

/* --------------------------------------------------------------------- gmem */

static void test_create_bad_pluggables_are_refused(void **state)
{
	static const struct gmem_pluggable cases[] = {
		{0, SLOT, NULL},	  {BLOCK, 0, NULL},
		{BLOCK, BLOCK + 1, NULL}, {2048, SLOT, NULL},
		{BLOCK, MIB(6), NULL}, /* does not divide the region */
	};
	static const struct gmem_pluggable good = {BLOCK, SLOT, NULL};
	const struct gmem_request without_ram = {
		.ranges = ranges + 1,
		.count = 1,
		.pluggable = &good,
		.fd = -1,
	};
	struct gmem *mem = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(make(&mem, &cases[i], GMEM_ANONYMOUS, -1),
				 -EINVAL);
	assert_int_equal(gmem_create(&mem, &without_ram, NULL), -EINVAL);
	assert_null(mem);
}

static void test_only_plugged_memory_is_reached(void **state)
{
	struct gmem *mem = *state;
	struct iovec iov;
	uint64_t value = 5;
	void *held;

	assert_true(gmem_contains(mem, 0, RAM));
	assert_false(gmem_contains(mem, REGION, 1));
	assert_false(gmem_contains(mem, REGION, 0));
	gmem_plug(mem, REGION + BLOCK, 2 * BLOCK, true);
	assert_true(gmem_contains(mem, REGION + BLOCK, 2 * BLOCK));
	assert_true(gmem_contains(mem, REGION + BLOCK, 0));
	assert_false(gmem_contains(mem, REGION + BLOCK, 2 * BLOCK + 1));
	assert_false(gmem_contains(mem, REGION + BLOCK - 1, 2));
	assert_false(gmem_contains(mem, REGION + TOTAL, 0));
	assert_false(gmem_contains(mem, REGION + BLOCK, UINT64_MAX));
	assert_false(gmem_contains(mem, REGION - 1, 1));
	assert_int_equal(gmem_write(mem, REGION + BLOCK, &value, 8), 0);
	assert_int_equal(gmem_map(mem, REGION + BLOCK, 8, &iov), 0);
	assert_int_equal(gmem_map(mem, REGION, 8, &iov), -EFAULT);
	assert_int_equal(gmem_hold(mem, REGION + BLOCK, 8, &held), 0);
	assert_int_equal(*(uint64_t *)held, 5);
	/* A pointer that somebody holds outlives it, and nothing else. */
	assert_int_equal(gmem_discard(mem, REGION + BLOCK, BLOCK), 0);
	gmem_plug(mem, REGION + BLOCK, BLOCK, false);
	assert_int_equal(*(uint64_t *)held, 0);
	*(uint64_t *)held = 1;
	assert_int_equal(gmem_read(mem, REGION + BLOCK, &value, 8), -EFAULT);
	assert_int_equal(gmem_write(mem, REGION + BLOCK, &value, 8), -EFAULT);
	assert_int_equal(gmem_discard(mem, REGION + BLOCK, BLOCK), -EFAULT);
	assert_int_equal(gmem_populate(mem, REGION + BLOCK, 4096, false),
			 -EFAULT);
	assert_true(gmem_contains(mem, REGION + 2 * BLOCK, BLOCK));
}

static void test_extents_are_ram_and_what_is_plugged(void **state)
{
	struct gmem *mem = *state;
	struct gmem_extent extent = {0};

	gmem_plug(mem, REGION + BLOCK, 2 * BLOCK, true);
	gmem_plug(mem, REGION + TOTAL - BLOCK, BLOCK, true);
	assert_true(gmem_next_extent(mem, &extent));
	assert_int_equal(extent.off, 0);
	assert_int_equal(extent.len, RAM);
	assert_true(gmem_next_extent(mem, &extent));
	assert_int_equal(extent.off, RAM + BLOCK);
	assert_int_equal(extent.len, 2 * BLOCK);
	assert_ptr_equal(extent.hva, gmem_region(mem, 1)->hva + BLOCK);
	assert_true(gmem_next_extent(mem, &extent));
	assert_int_equal(extent.off, RAM + TOTAL - BLOCK);
	assert_false(gmem_next_extent(mem, &extent));
	assert_int_equal(gmem_size(mem), RAM + TOTAL);
	assert_ptr_equal(gmem_pluggable(mem), gmem_region(mem, 1));
}

static void test_pages_are_sought_where_there_are_any(void **state)
{
	struct gmem *mem = *state;
	uint64_t *all = page_set_create(mem), *own = page_set_create(mem);
	uint64_t first = 0, n;
	uint64_t value = 1;

	gmem_plug(mem, REGION + BLOCK, BLOCK, true);
	page_set_add_all(mem, all);
	assert_true(page_set_next(all, page_set_pages(mem), &first, &n));
	assert_int_equal(n, RAM / 4096);
	first += n;
	assert_true(page_set_next(all, page_set_pages(mem), &first, &n));
	assert_int_equal(first, (RAM + BLOCK) / 4096);
	assert_int_equal(n, BLOCK / 4096);

	assert_int_equal(gmem_write(mem, REGION + BLOCK, &value, 8), 0);
	gmem_region(mem, 1)->hva[0] = 1; /* not plugged: of no account */
	assert_int_equal(page_set_scan(mem, NULL, own, NULL), 0);
	first = RAM / 4096;
	assert_true(page_set_next(own, page_set_pages(mem), &first, &n));
	assert_int_equal(first, (RAM + BLOCK) / 4096);
	free(all);
	free(own);
}

/* Pages that the guest can still reach, in a slot that has others. */
static void test_pages_of_a_memfd_are_sought_where_it_is_plugged(void **state)
{
	const struct gmem_pluggable pluggable = {BLOCK, SLOT, NULL};
	struct gmem *mem = NULL;
	uint64_t first = 0, n = 0;
	uint64_t *own;

	(void)state;
	assert_int_equal(make(&mem, &pluggable, GMEM_MEMFD, -1), 0);
	own = page_set_create(mem);
	gmem_plug(mem, REGION + BLOCK, BLOCK, true);
	gmem_region(mem, 0)->hva[RAM - 1] = 1;
	memset(gmem_region(mem, 1)->hva, 1, 3 * BLOCK);
	assert_int_equal(page_set_scan(mem, NULL, own, NULL), 0);
	assert_true(page_set_next(own, page_set_pages(mem), &first, &n));
	assert_int_equal(first, RAM / 4096 - 1);
	assert_int_equal(n, 1);
	first += n;
	assert_true(page_set_next(own, page_set_pages(mem), &first, &n));
	assert_int_equal(first, (RAM + BLOCK) / 4096);
	assert_int_equal(n, BLOCK / 4096);
	first += n;
	assert_false(page_set_next(own, page_set_pages(mem), &first, &n));
	free(own);
	gmem_destroy(mem);
}

/* TSan keeps books of all that is read, in memory. */
#if defined(__has_feature)
#define UNDER_TSAN __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#else
#define UNDER_TSAN 0
#endif

static long peak_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* In a process of its own, which has a peak of its own: 8 MiB a set of pages,
 * of which what is not plugged shall take none. */
static int save_large(void)
{
	const struct gmem_range large[] = {{0, RAM}, {REGION, GIB(256)}};
	const struct gmem_pluggable pluggable = {BLOCK, SLOT, NULL};
	const struct gmem_request request = {
		.ranges = large, .count = 2, .pluggable = &pluggable, .fd = -1};
	struct memory_file_request file = {.path = "/tmp/ember-blocks",
					   .kind = MEMORY_DIFF};
	struct memory_file_stats stats;
	struct gmem *mem = NULL;
	uint64_t *dirty;
	long before;

	if (gmem_create(&mem, &request, NULL) || gmem_discard(mem, 0, 4096))
		return 1;
	dirty = page_set_create(mem);
	before = peak_kib();
	if (memory_file_write(mem, &file, dirty, &stats, NULL))
		return 2;
	unlink(file.path);
	return peak_kib() - before > 8192 ? 3 : 0;
}

static void test_sets_of_what_is_not_plugged_take_no_memory(void **state)
{
	int status = -1;
	pid_t pid;

	(void)state;
	if (UNDER_TSAN)
		skip();
	pid = fork();
	if (!pid)
		_exit(save_large());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
test_dirty_marks_of_unplugged_memory_are_of_the_discarding(void **state)
{
	uint64_t bits[(RAM + TOTAL) / 4096 / 64 + 1] = {0};
	struct gmem *mem = *state;

	assert_int_equal(gmem_track_dirty(mem), 0);
	gmem_mark_dirty(mem, REGION, 1);
	gmem_take_dirty(mem, bits);
	assert_int_equal(bits[RAM / 4096 / 64], 0);
	gmem_plug(mem, REGION, BLOCK, true);
	gmem_mark_dirty(mem, REGION, 1);
	assert_true(gmem_page_dirty(mem, REGION));
	gmem_take_dirty(mem, bits);
	assert_int_equal(bits[RAM / 4096 / 64], BIT(0));
	assert_int_equal(gmem_discard(mem, REGION, BLOCK), 0);
	gmem_plug(mem, REGION, BLOCK, false);
	gmem_take_dirty(mem, bits);
	for (uint64_t i = 0; i < BLOCK / 4096 / 64; i++)
		assert_int_equal(bits[RAM / 4096 / 64 + i], UINT64_MAX);
}

/* Of a memory file only what is plugged matters. */
static void test_file_has_what_is_plugged(void **state)
{
	static const uint8_t plugged[TOTAL / BLOCK / 8] = {1 << 1};
	const struct gmem_pluggable pluggable = {BLOCK, SLOT, plugged};
	int fd = memfd_create("memory", MFD_CLOEXEC);
	struct gmem *mem = NULL;
	char text[4];

	(void)state;
	assert_int_equal(ftruncate(fd, RAM + TOTAL - 1), 0);
	assert_int_equal(make(&mem, &pluggable, GMEM_FILE, dup(fd)), -EINVAL);
	assert_int_equal(ftruncate(fd, RAM + TOTAL), 0);
	assert_int_equal(pwrite(fd, "one", 4, RAM + BLOCK), 4);
	assert_int_equal(make(&mem, &pluggable, GMEM_FILE, fd), 0);
	assert_int_equal(gmem_read(mem, REGION + BLOCK, text, 4), 0);
	assert_string_equal(text, "one");
	assert_int_equal(gmem_read(mem, REGION, text, 4), -EFAULT);
	assert_int_equal(gmem_read(mem, REGION + 2 * BLOCK, text, 4), -EFAULT);
	gmem_destroy(mem);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_are_found_in_rows),
		cmocka_unit_test(test_blocks_come_back_from_their_bits),
		cmocka_unit_test(test_create_bad_pluggables_are_refused),
		TEST(test_only_plugged_memory_is_reached),
		TEST(test_extents_are_ram_and_what_is_plugged),
		TEST(test_pages_are_sought_where_there_are_any),
		cmocka_unit_test(
			test_pages_of_a_memfd_are_sought_where_it_is_plugged),
		cmocka_unit_test(
			test_sets_of_what_is_not_plugged_take_no_memory),
		TEST(test_dirty_marks_of_unplugged_memory_are_of_the_discarding),
		cmocka_unit_test(test_file_has_what_is_plugged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
