/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/new_file.h"
#include "snapshot/page_set.h"
#include "tests/fake/memory_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define LOW_LEN MIB(4)
#define HIGH GIB(4)
#define SIZE MIB(6)
#define PAGES (SIZE / PAGE_SIZE_4K)
#define WORDS (PAGES / 64)
#define PAGE(n) ((n)*PAGE_SIZE_4K)

static const struct gmem_range ranges[] = {
	{0, LOW_LEN},
	{HIGH, SIZE - LOW_LEN},
};

struct fixture {
	char dir[32], full[40], other[40];
	struct gmem *mem;
	struct error err;
	struct memory_file_stats stats;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/ember-memory-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	sprintf(f->full, "%s/full", f->dir);
	sprintf(f->other, "%s/other", f->dir);
	*state = f;
	return 0;
}

/* Number of entries; removes them if asked to. */
static size_t list_dir(const struct fixture *f, bool clean)
{
	DIR *dir = opendir(f->dir);
	struct dirent *entry;
	size_t count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		count++;
		if (clean)
			assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0),
					 0);
	}
	closedir(dir);
	return count;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	gmem_destroy(f->mem);
	list_dir(f, true);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void make(struct gmem **ret_mem, enum gmem_backing backing,
		 const char *path)
{
	const struct gmem_request request = {
		.ranges = ranges,
		.count = 2,
		.backing = backing,
		.fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1,
	};
	struct error err = {0};

	if (gmem_create(ret_mem, &request, &err))
		fail_msg("%s", err.text);
}

static uint64_t gpa_of(uint64_t page)
{
	return PAGE(page) < LOW_LEN ? PAGE(page) : HIGH + PAGE(page) - LOW_LEN;
}

static void put(struct gmem *mem, uint64_t page, char letter)
{
	char bytes[PAGE_SIZE_4K];

	memset(bytes, letter, sizeof(bytes));
	assert_int_equal(gmem_write(mem, gpa_of(page), bytes, sizeof(bytes)),
			 0);
}

static int save(struct fixture *f, enum memory_kind kind, const char *path,
		const uint64_t *dirty)
{
	const struct memory_file_request request = {.path = path, .kind = kind};

	f->err.text[0] = '\0';
	return memory_file_write(f->mem, &request, dirty, &f->stats, &f->err);
}

static void save_ok(struct fixture *f, enum memory_kind kind, const char *path,
		    const uint64_t *dirty)
{
	if (save(f, kind, path, dirty))
		fail_msg("%s", f->err.text);
}

/* The letter a page of the file consists of; '0' for zeros, '?' for others. */
static char letter_in(const char *path, uint64_t page)
{
	char bytes[PAGE_SIZE_4K];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, bytes, sizeof(bytes), (off_t)PAGE(page)),
			 sizeof(bytes));
	close(fd);
	for (size_t i = 1; i < sizeof(bytes); i++)
		if (bytes[i] != bytes[0])
			return '?';
	return bytes[0] ? bytes[0] : '0';
}

static void assert_letters(const char *path, const char *pages)
{
	for (; *pages; pages += 2) {
		const uint64_t where[] = {
			['a'] = 0,    ['b'] = 1,    ['c'] = 2,
			['d'] = 1023, ['e'] = 1024, ['f'] = 1535};
		char is = letter_in(path, where[(uint8_t)pages[0]]);

		if (is != pages[1])
			fail_msg("page %c is %c, not %c", pages[0], is,
				 pages[1]);
	}
}

static void assert_same_as_guest(const struct fixture *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	for (uint64_t page = 0; page < PAGES; page++) {
		char file[PAGE_SIZE_4K], guest[PAGE_SIZE_4K];

		assert_int_equal(
			pread(fd, file, sizeof(file), (off_t)PAGE(page)),
			sizeof(file));
		assert_int_equal(
			gmem_read(f->mem, gpa_of(page), guest, sizeof(guest)),
			0);
		assert_memory_equal(file, guest, sizeof(file));
	}
	close(fd);
}

static uint64_t pages_on_disk(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	return (uint64_t)st.st_blocks / 8;
}

static bool is_data(const char *path, uint64_t page)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t off = lseek(fd, (off_t)PAGE(page), SEEK_DATA);

	close(fd);
	return off == (off_t)PAGE(page);
}

