/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/page_set.h"
#include "snapshot/prefetch.h"
#include "snapshot/uffd.h"
#include "snapshot/working_set.h"
#include "tests/fake/fault_handler.h"
#include "tests/fake/memory_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#define HIGH GIB(4)
#define LOW_LEN MIB(2)
#define SIZE MIB(4)

static const struct gmem_range ranges[] = {
	{0, LOW_LEN},
	{HIGH, SIZE - LOW_LEN},
};

struct fixture {
	char dir[32], socket[48], base[48], copy[48];
	struct gmem *mem;
	struct fault_handler handler;
	pthread_t thread;
	int listener, memory_fd;
	int uffd, stream;
	int served; /* what the handler's thread ended with */
	struct error err;
};

static int setup(void **state)
{
	const struct gmem_request request = {
		.ranges = ranges, .count = 2, .backing = GMEM_UFFD};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/ember-uffd-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	sprintf(f->socket, "%s/socket", f->dir);
	sprintf(f->base, "%s/base", f->dir);
	sprintf(f->copy, "%s/copy", f->dir);
	f->listener = f->uffd = f->stream = -1;
	f->memory_fd = open(f->base, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(f->memory_fd, SIZE), 0);
	assert_int_equal(pwrite(f->memory_fd, "low", 3, 0x1000), 3);
	assert_int_equal(pwrite(f->memory_fd, "high", 4, LOW_LEN), 4);
	assert_int_equal(gmem_create(&f->mem, &request, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->uffd);
	close_fd(&f->stream);
	gmem_destroy(f->mem);
	close_fd(&f->listener);
	close_fd(&f->memory_fd);
	unlink(f->socket);
	unlink(f->base);
	unlink(f->copy);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static int attach(struct fixture *f)
{
	return uffd_attach(f->mem, f->socket, &f->uffd, &f->stream, &f->err);
}

static void *handle(void *arg)
{
	struct fixture *f = arg;

	f->served =
		fault_handler_accept(&f->handler, f->listener, f->memory_fd);
	if (!f->served)
		f->served = fault_handler_serve(&f->handler);
	return NULL;
}

/* Not every place where tests run has userfaultfd. */
static void start(struct fixture *f)
{
	int ret;

	f->listener = fault_handler_listen(f->socket);
	assert_true(f->listener >= 0);
	ret = attach(f);
	if (ret == -EPERM || ret == -ENOSYS)
		skip();
	if (ret)
		fail_msg("%s", f->err.text);
	assert_int_equal(pthread_create(&f->thread, NULL, handle, f), 0);
}

/* The end of the stream is the end of the handler. */
static void stop(struct fixture *f)
{
	close_fd(&f->stream);
	assert_int_equal(pthread_join(f->thread, NULL), 0);
	assert_int_equal(f->served, 0);
}

static void test_attach_says_where_the_regions_are(void **state)
{
	struct fixture *f = *state;
	const struct gmem_region *low = gmem_region(f->mem, 0);
	const struct gmem_region *high = gmem_region(f->mem, 1);
	char expected[512];

	start(f);
	assert_true(fcntl(f->uffd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(f->uffd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(f->stream, F_GETFD) & FD_CLOEXEC);
	stop(f);
	snprintf(expected, sizeof(expected),
		 "[{\"base_host_virt_addr\":%" PRIuPTR
		 ",\"size\":2097152,\"offset\":0,\"page_size\":4096,"
		 "\"page_size_kib\":4096},{\"base_host_virt_addr\":%" PRIuPTR
		 ",\"size\":2097152,\"offset\":2097152,\"page_size\":4096,"
		 "\"page_size_kib\":4096}]",
		 (uintptr_t)low->hva, (uintptr_t)high->hva);
	assert_string_equal(f->handler.message, expected);
	fault_handler_release(&f->handler);
}

static void test_missing_pages_come_from_the_handler(void **state)
{
	struct fixture *f = *state;
	const struct gmem_region *low = gmem_region(f->mem, 0);
	char buf[5] = "";

	start(f);
	assert_int_equal(gmem_read(f->mem, HIGH, buf, 4), 0);
	assert_string_equal(buf, "high");
	assert_int_equal(gmem_write(f->mem, 0x1001, "O", 1), 0);
	assert_int_equal(gmem_read(f->mem, 0x1000, buf, 4), 0);
	assert_string_equal(buf, "lOw");
	assert_int_equal(gmem_populate(f->mem, 0x5000, 0x2000, false), 0);
	/* What was given back is zero when it is asked for again. */
	assert_int_equal(madvise(low->hva + 0x1000, 0x1000, MADV_DONTNEED), 0);
	assert_int_equal(gmem_read(f->mem, 0x1000, buf, 3), 0);
	assert_memory_equal(buf, "\0\0\0", 3);
	stop(f);
	assert_int_equal(f->handler.served, 5);
	assert_int_equal(f->handler.removes, 1);
	fault_handler_release(&f->handler);
}

static void test_full_file_is_complete(void **state)
{
	struct fixture *f = *state;
	const struct memory_file_request request = {.path = f->copy,
						    .kind = MEMORY_FULL};
	struct memory_file_stats stats;
	char buf[5] = "";
	int fd;

	start(f);
	assert_int_equal(gmem_write(f->mem, 0x3000, "mine", 4), 0);
	assert_int_equal(
		memory_file_write(f->mem, &request, NULL, &stats, &f->err), 0);
	stop(f);
	assert_int_equal(stats.pages_written, 3);
	fd = open(f->copy, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, buf, 4, 0x3000), 4);
	assert_string_equal(buf, "mine");
	assert_int_equal(pread(fd, buf, 4, LOW_LEN), 4);
	assert_string_equal(buf, "high");
	assert_int_equal(lseek(fd, 0, SEEK_END), SIZE);
	close(fd);
	fault_handler_release(&f->handler);
}

static void test_diff_file_asks_for_nothing(void **state)
{
	struct fixture *f = *state;
	const struct memory_file_request request = {.path = f->copy,
						    .kind = MEMORY_DIFF};
	struct memory_file_stats stats;

	start(f);
	assert_int_equal(gmem_write(f->mem, 0x3000, "mine", 4), 0);
	assert_int_equal(
		memory_file_write(f->mem, &request, NULL, &stats, &f->err), 0);
	stop(f);
	assert_int_equal(stats.pages_written, 1);
	assert_int_equal(f->handler.served, 1);
	fault_handler_release(&f->handler);
}

/* Neither asks for what was given back: it is zeros, and stays away. */
static void test_files_of_what_was_given_back_are_zeros(void **state)
{
	struct fixture *f = *state;
	const struct memory_file_request full = {.path = f->copy,
						 .kind = MEMORY_FULL};
	const struct memory_file_request diff = {.path = f->copy,
						 .kind = MEMORY_DIFF};
	struct memory_file_stats stats;
	char buf[5] = "";
	int fd;

	start(f);
	assert_int_equal(gmem_discard(f->mem, 0x1000, 0x3000), 0);
	assert_int_equal(gmem_write(f->mem, 0x2000, "mine", 4), 0);
	assert_int_equal(
		memory_file_write(f->mem, &full, NULL, &stats, &f->err), 0);
	fd = open(f->copy, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, buf, 3, 0x1000), 3);
	assert_memory_equal(buf, "\0\0\0", 3);
	assert_int_equal(pread(fd, buf, 4, 0x2000), 4);
	assert_memory_equal(buf, "mine", 4);
	assert_int_equal(pread(fd, buf, 4, LOW_LEN), 4);
	assert_memory_equal(buf, "high", 4);
	close(fd);
	assert_int_equal(unlink(f->copy), 0);
	/* All others had to be asked for; the diff asks for none. */
	assert_int_equal(f->handler.served, SIZE / PAGE_SIZE_4K - 2);
	assert_int_equal(
		memory_file_write(f->mem, &diff, NULL, &stats, &f->err), 0);
	stop(f);
	assert_int_equal(f->handler.served, SIZE / PAGE_SIZE_4K - 2);
	assert_int_equal(f->handler.removes, 1);
	assert_int_equal(stats.pages_written, SIZE / PAGE_SIZE_4K);
	fault_handler_release(&f->handler);
}

static void test_attach_without_a_handler_is_refused(void **state)
{
	struct fixture *f = *state;
	int ret = attach(f);

	if (ret == -EPERM || ret == -ENOSYS)
		skip();
	assert_int_equal(ret, -ENOENT);
	assert_string_equal(f->err.text,
			    "Failed to connect to UDS Unix stream: No such "
			    "file or directory (os error 2)");
	f->listener = fault_handler_listen(f->socket);
	close_fd(&f->listener);
	assert_int_equal(attach(f), -ECONNREFUSED);
	assert_string_equal(f->err.text,
			    "Failed to connect to UDS Unix stream: Connection "
			    "refused (os error 111)");
	assert_int_equal(f->uffd, -1);
	assert_int_equal(f->stream, -1);
}

static void test_attach_path_too_long_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[200];
	int ret;

	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	ret = uffd_attach(f->mem, path, &f->uffd, &f->stream, &f->err);
	if (ret == -EPERM || ret == -ENOSYS)
		skip();
	assert_int_equal(ret, -EINVAL);
	assert_string_equal(f->err.text,
			    "Failed to connect to UDS Unix stream: path must "
			    "be shorter than SUN_LEN");
}

static void test_attach_to_a_full_queue_ends(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret;

	strcpy(addr.sun_path, f->socket);
	f->listener = fault_handler_listen(f->socket);
	assert_int_equal(listen(f->listener, 0), 0);
	assert_int_equal(connect(waiting, (void *)&addr, sizeof(addr)), 0);
	ret = attach(f);
	close(waiting);
	if (ret == -EPERM || ret == -ENOSYS)
		skip();
	assert_int_equal(ret, -EAGAIN);
	assert_non_null(strstr(f->err.text, "Resource temporarily unavailable "
					    "(os error 11)"));
}

/* A handler that took the descriptor and never serves: whoever brings pages in
 * waits for it, until the memory is let go. */
static void test_detach_ends_the_wait_for_a_dead_handler(void **state)
{
	struct fixture *f = *state;
	uint64_t all[SIZE / PAGE_SIZE_4K / 64] = {0},
					   none[ARRAY_SIZE(all)] = {0};
	struct working_set_pages pages = {all, none, NULL, 1};
	struct prefetch *prefetch;
	uint32_t word = 1;
	int ret;

	f->listener = fault_handler_listen(f->socket);
	ret = attach(f);
	if (ret == -EPERM || ret == -ENOSYS)
		skip();
	assert_int_equal(ret, 0);
	memset(all, 0xff, sizeof(all));
	assert_int_equal(working_set_save(f->mem, &pages, f->copy, &f->err), 0);
	assert_int_equal(prefetch_create(&prefetch, f->mem, f->copy,
					 PREFETCH_BESIDE, NULL, &f->err),
			 0);
	prefetch_begin(prefetch);
	uffd_detach(f->mem, f->uffd);
	prefetch_destroy(prefetch);
	/* What nobody filled is empty. */
	assert_int_equal(gmem_read(f->mem, 0x1000, &word, sizeof(word)), 0);
	assert_int_equal(word, 0);
	uffd_detach(f->mem, f->uffd); /* once more does no harm */
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_attach_says_where_the_regions_are),
		test(test_missing_pages_come_from_the_handler),
		test(test_full_file_is_complete),
		test(test_diff_file_asks_for_nothing),
		test(test_files_of_what_was_given_back_are_zeros),
		test(test_attach_without_a_handler_is_refused),
		test(test_attach_path_too_long_is_refused),
		test(test_attach_to_a_full_queue_ends),
		test(test_detach_ends_the_wait_for_a_dead_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
