/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot_timer.h"
#include "vmm/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)

struct fixture {
	struct bus bus;
	struct boot_timer timer;
	char log[32];
	char text[1024];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct log_config config = {.level = LOG_LEVEL_INFO};
	struct error err;

	assert_non_null(f);
	strcpy(f->log, "/tmp/ember-timer-XXXXXX");
	close(mkstemp(f->log));
	config.path = f->log;
	assert_int_equal(log_configure(&config, &err), 0);
	boot_timer_start(&f->timer);
	assert_int_equal(
		bus_add(&f->bus,
			&(struct bus_range){"boot_timer", BOOT_TIMER_BASE,
					    BOOT_TIMER_LEN, &boot_timer_bus_ops,
					    &f->timer}),
		0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->log);
	free(f);
	return 0;
}

static const char *log_text(struct fixture *f)
{
	AUTO_CLOSE int fd = open(f->log, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, f->text, sizeof(f->text) - 1);

	assert_true(n >= 0);
	f->text[n] = '\0';
	return f->text;
}

static void test_write_of_magic_logs_both_times(void **state)
{
	struct fixture *f = *state;
	unsigned long us, ms, cpu_us, cpu_ms;
	char again[128];
	const char *line;
	uint8_t booted = 123;

	/* As if the start had been longer ago. */
	f->timer.start_ns -= 1234567 * UINT64_C(1000);
	f->timer.start_cpu_ns -= 5 * MS;
	assert_true(bus_write(&f->bus, BOOT_TIMER_BASE, &booted, 1));
	line = strstr(log_text(f), "Guest-boot-time");
	assert_non_null(line);
	assert_int_equal(
		sscanf(line,
		       "Guest-boot-time = %lu us %lu ms, %lu CPU us %lu CPU ms",
		       &us, &ms, &cpu_us, &cpu_ms),
		4);
	/* Right-aligned to six places, as benchmarks cut it out. */
	snprintf(again, sizeof(again),
		 "Guest-boot-time = %6lu us %lu ms, %6lu CPU us %lu CPU ms\n",
		 us, ms, cpu_us, cpu_ms);
	assert_string_equal(line, again);
	assert_true(us >= 1234567 && us < 60 * 1000000);
	assert_true(cpu_us >= 5000 && cpu_us < us);
	assert_int_equal(ms, us / 1000);
	assert_int_equal(cpu_ms, cpu_us / 1000);
}

static void test_write_of_anything_else_is_ignored(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint64_t off;
		uint8_t data[4];
		size_t len;
	} cases[] = {
		{0, {122}, 1},		{0, {0}, 1},
		{1, {123}, 1},		{BOOT_TIMER_LEN - 1, {123}, 1},
		{0, {123, 0, 0, 0}, 4},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(bus_write(&f->bus, BOOT_TIMER_BASE + cases[i].off,
				      cases[i].data, cases[i].len));
	assert_string_equal(log_text(f), "");
}

static void test_read_is_zero(void **state)
{
	struct fixture *f = *state;
	uint8_t data[4] = {1, 2, 3, 4};

	assert_true(bus_read(&f->bus, BOOT_TIMER_BASE, data, 4));
	assert_memory_equal(data, "\0\0\0\0", 4);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_write_of_magic_logs_both_times),
		CASE(test_write_of_anything_else_is_ignored),
		CASE(test_read_is_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