struct resident {
	uint64_t own[WORDS], shared[WORDS];
};

static struct resident look(const struct fixture *f)
{
	struct resident now;

	assert_int_equal(page_set_scan(f->mem, NULL, now.own, now.shared), 0);
	return now;
}

static void assert_nothing_moved(const struct fixture *f,
				 const struct resident *before)
{
	const struct resident now = look(f);

	assert_memory_equal(now.own, before->own, sizeof(now.own));
	assert_memory_equal(now.shared, before->shared, sizeof(now.shared));
}

/* A full file in f->full: a, b, d, e, f hold their letters. */
static void make_base(struct fixture *f)
{
	make(&f->mem, GMEM_ANONYMOUS, NULL);
	put(f->mem, 0, 'a');
	put(f->mem, 1, 'b');
	put(f->mem, 1023, 'd');
	put(f->mem, 1024, 'e');
	put(f->mem, 1535, 'f');
	save_ok(f, MEMORY_FULL, f->full, NULL);
	gmem_destroy(f->mem);
	f->mem = NULL;
}

/* ---------------------------------------------------------------- page sets */

static void test_page_set_next_finds_runs(void **state)
{
	uint64_t set[3] = {BIT(0) | BIT(63), UINT64_MAX, BIT(0) | BIT(5)};
	uint64_t first = 0, n = 0;

	(void)state;
	assert_true(page_set_next(set, 133, &first, &n));
	assert_int_equal(first, 0);
	assert_int_equal(n, 1);
	first++;
	assert_true(page_set_next(set, 133, &first, &n));
	assert_int_equal(first, 63);
	assert_int_equal(n, 66);
	first += n;
	assert_false(page_set_next(set, 133, &first, &n)); /* bit 133 is set */
	assert_true(page_set_next(set, 134, &first, &n));
	assert_int_equal(first, 133);
	assert_int_equal(n, 1);
	first = 64;
	assert_true(page_set_next(set, 100, &first, &n));
	assert_int_equal(n, 36);
}

/* --------------------------------------------------------------------- full */

static void test_full_has_holes_where_nothing_is(void **state)
{
	static const enum gmem_backing backings[] = {GMEM_ANONYMOUS,
						     GMEM_MEMFD};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct resident before;

		make(&f->mem, backings[i], NULL);
		put(f->mem, 0, 'a');
		put(f->mem, 2, '\0'); /* touched, and zero */
		put(f->mem, 1023, 'd');
		put(f->mem, 1024, 'e');
		before = look(f);
		save_ok(f, MEMORY_FULL, f->full, NULL);
		assert_nothing_moved(f, &before);
		assert_letters(f->full, "aab0c0ddeef0");
		assert_int_equal(pages_on_disk(f->full), 3);
		assert_int_equal(f->stats.pages_written, 3);
		assert_int_equal(f->stats.bytes_written, PAGE(3));
		assert_same_as_guest(f, f->full);
		gmem_destroy(f->mem);
		f->mem = NULL;
	}
}

