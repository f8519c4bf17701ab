/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/limiter_gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct limiter_gate gate;
	int rings; /* of the timer */
	bool shut_when_it_rang;
};

static void on_timer(struct loop_timer *timer)
{
	struct fixture *f = container_of(timer, struct fixture, gate.timer);

	f->rings++;
	f->shut_when_it_rang |= limiter_gate_is_shut(&f->gate);
}

/* One operation per @ms. */
static struct rate_limiter_config one_per(uint64_t ms)
{
	return (struct rate_limiter_config){.ops = {1, 0, ms}};
}

static void limit(struct fixture *f, uint64_t ms)
{
	const struct rate_limiter_config config = one_per(ms);

	limiter_gate_init(&f->gate, &config, on_timer);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return loop_create(&f->loop);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	loop_destroy(f->loop);
	free(f);
	return 0;
}

static void test_pass_without_limits_is_free(void **state)
{
	static const struct rate_limiter_config none;
	struct fixture *f = *state;

	limiter_gate_init(&f->gate, &none, on_timer);
	for (int i = 0; i < 10; i++) {
		assert_true(limiter_gate_pass(&f->gate, f->loop));
		limiter_gate_charge(&f->gate, UINT32_MAX, 1000);
	}
	assert_false(limiter_gate_is_shut(&f->gate));
}

static void test_pass_without_tokens_shuts_until_the_timer(void **state)
{
	struct fixture *f = *state;

	limit(f, 5);
	assert_true(limiter_gate_pass(&f->gate, f->loop));
	assert_false(limiter_gate_is_shut(&f->gate));
	limiter_gate_charge(&f->gate, 0, 1);
	assert_false(limiter_gate_pass(&f->gate, f->loop));
	assert_true(limiter_gate_is_shut(&f->gate));
	while (!f->rings)
		assert_int_equal(loop_turn(f->loop), 0);
	assert_false(f->shut_when_it_rang);
	assert_true(limiter_gate_pass(&f->gate, f->loop));
}

static void test_yield_shuts_for_a_turn(void **state)
{
	struct fixture *f = *state;

	limit(f, 3600 * 1000);
	limiter_gate_yield(&f->gate, f->loop);
	assert_true(limiter_gate_is_shut(&f->gate));
	assert_int_equal(loop_turn(f->loop), 0);
	assert_int_equal(f->rings, 1);
	assert_false(limiter_gate_is_shut(&f->gate));
}

static void test_reset_opens_and_nothing_rings(void **state)
{
	struct fixture *f = *state;

	limit(f, 3600 * 1000);
	limiter_gate_yield(&f->gate, f->loop);
	limiter_gate_reset(&f->gate);
	assert_false(limiter_gate_is_shut(&f->gate));
	assert_int_equal(loop_turn(f->loop), 0);
	assert_int_equal(f->rings, 0);
}

/* Whoever waits for an hour gets the new limit's tokens at once; who does not
 * wait is not called. */
static void test_update_rings_where_it_is_shut(void **state)
{
	const struct rate_limiter_update update = {
		.has_ops = true, .values = one_per(3600 * 1000)};
	struct fixture *f = *state;

	limit(f, 3600 * 1000);
	limiter_gate_update(&f->gate, f->loop, &update);
	assert_false(limiter_gate_is_shut(&f->gate));
	limiter_gate_charge(&f->gate, 0, 1);
	assert_false(limiter_gate_pass(&f->gate, f->loop));
	limiter_gate_update(&f->gate, f->loop, &update);
	assert_int_equal(loop_turn(f->loop), 0);
	assert_int_equal(f->rings, 1);
	assert_true(limiter_gate_pass(&f->gate, f->loop));
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_pass_without_limits_is_free),
		test(test_pass_without_tokens_shuts_until_the_timer),
		test(test_yield_shuts_for_a_turn),
		test(test_reset_opens_and_nothing_rings),
		test(test_update_rings_where_it_is_shut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
