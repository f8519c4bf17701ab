/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGV_MAX 12

/* Splits @line at spaces into argv; the program name is added. */
static int parse(struct options *options, char *line, struct error *err)
{
	char *argv[ARGV_MAX] = {(char[]){"ember"}};
	char *save = NULL;
	int argc = 1;

	for (char *word = strtok_r(line, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	return options_parse(options, argc, argv, err);
}

static void test_options_parse_nothing_gives_defaults(void **state)
{
	char line[] = "";
	struct options options;

	(void)state;
	assert_int_equal(parse(&options, line, NULL), 0);
	assert_string_equal(options.api_sock, "/run/firecracker.socket");
	assert_string_equal(options.id, "anonymous-instance");
	assert_int_equal(options.max_payload, 51200);
	assert_int_equal(options.backing, GMEM_ANONYMOUS);
	assert_null(options.config_file);
	assert_false(options.no_api || options.no_seccomp ||
		     options.boot_timer);
}

static void test_options_parse_every_kind_is_stored(void **state)
{
	char line[] = "--no-seccomp --id vm-1 --api-sock /tmp/s "
		      "--http-api-max-payload-size 7 --memory-backing memfd";
	struct options options;

	(void)state;
	assert_int_equal(parse(&options, line, NULL), 0);
	assert_true(options.no_seccomp);
	assert_string_equal(options.id, "vm-1");
	assert_string_equal(options.api_sock, "/tmp/s");
	assert_int_equal(options.max_payload, 7);
	assert_int_equal(options.backing, GMEM_MEMFD);
}

static void test_options_parse_words_become_values(void **state)
{
	char line[] = "--restore s --mem m --working-set w --prefetch copy "
		      "--record-working-set r";
	char other[] = "--restore s --mem m --record-working-set r "
		       "--record-until request";
	struct options options;

	(void)state;
	assert_int_equal(parse(&options, line, NULL), 0);
	assert_int_equal(options.prefetch_at, PREFETCH_COPY);
	assert_int_equal(options.record_until, RECORD_UNTIL_ACCEPT);
	assert_int_equal(parse(&options, other, NULL), 0);
	assert_int_equal(options.prefetch_at, PREFETCH_BESIDE);
	assert_int_equal(options.record_until, RECORD_UNTIL_ASKED);
}

static void test_options_parse_metadata_limit_may_be_zero(void **state)
{
	static const struct {
		const char *line;
		uint64_t limit;
	} cases[] = {
		{"", 51200},
		{"--http-api-max-payload-size 7", 7},
		{"--mmds-size-limit 9 --http-api-max-payload-size 7", 9},
		{"--mmds-size-limit 0", 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct options options;
		char line[80];

		snprintf(line, sizeof(line), "%s", cases[i].line);
		assert_int_equal(parse(&options, line, NULL), 0);
		assert_int_equal(options.metadata_limit, cases[i].limit);
	}
}

static void test_options_parse_double_dash_ends_arguments(void **state)
{
	char line[] = "--id a -- --nonsense";
	struct options options;

	(void)state;
	assert_int_equal(parse(&options, line, NULL), 0);
	assert_string_equal(options.id, "a");
}

static void test_options_parse_help_wins_over_mistakes(void **state)
{
	char line[] = "--nonsense --help";
	char short_form[] = "-h";
	struct options options;

	(void)state;
	assert_int_equal(parse(&options, line, NULL), 0);
	assert_true(options.help);
	assert_int_equal(parse(&options, short_form, NULL), 0);
	assert_true(options.help);
}

static void test_options_parse_bad_lines_say_why(void **state)
{
	static const struct {
		const char *line, *text;
	} cases[] = {
		{"--nonsense", "Found argument 'nonsense' which wasn't "
			       "expected, or isn't valid in this context."},
		{"word", "Found argument 'word' which wasn't expected, or "
			 "isn't valid in this context."},
		{"--id=x", "Found argument 'id=x' which wasn't expected, or "
			   "isn't valid in this context."},
		{"--id", "The argument 'id' requires a value, but none was "
			 "supplied."},
		{"--id --no-api", "The argument 'id' requires a value, but "
				  "none was supplied."},
		{"--id a --id b",
		 "The argument 'id' was provided more than once."},
		{"--no-api", "Argument 'config-file' required, but not found."},
		{"--start-time-us -3",
		 "'-3' of argument 'start-time-us' is not a number."},
		{"--start-time-us 99999999999999999999",
		 "'99999999999999999999' of argument 'start-time-us' is not "
		 "a number."},
		{"--memory-backing disk", "'disk' of argument 'memory-backing' "
					  "is none of: anonymous, memfd."},
		{"--restore s --mem m --working-set w --prefetch now",
		 "'now' of argument 'prefetch' is none of: beside, before, "
		 "copy."},
		{"--restore s --mem m --prefetch copy",
		 "Argument 'working-set' required, but not found."},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct options options;
		struct error err = {0};
		char line[80];

		snprintf(line, sizeof(line), "%s", cases[i].line);
		assert_int_equal(parse(&options, line, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].text);
	}
}

static void test_options_parse_ready_fd_must_be_handed_over(void **state)
{
	static const char *const bad[] = {"0", "1", "2", "4294967299"};
	struct options options;
	struct error err = {0};
	char line[40];
	int ends[2];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(line, sizeof(line), "--ready-fd %s", bad[i]);
		assert_int_equal(parse(&options, line, &err), -EINVAL);
	}
	assert_string_equal(err.text,
			    "'4294967299' of argument 'ready-fd' is no "
			    "descriptor to write to, from 3 on, that was "
			    "handed over.");
	assert_int_equal(pipe(ends), 0);
	snprintf(line, sizeof(line), "--ready-fd %d", ends[1]);
	assert_int_equal(parse(&options, line, &err), 0);
	assert_int_equal(options.ready_fd, ends[1]);
	snprintf(line, sizeof(line), "--ready-fd %d", ends[0]);
	assert_int_equal(parse(&options, line, &err), -EINVAL);
	close(ends[0]);
	close(ends[1]);
	snprintf(line, sizeof(line), "--ready-fd %d", ends[1]);
	assert_int_equal(parse(&options, line, &err), -EINVAL);
}

static void test_options_parse_cgroup_fd_must_be_of_a_cgroup(void **state)
{
	struct options options;
	struct error err = {0};
	char line[40];
	int ends[2];

	(void)state;
	strcpy(line, "--cgroup-fd x");
	assert_int_equal(parse(&options, line, &err), -EINVAL);
	assert_string_equal(err.text,
			    "'x' of argument 'cgroup-fd' is not a number.");
	strcpy(line, "--cgroup-fd 1");
	assert_int_equal(parse(&options, line, &err), -EINVAL);
	assert_string_equal(err.text, "'1' of argument 'cgroup-fd' is no "
				      "descriptor to write to, from 3 on, that "
				      "was handed over.");
	assert_int_equal(pipe(ends), 0);
	snprintf(line, sizeof(line), "--cgroup-fd %d", ends[1]);
	assert_int_equal(parse(&options, line, &err), -EINVAL);
	assert_non_null(strstr(err.text, "' of argument 'cgroup-fd' is no file "
					 "of a cgroup."));
	close(ends[0]);
	close(ends[1]);
}

static void test_options_check_id_limits(void **state)
{
	char long_id[66];
	struct error err = {0};

	(void)state;
	memset(long_id, 'a', sizeof(long_id));
	long_id[65] = '\0';
	assert_int_equal(options_check_id(long_id, &err), -EINVAL);
	long_id[64] = '\0';
	assert_int_equal(options_check_id(long_id, &err), 0);
	assert_int_equal(options_check_id("", &err), -EINVAL);
	assert_string_equal(err.text,
			    "Invalid instance ID: Invalid len (0);  the length "
			    "must be between 1 and 64");
	assert_int_equal(options_check_id("a_b", &err), -EINVAL);
	assert_string_equal(
		err.text,
		"Invalid instance ID: Invalid char (_) at position 1");
}

static void test_options_print_help_names_every_option(void **state)
{
	char text[4096] = {0};
	FILE *out = fmemopen(text, sizeof(text), "w");

	(void)state;
	assert_non_null(out);
	options_print_help(out);
	fclose(out);
	assert_non_null(strstr(text, "--api-sock"));
	assert_non_null(strstr(text, "--version"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_parse_nothing_gives_defaults),
		cmocka_unit_test(test_options_parse_every_kind_is_stored),
		cmocka_unit_test(test_options_parse_words_become_values),
		cmocka_unit_test(test_options_parse_metadata_limit_may_be_zero),
		cmocka_unit_test(test_options_parse_double_dash_ends_arguments),
		cmocka_unit_test(test_options_parse_help_wins_over_mistakes),
		cmocka_unit_test(test_options_parse_bad_lines_say_why),
		cmocka_unit_test(
			test_options_parse_ready_fd_must_be_handed_over),
		cmocka_unit_test(
			test_options_parse_cgroup_fd_must_be_of_a_cgroup),
		cmocka_unit_test(test_options_check_id_limits),
		cmocka_unit_test(test_options_print_help_names_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