static void test_full_takes_the_place_of_the_old_file(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char link[40], byte;
	int old;

	make_base(f);
	assert_int_equal(chmod(f->full, 0640), 0);
	sprintf(link, "%s/link", f->dir);
	assert_int_equal(symlink("full", link), 0);
	old = open(f->full, O_RDONLY | O_CLOEXEC);
	make(&f->mem, GMEM_ANONYMOUS, NULL);
	put(f->mem, 0, 'x');
	save_ok(f, MEMORY_FULL, link, NULL);
	assert_letters(f->full, "axb0");
	assert_int_equal(pread(old, &byte, 1, 0), 1);
	assert_int_equal(byte, 'a');
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(f->full, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(list_dir(f, false), 2);
	save_ok(f, MEMORY_FULL, f->other, NULL);
	assert_int_equal(stat(f->other, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(old);
}

static void test_full_of_a_clone_is_complete(void **state)
{
	struct fixture *f = *state;
	struct resident before;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 1, '\0'); /* over bytes of the base */
	put(f->mem, 2, 'c');
	put(f->mem, 1024, 'x');
	before = look(f);
	save_ok(f, MEMORY_FULL, f->other, NULL);
	assert_nothing_moved(f, &before);
	assert_letters(f->other, "aab0ccddexff");
	assert_same_as_guest(f, f->other);
	assert_letters(f->full, "aabbc0ddeeff");
}

static void test_full_of_a_clone_goes_around_long_runs(void **state)
{
	struct fixture *f = *state;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	for (uint64_t page = 0; page < 600; page++)
		put(f->mem, page, page < 300 ? 'x' : '\0');
	put(f->mem, 1535, '\0');
	save_ok(f, MEMORY_FULL, f->other, NULL);
	assert_letters(f->other, "axbxddeef0");
	assert_same_as_guest(f, f->other);
	assert_true(pages_on_disk(f->other) <= 303);
}

/* A memfd is on a file system of its own. */
static void test_full_of_a_clone_may_go_to_another_disk(void **state)
{
	struct fixture *f = *state;
	struct gmem_request request = {
		.ranges = ranges,
		.count = 2,
		.backing = GMEM_FILE,
		.fd = memfd_create("base", MFD_CLOEXEC),
	};

	assert_int_equal(ftruncate(request.fd, SIZE + 1), 0);
	assert_int_equal(pwrite(request.fd, "low", 3, 5), 3);
	assert_int_equal(pwrite(request.fd, "high", 4, LOW_LEN), 4);
	assert_int_equal(gmem_create(&f->mem, &request, &f->err), 0);
	put(f->mem, 1023, 'd');
	save_ok(f, MEMORY_FULL, f->full, NULL);
	assert_same_as_guest(f, f->full);
	assert_int_equal(pages_on_disk(f->full), 3);
}

static void test_full_onto_the_mapped_file_keeps_both_right(void **state)
{
	struct fixture *f = *state;
	char byte;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 0, 'x');
	save_ok(f, MEMORY_FULL, f->full, NULL);
	assert_letters(f->full, "axbbc0ddeeff");
	put(f->mem, 1, 'y');
	save_ok(f, MEMORY_FULL, f->full, NULL);
	assert_letters(f->full, "axbyc0ddeeff");
	assert_int_equal(gmem_read(f->mem, gpa_of(1535), &byte, 1), 0);
	assert_int_equal(byte, 'f');
	assert_int_equal(list_dir(f, false), 1);
}

static void test_full_that_fails_leaves_the_old_file(void **state)
{
	const struct rlimit small = {MIB(1), RLIM_INFINITY};
	const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
	struct fixture *f = *state;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 1535, 'x');
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(save(f, MEMORY_FULL, f->full, NULL), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_string_equal(f->err.text,
			    "Cannot perform write on the memory backing file: "
			    "File too large (os error 27)");
	assert_letters(f->full, "aabbc0ddeeff");
	assert_int_equal(list_dir(f, false), 1);
}

static void test_bad_paths_are_refused(void **state)
{
	struct fixture *f = *state;
	char missing[64];

	make(&f->mem, GMEM_ANONYMOUS, NULL);
	sprintf(missing, "%s/no/file", f->dir);
	assert_int_equal(save(f, MEMORY_FULL, missing, NULL), -ENOENT);
	assert_string_equal(f->err.text,
			    "Cannot perform open on the memory backing file: "
			    "No such file or directory (os error 2)");
	assert_int_equal(save(f, MEMORY_FULL, f->dir, NULL), -EISDIR);
	assert_int_equal(save(f, MEMORY_DIFF, f->dir, NULL), -EISDIR);
	assert_int_equal(mkfifo(f->other, 0600), 0);
	assert_int_equal(save(f, MEMORY_FULL, f->other, NULL), -EINVAL);
	assert_int_equal(save(f, MEMORY_DIFF, f->other, NULL), -EINVAL);
	assert_non_null(strstr(f->err.text, "is not a regular file"));
	assert_int_equal(save(f, MEMORY_FULL, "/dev/null", NULL), -EINVAL);
	assert_int_equal(save(f, MEMORY_FULL, "", NULL), -ENOENT);
	assert_int_equal(list_dir(f, false), 1);
}

/* Each file is of one letter; whenever the writer is killed, so is the one that
 * is there. */
/* Until somebody kills it: all pages with one letter, then with another. */
_Noreturn static void save_for_ever(struct fixture *f)
{
	for (char letter = 'b';; letter ^= 'b' ^ 'c') {
		for (uint64_t page = 0; page < PAGES; page++)
			put(f->mem, page, letter);
		save_ok(f, MEMORY_FULL, f->full, NULL);
	}
}

static void test_full_survives_sigkill(void **state)
{
	struct fixture *f = *state;

	make(&f->mem, GMEM_ANONYMOUS, NULL);
	for (uint64_t page = 0; page < PAGES; page++)
		put(f->mem, page, 'a');
	save_ok(f, MEMORY_FULL, f->full, NULL);
	for (useconds_t i = 0; i < 20; i++) {
		pid_t child = fork();

		assert_true(child >= 0);
		if (child == 0)
			save_for_ever(f);
		usleep(5000 + i * 700);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_int_equal(pages_on_disk(f->full), PAGES);
		for (uint64_t page = 1; page < PAGES; page++)
			assert_int_equal(letter_in(f->full, page),
					 letter_in(f->full, 0));
	}
}

/* --------------------------------------------------------------------- diff */

static void mark(uint64_t *dirty, uint64_t page)
{
	dirty[page / 64] |= BIT(page % 64);
}

static void test_diff_merges_into_the_full_file(void **state)
{
	struct fixture *f = *state;
	uint64_t dirty[WORDS] = {0};
	struct stat before, after;

	make_base(f);
	make(&f->mem, GMEM_ANONYMOUS, NULL);
	put(f->mem, 0, 'x'); /* not dirty */
	put(f->mem, 1, '\0');
	put(f->mem, 2, 'c');
	put(f->mem, 1024, 'y');
	mark(dirty, 1);
	mark(dirty, 2);
	mark(dirty, 1024);
	assert_int_equal(stat(f->full, &before), 0);
	save_ok(f, MEMORY_DIFF, f->full, dirty);
	assert_int_equal(stat(f->full, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_letters(f->full, "aab0ccddeyff");
	assert_int_equal(f->stats.pages_written, 3);
}

static void test_diff_onto_the_mapped_file_keeps_the_guest_right(void **state)
{
	struct fixture *f = *state;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	uint64_t dirty[WORDS] = {0};
	struct resident before;
	int fd;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 0, 'x');
	put(f->mem, 1, '\0');
	mark(dirty, 0);
	mark(dirty, 1);
	mark(dirty, 1024); /* marked, not written */
	before = look(f);
	for (int i = 0; i < 2; i++) {
		save_ok(f, MEMORY_DIFF, f->full, dirty);
		assert_nothing_moved(f, &before);
		assert_letters(f->full, "axb0c0ddeeff");
	}
	assert_same_as_guest(f, f->full);
	fd = open(f->full, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), -1); /* still ours */
	gmem_destroy(f->mem);
	f->mem = NULL;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	close(fd);
}

static void test_diff_onto_a_file_in_use_is_refused(void **state)
{
	struct fixture *f = *state;
	struct gmem *other = NULL;
	uint64_t dirty[WORDS] = {1};

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 0, 'x');
	make(&other, GMEM_FILE, f->full);
	assert_int_equal(save(f, MEMORY_DIFF, f->full, dirty), -EBUSY);
	assert_non_null(strstr(f->err.text, "another microVM has mapped"));
	gmem_destroy(other);
	assert_int_equal(link(f->full, f->other), 0);
	assert_int_equal(save(f, MEMORY_DIFF, f->full, dirty), -EBUSY);
	assert_non_null(strstr(f->err.text, "a file with 2 names"));
	assert_int_equal(unlink(f->other), 0);
	assert_letters(f->full, "aabb");
	save_ok(f, MEMORY_DIFF, f->full, dirty);
	assert_letters(f->full, "axbb");
}

