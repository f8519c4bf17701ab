/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cgroups.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_join_none_is_fine(void **state)
{
	struct cgroups cgroups = {0};

	(void)state;
	assert_int_equal(cgroups_join(&cgroups, NULL), 0);
}

static void test_join_writes_to_each_and_closes(void **state)
{
	struct cgroups cgroups = {.count = 2};
	int a[2], b[2];
	char text[4];

	(void)state;
	assert_int_equal(pipe2(a, O_NONBLOCK), 0);
	assert_int_equal(pipe2(b, O_NONBLOCK), 0);
	cgroups.fds[0] = a[1];
	cgroups.fds[1] = b[1];
	assert_int_equal(cgroups_join(&cgroups, NULL), 0);
	assert_int_equal(read(a[0], text, sizeof(text)), 1);
	assert_int_equal(text[0], '0');
	assert_int_equal(read(b[0], text, sizeof(text)), 1);
	assert_int_equal(text[0], '0');
	assert_false(is_open(a[1]) || is_open(b[1]));
	assert_int_equal(cgroups.count, 0);
	close(a[0]);
	close(b[0]);
}

/* /dev/full refuses as a cgroup without room does. */
static void test_join_that_fails_can_be_tried_again(void **state)
{
	struct cgroups cgroups = {.count = 2};
	struct error err = {0};
	int full = open("/dev/full", O_WRONLY);
	int null = open("/dev/null", O_WRONLY);
	int last = open("/dev/null", O_WRONLY);

	(void)state;
	cgroups.fds[0] = full;
	cgroups.fds[1] = last;
	assert_int_equal(cgroups_join(&cgroups, &err), -ENOSPC);
	assert_string_equal(err.text,
			    "The microVM cannot be moved into its cgroup: No "
			    "space left on device (os error 28)");
	assert_false(is_open(last));
	assert_true(is_open(full));
	assert_int_equal(cgroups_join(&cgroups, &err), -ENOSPC);
	assert_int_equal(dup2(null, full), full);
	assert_int_equal(cgroups_join(&cgroups, &err), 0);
	assert_int_equal(cgroups.count, 0);
	close(null);
}

static void test_has_tells_other_files(void **state)
{
	int fd = open("/dev/null", O_WRONLY);

	(void)state;
	assert_false(cgroups_has(fd));
	close(fd);
	assert_false(cgroups_has(fd));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_join_none_is_fine),
		cmocka_unit_test(test_join_writes_to_each_and_closes),
		cmocka_unit_test(test_join_that_fails_can_be_tried_again),
		cmocka_unit_test(test_has_tells_other_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
