/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/args.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ARGV_MAX 40
#define NEEDED "--id a --uid 1 --gid 2 --exec-file /x "

/* Splits @line at spaces into argv; the words live as long as @line. */
static int parse(struct jail_args *args, char *line, struct error *err)
{
	static char *argv[ARGV_MAX];
	char *save = NULL;
	int argc = 0;

	argv[argc++] = (char[]){"ember-jailer"};
	for (char *word = strtok_r(line, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	return jail_args_parse(args, argc, argv, err);
}

static void test_jail_args_parse_needed_ones_give_defaults(void **state)
{
	char line[] = NEEDED;
	struct jail_args args;

	(void)state;
	assert_int_equal(parse(&args, line, NULL), 0);
	assert_string_equal(args.id, "a");
	assert_string_equal(args.exec_file, "/x");
	assert_int_equal(args.uid, 1);
	assert_int_equal(args.gid, 2);
	assert_string_equal(args.chroot_base_dir, "/srv/jailer");
	assert_null(args.netns);
	assert_null(args.parent_cgroup);
	assert_int_equal(args.cgroup_version, 1);
	assert_int_equal(args.exec_by, JAIL_EXEC_COPY);
	assert_false(args.limits.has_fsize);
	assert_int_equal(args.limits.no_file, 2048);
	assert_false(args.daemonize || args.new_pid_ns || args.cleanup);
	assert_int_equal(args.extra_count, 0);
}

static void test_jail_args_parse_limits_and_words_become_values(void **state)
{
	char line[] = NEEDED "--resource-limit fsize=0 --exec-by bind "
			     "--resource-limit no-file=5 "
			     "--resource-limit no-file=18446744073709551615";
	struct jail_args args;

	(void)state;
	assert_int_equal(parse(&args, line, NULL), 0);
	assert_true(args.limits.has_fsize);
	assert_int_equal(args.limits.fsize, 0);
	assert_true(args.limits.no_file == UINT64_MAX);
	assert_int_equal(args.exec_by, JAIL_EXEC_BIND);
}

static void test_jail_args_parse_rest_is_the_monitor_s(void **state)
{
	char line[] = NEEDED "--daemonize -- --uid x --help";
	struct jail_args args;

	(void)state;
	assert_int_equal(parse(&args, line, NULL), 0);
	assert_true(args.daemonize);
	assert_int_equal(args.extra_count, 3);
	assert_string_equal(args.extra[0], "--uid");
	assert_string_equal(args.extra[2], "--help");
	assert_false(args.help);
}

static void test_jail_args_parse_cleanup_needs_no_ids(void **state)
{
	char line[] = "--cleanup --id a --exec-file /x";
	char without[] = "--id a --exec-file /x";
	struct error err = {0};
	struct jail_args args;

	(void)state;
	assert_int_equal(parse(&args, line, NULL), 0);
	assert_true(args.cleanup);
	assert_int_equal(parse(&args, without, &err), -EINVAL);
	assert_string_equal(err.text, "Argument 'uid' required, but not "
				      "found.");
}

static void test_jail_args_parse_no_id_means_as_it_is(void **state)
{
	static const struct {
		const char *line;
		int ret;
	} cases[] = {
		{"--id a --exec-file /x --uid 4294967294 --gid 4294967294", 0},
		{"--id a --exec-file /x --uid 4294967295 --gid 1", -EINVAL},
		{"--id a --exec-file /x --uid 1 --gid 4294967295", -EINVAL},
		{"--id a --exec-file /x --uid 4294967296 --gid 1", -EINVAL},
		{"--id a --exec-file /x --uid 0 --gid 0", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct jail_args args;
		char line[100];

		snprintf(line, sizeof(line), "%s", cases[i].line);
		assert_int_equal(parse(&args, line, NULL), cases[i].ret);
	}
}

static void test_jail_args_parse_bad_values_say_why(void **state)
{
	static const struct {
		const char *line, *text;
	} cases[] = {
		{"--cgroup x", "Invalid format for cgroups: 'x' is not "
			       "FILE=VALUE with one '='."},
		{"--cgroup cpu.shares=1 --cgroup x=1",
		 "Invalid file for cgroups: 'x' is not CONTROLLER.NAME."},
		{"--cgroup-version 3",
		 "Invalid cgroup version 3: there are 1 and 2."},
		{"--parent-cgroup a/../b",
		 "Invalid parent cgroup: 'a/../b' is not a relative path "
		 "without '.' and '..'."},
		{"--resource-limit no-file=x",
		 "Invalid format for resources: 'no-file=x' is neither "
		 "fsize=BYTES nor no-file=NUMBER."},
		{"--resource-limit fsiz=1",
		 "Invalid format for resources: 'fsiz=1' is neither "
		 "fsize=BYTES nor no-file=NUMBER."},
		{"--exec-by hand", "'hand' of argument 'exec-by' is none of: "
				   "copy, link, bind."},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct jail_args args;
		struct error err = {0};
		char line[200];

		snprintf(line, sizeof(line), NEEDED "%s", cases[i].line);
		assert_int_equal(parse(&args, line, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].text);
	}
}

static void test_jail_args_print_help_names_every_option(void **state)
{
	char text[8192] = {0};
	FILE *out = fmemopen(text, sizeof(text), "w");

	(void)state;
	assert_non_null(out);
	jail_args_print_help(out);
	fclose(out);
	assert_non_null(strstr(text, "--cgroup-version"));
	assert_non_null(strstr(text, "--cleanup"));
	assert_non_null(strstr(text, "--version"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_jail_args_parse_needed_ones_give_defaults),
		cmocka_unit_test(
			test_jail_args_parse_limits_and_words_become_values),
		cmocka_unit_test(test_jail_args_parse_rest_is_the_monitor_s),
		cmocka_unit_test(test_jail_args_parse_cleanup_needs_no_ids),
		cmocka_unit_test(test_jail_args_parse_no_id_means_as_it_is),
		cmocka_unit_test(test_jail_args_parse_bad_values_say_why),
		cmocka_unit_test(test_jail_args_print_help_names_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