static void test_diff_in_a_new_file_has_the_dirty_pages_only(void **state)
{
	struct fixture *f = *state;
	uint64_t dirty[WORDS] = {0};

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 0, 'x'); /* not dirty */
	put(f->mem, 1, '\0');
	put(f->mem, 1535, 'y');
	mark(dirty, 1);
	mark(dirty, 1024); /* marked, not written */
	mark(dirty, 1535);
	save_ok(f, MEMORY_DIFF, f->other, dirty);
	assert_letters(f->other, "a0b0c0d0eefy");
	assert_int_equal(pages_on_disk(f->other), 3);
	assert_true(is_data(f->other, 1));
	/* A file of another size is none to merge into. */
	assert_int_equal(truncate(f->other, SIZE - 1), 0);
	save_ok(f, MEMORY_DIFF, f->other, dirty);
	assert_int_equal(pages_on_disk(f->other), 3);
	assert_int_equal(list_dir(f, false), 2);
}

static void test_diff_of_pages_given_back_is_zeros(void **state)
{
	static const enum gmem_backing backings[] = {GMEM_ANONYMOUS,
						     GMEM_MEMFD};
	struct fixture *f = *state;
	uint64_t dirty[WORDS];

	memset(dirty, 0xff, sizeof(dirty));
	for (size_t i = 0; i < ARRAY_SIZE(backings); i++) {
		struct resident before;

		make_base(f);
		make(&f->mem, backings[i], NULL);
		put(f->mem, 1024, 'x');
		before = look(f);
		save_ok(f, MEMORY_DIFF, f->full, dirty);
		assert_nothing_moved(f, &before);
		assert_letters(f->full, "a0b0c0d0exf0");
		save_ok(f, MEMORY_DIFF, f->other, dirty);
		assert_int_equal(pages_on_disk(f->other), PAGES);
		assert_int_equal(unlink(f->other), 0);
		gmem_destroy(f->mem);
		f->mem = NULL;
	}
}

