/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#define TIME                                                                   \
	"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9} "
#define THREADS 4
#define LINES_EACH 200
#define S UINT64_C(1000000000)

struct fixture {
	char path[32];
	struct log_config config;
	char text[128 * 1024];
};

static void configure(struct fixture *f)
{
	struct error err;

	assert_int_equal(log_configure(&f->config, &err), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->path, "/tmp/ember-log-XXXXXX");
	close(mkstemp(f->path));
	f->config =
		(struct log_config){.path = f->path, .level = LOG_LEVEL_INFO};
	log_set_id("id-1");
	configure(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	free(f);
	return 0;
}

static const char *content(struct fixture *f)
{
	AUTO_CLOSE int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = read(fd, f->text, sizeof(f->text) - 1);

	assert_true(n >= 0);
	f->text[n] = '\0';
	return f->text;
}

static size_t count_lines(const char *text)
{
	size_t lines = 0;

	for (; (text = strchr(text, '\n')); text++)
		lines++;
	return lines;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t regex;
	int ret;

	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	ret = regexec(&regex, text, 0, NULL, 0);
	regfree(&regex);
	if (ret)
		fail_msg("%s does not match %s", text, pattern);
}

static void test_level_parse_names_ignore_case(void **state)
{
	static const struct {
		const char *name;
		bool known;
		enum log_level level;
	} cases[] = {
		{"Off", true, LOG_LEVEL_OFF},
		{"error", true, LOG_LEVEL_ERROR},
		{"WARN", true, LOG_LEVEL_WARN},
		{"Warning", true, LOG_LEVEL_WARN},
		{"Info", true, LOG_LEVEL_INFO},
		{"dEbUg", true, LOG_LEVEL_DEBUG},
		{"TRACE", true, LOG_LEVEL_TRACE},
		{"", false, 0},
		{"Infos", false, 0},
		{"Err", false, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum log_level level = LOG_LEVEL_TRACE;

		assert_int_equal(log_level_parse(cases[i].name, &level),
				 cases[i].known);
		assert_int_equal(level, cases[i].known ? cases[i].level
						       : LOG_LEVEL_TRACE);
	}
}

static void test_write_head_shows_what_is_asked(void **state)
{
	struct fixture *f = *state;
	static const struct {
		bool level, origin;
		const char *pattern;
	} cases[] = {
		{false, false, TIME "\\[id-1:unit\\] one 1\n$"},
		{true, false, TIME "\\[id-1:unit:WARN\\] one 1\n$"},
		{false, true,
		 TIME "\\[id-1:unit:tests/unit/test_log.c:[0-9]+\\] one 1\n$"},
		{true, true,
		 TIME "\\[id-1:unit:WARN:[^:]+/[^:]+:[0-9]+\\] one 1\n$"},
	};

	pthread_setname_np(pthread_self(), "unit");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(truncate(f->path, 0), 0);
		f->config.show_level = cases[i].level;
		f->config.show_origin = cases[i].origin;
		configure(f);
		log_warn("one %d", 1);
		assert_matches(content(f), cases[i].pattern);
	}
}

static void test_write_time_is_local(void **state)
{
	struct fixture *f = *state;
	struct tm tm = {.tm_isdst = -1};

	setenv("TZ", "XYZ-5:30", 1);
	tzset();
	log_info("now");
	assert_non_null(strptime(content(f), "%Y-%m-%dT%H:%M:%S", &tm));
	assert_true(labs(mktime(&tm) - time(NULL)) < 60);
}

static void test_write_levels_above_are_left_out(void **state)
{
	struct fixture *f = *state;

	for (int level = LOG_LEVEL_OFF; level <= LOG_LEVEL_TRACE; level++) {
		assert_int_equal(truncate(f->path, 0), 0);
		f->config.level = (enum log_level)level;
		configure(f);
		log_error("e");
		log_warn("w");
		log_info("i");
		log_debug("d");
		log_at(LOG_LEVEL_TRACE, "t");
		assert_int_equal(count_lines(content(f)), level);
	}
}

static void test_write_module_is_a_prefix(void **state)
{
	struct fixture *f = *state;
	static const struct {
		char module[24];
		size_t lines;
	} cases[] = {
		{"", 2},     {"tests", 2},	  {"tests/unit/test_log.c", 1},
		{"unit", 0}, {"virtio/block", 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char module[24];

		strcpy(module, cases[i].module);
		assert_int_equal(truncate(f->path, 0), 0);
		f->config.module = module;
		configure(f);
		log_info("from here");
		log_write(LOG_LEVEL_INFO,
			  i < 4 ? "tests/other.c" : "virtio/block.c", 1, "x");
		assert_int_equal(count_lines(content(f)), cases[i].lines);
	}
}

static void test_write_long_message_is_cut_to_a_line(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(20000);

	memset(text, 'x', 19999);
	text[19999] = '\0';
	log_info("%s", text);
	free(text);
	log_info("next");
	assert_matches(content(f), TIME "\\[id-1:[^]]*\\] x+\n");
	assert_int_equal(count_lines(f->text), 2);
	assert_true(strlen(f->text) < 10000);
}

static void test_set_id_keeps_64_bytes(void **state)
{
	struct fixture *f = *state;
	char id[101] = {0};

	memset(id, 'a', 100);
	log_set_id(id);
	log_info("x");
	assert_matches(content(f), TIME "\\[a{64}:[^]]*\\] x\n$");
}

static void test_configure_bad_path_changes_nothing(void **state)
{
	struct fixture *f = *state;
	char missing[] = "/nonexistent/log", directory[] = "/tmp";
	char module[65] = {0};
	struct log_config bad = {.path = missing, .level = LOG_LEVEL_OFF};
	struct error err;

	assert_int_equal(log_configure(&bad, &err), -ENOENT);
	assert_string_equal(err.text, "Failed to open target file: No such "
				      "file or directory (os error 2)");
	bad.path = directory;
	assert_int_equal(log_configure(&bad, &err), -EISDIR);
	memset(module, 'm', 64);
	bad.path = NULL;
	bad.module = module;
	assert_int_equal(log_configure(&bad, &err), -EINVAL);
	log_info("still here");
	assert_int_equal(count_lines(content(f)), 1);
}

static void test_configure_without_path_keeps_target(void **state)
{
	struct fixture *f = *state;

	f->config.path = NULL;
	f->config.show_level = true;
	configure(f);
	log_info("x");
	assert_matches(content(f), ":INFO\\] x\n$");
}

static void test_write_fifo_without_reader_drops_when_full(void **state)
{
	struct fixture *f = *state;
	uint64_t missed = log_missed_count();

	unlink(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	configure(f);
	log_info("waits in the pipe");
	assert_int_equal(log_missed_count(), missed);
	for (int i = 0; i < 2000; i++)
		log_info("%0100d", i);
	assert_true(log_missed_count() > missed);
	assert_matches(content(f), TIME "\\[id-1:[^]]*\\] waits in the pipe\n");
}

static void *log_lines(void *arg)
{
	(void)arg;
	for (int i = 0; i < LINES_EACH; i++)
		log_info("%0100d", i);
	return NULL;
}

static void test_write_from_many_threads_keeps_lines_whole(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[THREADS];
	const char *line;

	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, log_lines, NULL), 0);
	/* The settings may change meanwhile. */
	f->config.path = NULL;
	for (size_t i = 0; i < 20; i++)
		configure(f);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	line = content(f);
	assert_int_equal(count_lines(line), THREADS * LINES_EACH);
	for (; *line; line = strchr(line, '\n') + 1)
		assert_memory_equal(strstr(line, "] ") + 2, "00000000", 8);
}

static void test_guest_messages_are_throttled_per_call_site(void **state)
{
	struct fixture *f = *state;
	uint64_t throttled = log_throttled_count();

	for (int i = 0; i < 25; i++)
		log_guest("loud %d", i);
	for (int i = 0; i < 5; i++)
		log_guest("quiet %d", i);
	assert_int_equal(count_lines(content(f)), 15);
	assert_int_equal(log_throttled_count() - throttled, 15);
}

static void test_throttle_new_window_says_what_was_lost(void **state)
{
	struct fixture *f = *state;
	struct log_throttle throttle = {0};

	for (int i = 0; i < 12; i++)
		assert_int_equal(log_throttle_pass(&throttle, "a/b.c", 1),
				 i < 10);
	assert_int_equal(count_lines(content(f)), 0);
	/* As if the window had begun longer ago. */
	atomic_fetch_sub(&throttle.window_start_ns, 5 * S);
	assert_true(log_throttle_pass(&throttle, "a/b.c", 1));
	assert_matches(content(f), "\\] 2 messages were suppressed here\n$");
	atomic_fetch_sub(&throttle.window_start_ns, 5 * S);
	assert_true(log_throttle_pass(&throttle, "a/b.c", 1));
	assert_int_equal(count_lines(content(f)), 1);
}

static void test_write_raw_has_no_head(void **state)
{
	struct fixture *f = *state;

	log_write_raw("the end\n");
	assert_string_equal(content(f), "the end\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_level_parse_names_ignore_case),
		CASE(test_write_head_shows_what_is_asked),
		CASE(test_write_time_is_local),
		CASE(test_write_levels_above_are_left_out),
		CASE(test_write_module_is_a_prefix),
		CASE(test_write_long_message_is_cut_to_a_line),
		CASE(test_set_id_keeps_64_bytes),
		CASE(test_configure_bad_path_changes_nothing),
		CASE(test_configure_without_path_keeps_target),
		CASE(test_write_fifo_without_reader_drops_when_full),
		CASE(test_write_from_many_threads_keeps_lines_whole),
		CASE(test_guest_messages_are_throttled_per_call_site),
		CASE(test_throttle_new_window_says_what_was_lost),
		CASE(test_write_raw_has_no_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
