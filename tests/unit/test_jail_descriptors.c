/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Above what a test program or a sanitizer has open. */
#define LOW 100
#define HIGH 117

static int open_at(void **state)
{
	(void)state;
	return dup2(STDERR_FILENO, LOW) == LOW &&
			       dup2(STDERR_FILENO, HIGH) == HIGH
		       ? 0
		       : -1;
}

static int close_at(void **state)
{
	(void)state;
	close(LOW);
	close(HIGH);
	return 0;
}

static void test_parse_sorts(void **state)
{
	const struct argument_list list = {{"117", "100"}, 2};
	int fds[ARGUMENT_LIST_MAX];

	(void)state;
	assert_int_equal(descriptors_parse(&list, fds, NULL), 0);
	assert_int_equal(fds[0], LOW);
	assert_int_equal(fds[1], HIGH);
}

static void test_parse_refuses_with_a_sentence(void **state)
{
	static const struct {
		struct argument_list list;
		const char *text;
	} cases[] = {
		{{{"2"}, 1},
		 "'2' of argument 'keep-fd' is no descriptor from 3 on."},
		{{{""}, 1},
		 "'' of argument 'keep-fd' is no descriptor from 3 on."},
		{{{"-1"}, 1},
		 "'-1' of argument 'keep-fd' is no descriptor from 3 on."},
		{{{"100x"}, 1},
		 "'100x' of argument 'keep-fd' is no descriptor from 3 on."},
		{{{"4294967396"}, 1},
		 "'4294967396' of argument 'keep-fd' is no descriptor from 3 "
		 "on."},
		{{{"100", "101"}, 2},
		 "Descriptor 101 of argument 'keep-fd' is not open."},
		{{{"100", "117", "100"}, 3},
		 "Descriptor 100 was given to argument 'keep-fd' more than "
		 "once."},
	};
	int fds[ARGUMENT_LIST_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};

		assert_int_equal(descriptors_parse(&cases[i].list, fds, &err),
				 -EINVAL);
		assert_string_equal(err.text, cases[i].text);
	}
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* In a child: what a test program has open is not ours to close. */
static int close_in_child(const int *fds, size_t count)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		int good = descriptors_close(fds, count, NULL) == 0;
		int open = 0;

		for (int fd = 3; fd <= HIGH + 1; fd++)
			open += is_open(fd);
		for (size_t i = 0; i < count; i++)
			good &= is_open(fds[i]);
		_exit(good && is_open(STDERR_FILENO) ? open : 99);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_close_leaves_what_it_is_told(void **state)
{
	static const int both[] = {LOW, HIGH}, low[] = {LOW}, three[] = {3};
	int fd = is_open(3) ? -1 : dup2(STDERR_FILENO, 3);

	(void)state;
	assert_int_equal(close_in_child(NULL, 0), 0);
	assert_int_equal(close_in_child(low, 1), 1);
	assert_int_equal(close_in_child(both, 2), 2);
	assert_int_equal(close_in_child(three, 1), 1);
	if (fd >= 0)
		close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_sorts),
		cmocka_unit_test(test_parse_refuses_with_a_sentence),
		cmocka_unit_test(test_close_leaves_what_it_is_told),
	};

	return cmocka_run_group_tests(tests, open_at, close_at);
}