static void test_diff_without_marks_takes_what_may_differ(void **state)
{
	struct fixture *f = *state;
	char byte;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	put(f->mem, 2, 'x');
	assert_int_equal(gmem_read(f->mem, gpa_of(1535), &byte, 1), 0);
	save_ok(f, MEMORY_DIFF, f->other, NULL);
	assert_int_equal(pages_on_disk(f->other), 1);
	assert_letters(f->other, "cx");
	gmem_destroy(f->mem);
	make(&f->mem, GMEM_ANONYMOUS, NULL);
	put(f->mem, 2, 'y');
	save_ok(f, MEMORY_DIFF, f->full, NULL);
	assert_letters(f->full, "aabbcyddeeff");
}

/* ---------------------------------------------------------- given back */

static void discard(struct fixture *f, uint64_t page, uint64_t count)
{
	assert_int_equal(gmem_discard(f->mem, gpa_of(page), PAGE(count)), 0);
}

/* A guest whose memory has the letters of the base, some of which it has given
 * back: a, b and d, and b is in use again. c never was anything. */
static void make_discarded(struct fixture *f, enum gmem_backing backing,
			   bool tracked)
{
	make_base(f);
	make(&f->mem, backing, backing == GMEM_FILE ? f->full : NULL);
	if (backing != GMEM_FILE)
		for (uint64_t i = 0; i < 5; i++)
			put(f->mem,
			    (const uint64_t[]){0, 1, 1023, 1024, 1535}[i],
			    "abdef"[i]);
	put(f->mem, 1, 'B'); /* a page of its own, of a file too */
	if (tracked)
		assert_int_equal(gmem_track_dirty(f->mem), 0);
	discard(f, 0, 3);
	discard(f, 1023, 1);
	put(f->mem, 1, 'x');
}

static void end_discarded(struct fixture *f)
{
	gmem_destroy(f->mem);
	f->mem = NULL;
	list_dir(f, true);
}

static const enum gmem_backing discarding[] = {GMEM_ANONYMOUS, GMEM_MEMFD,
					       GMEM_FILE};

static void test_full_has_zeros_for_what_was_given_back(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(discarding); i++) {
		struct resident before;

		make_discarded(f, discarding[i], false);
		before = look(f);
		save_ok(f, MEMORY_FULL, f->other, NULL);
		assert_nothing_moved(f, &before);
		assert_letters(f->other, "a0bxc0d0eeff");
		/* Short runs of a file are copied along, and written over. */
		assert_int_equal(pages_on_disk(f->other),
				 discarding[i] == GMEM_FILE ? 5 : 3);
		assert_same_as_guest(f, f->other);
		end_discarded(f);
	}
}

