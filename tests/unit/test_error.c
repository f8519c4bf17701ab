/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_set_formats_and_returns_code(void **state)
{
	struct error err = {.code = 99, .text = "old"};

	(void)state;
	assert_int_equal(error_set(&err, EINVAL, "no %s of %d", "port", 7),
			 -EINVAL);
	assert_int_equal(err.code, EINVAL);
	assert_string_equal(err.text, "no port of 7");
}

static void test_set_os_adds_text_and_number(void **state)
{
	static const struct {
		int code;
		const char *text;
	} cases[] = {
		{ENOENT, "Open x: No such file or directory (os error 2)"},
		{ENOMEM, "Open x: Out of memory (os error 12)"},
		{EBUSY, "Open x: Resource busy (os error 16)"},
		{EMFILE, "Open x: No file descriptors available (os error 24)"},
		{ENOTTY, "Open x: Not a tty (os error 25)"},
		{4000, "Open x: No error information (os error 4000)"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err;

		assert_int_equal(
			error_set_os(&err, cases[i].code, "Open %s:", "x"),
			-cases[i].code);
		assert_int_equal(err.code, cases[i].code);
		assert_string_equal(err.text, cases[i].text);
	}
}

static void test_prefix_goes_in_front(void **state)
{
	struct error err;

	(void)state;
	error_set(&err, EIO, "inner %d%%", 5);
	assert_int_equal(error_prefix(&err, "Outer %d: ", 1), -EIO);
	assert_int_equal(error_prefix(&err, "Request: "), -EIO);
	assert_string_equal(err.text, "Request: Outer 1: inner 5%");
}

static void test_texts_too_long_are_cut(void **state)
{
	char text[2 * ERROR_TEXT_MAX];
	struct error err;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	error_set(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
	error_prefix(&err, "ab");
	assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
	assert_memory_equal(err.text, "abx", 3);
	error_prefix(&err, "%s", text);
	error_set_os(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
}

static void test_missing_error_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, EINVAL, "x"), -EINVAL);
	assert_int_equal(error_set_os(NULL, EIO, "x:"), -EIO);
	assert_true(error_prefix(NULL, "x") < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_formats_and_returns_code),
		cmocka_unit_test(test_set_os_adds_text_and_number),
		cmocka_unit_test(test_prefix_goes_in_front),
		cmocka_unit_test(test_texts_too_long_are_cut),
		cmocka_unit_test(test_missing_error_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
