/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/phases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct snapshot_phase_metrics metrics;
	struct phases phases;
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	phases_begin(&fixture.phases, &fixture.metrics);
	*state = &fixture;
	return 0;
}

static uint64_t value(struct metric_store *store)
{
	return atomic_load(&store->value);
}

static void test_phases_set_is_in_metrics_and_text(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(f->phases.text, "");
	PHASE_SET(&f->phases, create_scan, 12);
	PHASE_SET(&f->phases, create_write, UINT64_MAX);
	assert_string_equal(f->phases.text, "create_scan 12, create_write "
					    "18446744073709551615");
	assert_int_equal(value(&f->metrics.create_scan), 12);
	assert_int_equal(value(&f->metrics.create_write), UINT64_MAX);
	assert_int_equal(value(&f->metrics.create_sync), 0);
}

/* Each phase begins where the one before ended, however that was told. */
static void test_phases_end_takes_the_time_since_the_last_one(void **state)
{
	struct fixture *f = *state;
	uint64_t before = monotonic_ns();

	f->phases.last_ns = before - 5000000;
	PHASE_END(&f->phases, load_vm);
	assert_in_range(value(&f->metrics.load_vm), 5000,
			5000 + (monotonic_ns() - before) / 1000);
	assert_true(f->phases.last_ns >= before);
	f->phases.last_ns = before - 5000000;
	PHASE_SET(&f->phases, load_memory, 1);
	assert_int_equal(value(&f->metrics.load_memory), 1);
	assert_true(f->phases.last_ns >= before);
}

/* The longest names with the longest numbers lose the end of the text, not
 * more. */
static void test_phases_end_too_long_a_text_is_cut_between_phases(void **state)
{
	struct fixture *f = *state;
	size_t len = 0;

	while (f->phases.len > len || len == 0) {
		len = f->phases.len;
		PHASE_SET(&f->phases, load_working_set, UINT64_MAX);
	}
	assert_true(len < sizeof(f->phases.text));
	assert_int_equal(strlen(f->phases.text), len);
	PHASE_SET(&f->phases, load_start, 3);
	assert_int_equal(value(&f->metrics.load_start), 3);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		CASE(test_phases_set_is_in_metrics_and_text),
		CASE(test_phases_end_takes_the_time_since_the_last_one),
		CASE(test_phases_end_too_long_a_text_is_cut_between_phases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