static void test_diff_has_zeros_for_what_was_given_back(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < 2 * ARRAY_SIZE(discarding); i++) {
		bool tracked = i & 1;
		uint64_t dirty[WORDS] = {0};
		struct resident before;

		make_discarded(f, discarding[i / 2], tracked);
		gmem_take_dirty(f->mem, dirty);
		before = look(f);
		save_ok(f, MEMORY_DIFF, f->other, tracked ? dirty : NULL);
		assert_nothing_moved(f, &before);
		assert_letters(f->other, "a0bxc0d0");
		assert_true(is_data(f->other, 0) && is_data(f->other, 2) &&
			    is_data(f->other, 1023));
		/* In place, of a file it maps for one. */
		save_ok(f, MEMORY_DIFF, f->full, tracked ? dirty : NULL);
		assert_letters(f->full, "a0bxc0d0eeff");
		assert_same_as_guest(f, f->full);
		end_discarded(f);
	}
}

/* Those that were given back before the last snapshot are in that. */
static void test_tracked_diff_leaves_what_was_given_back_before(void **state)
{
	struct fixture *f = *state;
	uint64_t dirty[WORDS] = {0};

	make_discarded(f, GMEM_FILE, true);
	gmem_take_dirty(f->mem, dirty);
	memset(dirty, 0, sizeof(dirty));
	discard(f, 1024, 1);
	gmem_take_dirty(f->mem, dirty);
	save_ok(f, MEMORY_DIFF, f->other, dirty);
	assert_int_equal(pages_on_disk(f->other), 1);
	assert_true(is_data(f->other, 1024));
}

static void test_long_runs_that_were_given_back_stay_holes(void **state)
{
	struct fixture *f = *state;

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	discard(f, 0, 1024);
	save_ok(f, MEMORY_FULL, f->other, NULL);
	assert_letters(f->other, "a0b0c0d0eeff");
	assert_int_equal(pages_on_disk(f->other), 2);
	/* Over the file that it maps. */
	save_ok(f, MEMORY_FULL, f->full, NULL);
	assert_letters(f->full, "a0b0c0d0eeff");
}

/* Their file says that all of it is data, and to read what was given back takes
 * a page of the pool, which others may have by now: that would end us. */
static void test_huge_pages_of_a_memfd_given_back_stay_so(void **state)
{
	const struct gmem_request request = {
		.ranges = ranges,
		.count = 2,
		.backing = GMEM_MEMFD,
		.pages = GMEM_PAGES_2M,
	};
	struct fixture *f = *state;
	uint64_t dirty[WORDS] = {0};
	unsigned char there = 1;

	if (gmem_create(&f->mem, &request, NULL))
		skip(); /* there is no pool */
	put(f->mem, 0, 'a');
	put(f->mem, 1023, 'd');
	put(f->mem, 1535, 'f');
	assert_int_equal(gmem_track_dirty(f->mem), 0);
	discard(f, 0, 512);
	discard(f, 1024, 512);
	put(f->mem, 1024, 'e'); /* in use again */
	gmem_take_dirty(f->mem, dirty);
	for (size_t i = 0; i < 3; i++) {
		save_ok(f, i ? MEMORY_DIFF : MEMORY_FULL, f->full,
			i == 2 ? dirty : NULL);
		assert_letters(f->full, "a0b0ddeef0");
		assert_int_equal(
			mincore(gmem_region(f->mem, 0)->hva, 1, &there), 0);
		assert_false(there & 1);
	}
}

