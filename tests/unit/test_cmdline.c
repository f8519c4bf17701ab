/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmdline.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_init_without_arguments_takes_the_default(void **state)
{
	struct cmdline cmdline;

	(void)state;
	assert_int_equal(cmdline_init(&cmdline, NULL, NULL), 0);
	assert_string_equal(cmdline.text, cmdline_default);
	assert_int_equal(cmdline_init(&cmdline, "", NULL), 0);
	assert_string_equal(cmdline.text, "");
}

static void test_init_bad_text_is_refused(void **state)
{
	char text[2050];
	struct cmdline cmdline;
	struct error err = {0};

	(void)state;
	memset(text, 'a', sizeof(text));
	text[2047] = '\0';
	assert_int_equal(cmdline_init(&cmdline, text, &err), 0);
	text[2047] = 'a';
	text[2048] = '\0';
	assert_int_equal(cmdline_init(&cmdline, text, &err), -EINVAL);
	assert_int_equal(cmdline_init(&cmdline, "a\nb", &err), -EINVAL);
	assert_int_equal(cmdline_init(&cmdline, "\xc3\xa4", &err), -EINVAL);
	assert_non_null(
		strstr(err.text, "The kernel command line is invalid: "));
}

static void test_append_goes_before_the_separator(void **state)
{
	static const struct {
		const char *before, *after;
	} cases[] = {
		{"", "x=1"},
		{"a", "a x=1"},
		{"a -- b", "a x=1 -- b"},
		{"-- b", "x=1 -- b"},
		{"a --", "a x=1 --"},
		{"a --b c-- d", "a --b c-- d x=1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cmdline cmdline;

		assert_int_equal(cmdline_init(&cmdline, cases[i].before, NULL),
				 0);
		assert_int_equal(cmdline_append(&cmdline, NULL, "x=%d", 1), 0);
		assert_string_equal(cmdline.text, cases[i].after);
		assert_int_equal(cmdline.len, strlen(cases[i].after));
	}
}

static void test_append_over_the_limit_changes_nothing(void **state)
{
	struct cmdline cmdline;
	char text[2048];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[2043] = '\0';
	assert_int_equal(cmdline_init(&cmdline, text, NULL), 0);
	assert_int_equal(cmdline_append(&cmdline, NULL, "abcd"), -EINVAL);
	assert_string_equal(cmdline.text, text);
	assert_int_equal(cmdline_append(&cmdline, NULL, "abc"), 0);
	assert_int_equal(cmdline.len, 2047);
	assert_int_equal(cmdline_append(&cmdline, NULL, "%s", "a\tb"), -EINVAL);
}

static void test_has_finds_whole_words_of_the_kernel_part(void **state)
{
	struct cmdline cmdline;

	(void)state;
	assert_int_equal(
		cmdline_init(&cmdline, "noapics acpi=off x -- noapic", NULL),
		0);
	assert_true(cmdline_has(&cmdline, "acpi=off"));
	assert_true(cmdline_has(&cmdline, "x"));
	assert_false(cmdline_has(&cmdline, "noapic"));
	assert_false(cmdline_has(&cmdline, "acpi"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init_without_arguments_takes_the_default),
		cmocka_unit_test(test_init_bad_text_is_refused),
		cmocka_unit_test(test_append_goes_before_the_separator),
		cmocka_unit_test(test_append_over_the_limit_changes_nothing),
		cmocka_unit_test(test_has_finds_whole_words_of_the_kernel_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