/* What a prefetch has copied is a mapping apart, with pages nobody wrote. */
static void test_clone_with_copied_chunks_is_complete(void **state)
{
	struct fixture *f = *state;
	uint64_t dirty[WORDS] = {0};

	make_base(f);
	make(&f->mem, GMEM_FILE, f->full);
	assert_int_equal(gmem_copy_begin(f->mem, MIB(2), MIB(2)), 0);
	assert_int_equal(gmem_copy_begin(f->mem, HIGH, MIB(2)), 0);
	assert_int_equal(gmem_copy_file(f->mem, MIB(2), MIB(2)), 0);
	assert_int_equal(gmem_copy_file(f->mem, HIGH, MIB(2)), 0);
	put(f->mem, 0, 'x');
	put(f->mem, 1535, 'y');
	mark(dirty, 0);
	mark(dirty, 1535);
	save_ok(f, MEMORY_FULL, f->other, NULL);
	assert_same_as_guest(f, f->other);
	save_ok(f, MEMORY_DIFF, f->full, dirty);
	assert_same_as_guest(f, f->full);
	assert_int_equal(unlink(f->other), 0);
	save_ok(f, MEMORY_DIFF, f->other, dirty);
	assert_int_equal(pages_on_disk(f->other), 2);
}

/* A memfd is shared, and whoever has it may try that. */
static void test_full_of_a_memfd_that_keeps_its_length(void **state)
{
	struct fixture *f = *state;
	int fd;

	make(&f->mem, GMEM_MEMFD, NULL);
	put(f->mem, 1535, 'f');
	fd = gmem_region(f->mem, 0)->fd;
	assert_int_equal(pwrite(fd, "more", 4, SIZE), -1);
	assert_int_equal(ftruncate(fd, SIZE + 4096), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	save_ok(f, MEMORY_FULL, f->full, NULL);
	assert_int_equal(pages_on_disk(f->full), 1);
	assert_letters(f->full, "a0ff");
}

static void test_diff_that_fails_can_be_done_again(void **state)
{
	const struct rlimit small = {PAGE(3), RLIM_INFINITY};
	const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
	struct fixture *f = *state;
	uint64_t dirty[WORDS] = {0};

	make_base(f);
	make(&f->mem, GMEM_ANONYMOUS, NULL);
	put(f->mem, 0, 'x');
	put(f->mem, 1535, 'y');
	mark(dirty, 0);
	mark(dirty, 1535);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(save(f, MEMORY_DIFF, f->full, dirty), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	save_ok(f, MEMORY_DIFF, f->full, dirty);
	assert_letters(f->full, "axbbc0ddeefy");
}

static void test_sync_reaches_the_disk(void **state)
{
	struct fixture *f = *state;
	const struct memory_file_request full = {
		.path = f->full, .kind = MEMORY_FULL, .sync = true};
	const struct memory_file_request diff = {
		.path = f->full, .kind = MEMORY_DIFF, .sync = true};

	make(&f->mem, GMEM_ANONYMOUS, NULL);
	put(f->mem, 0, 'x');
	assert_int_equal(
		memory_file_write(f->mem, &full, NULL, &f->stats, &f->err), 0);
	assert_true(f->stats.us_sync > 0);
	assert_int_equal(
		memory_file_write(f->mem, &diff, NULL, &f->stats, &f->err), 0);
	assert_letters(f->full, "ax");
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_set_next_finds_runs),
		test(test_full_has_holes_where_nothing_is),
		test(test_full_takes_the_place_of_the_old_file),
		test(test_full_of_a_clone_is_complete),
		test(test_full_of_a_clone_goes_around_long_runs),
		test(test_full_of_a_clone_may_go_to_another_disk),
		test(test_full_onto_the_mapped_file_keeps_both_right),
		test(test_full_that_fails_leaves_the_old_file),
		test(test_bad_paths_are_refused),
		test(test_full_survives_sigkill),
		test(test_diff_merges_into_the_full_file),
		test(test_diff_onto_the_mapped_file_keeps_the_guest_right),
		test(test_diff_onto_a_file_in_use_is_refused),
		test(test_diff_in_a_new_file_has_the_dirty_pages_only),
		test(test_diff_of_pages_given_back_is_zeros),
		test(test_diff_without_marks_takes_what_may_differ),
		test(test_full_has_zeros_for_what_was_given_back),
		test(test_diff_has_zeros_for_what_was_given_back),
		test(test_tracked_diff_leaves_what_was_given_back_before),
		test(test_long_runs_that_were_given_back_stay_holes),
		test(test_huge_pages_of_a_memfd_given_back_stay_so),
		test(test_clone_with_copied_chunks_is_complete),
		test(test_full_of_a_memfd_that_keeps_its_length),
		test(test_diff_that_fails_can_be_done_again),
		test(test_sync_reaches_the_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
