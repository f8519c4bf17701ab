/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/state.h"
#include "vmm/ratelimit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define START (7 * SECOND)

static struct rate_limiter bytes_only(uint64_t size, uint64_t burst,
				      uint64_t refill_ms)
{
	const struct rate_limiter_config config = {
		.bandwidth = {size, burst, refill_ms}};
	struct rate_limiter limiter;

	ratelimit_init(&limiter, &config, START);
	return limiter;
}

static void test_no_bucket_is_no_limit(void **state)
{
	static const struct rate_limiter_config cases[] = {
		{{0}, {0}},
		{{0, 0, 100}, {0, 5, 100}},
		{{100, 0, 0}, {100, 7, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rate_limiter limiter;

		ratelimit_init(&limiter, &cases[i], START);
		assert_false(ratelimit_enabled(&limiter));
		ratelimit_charge(&limiter, UINT64_MAX, UINT64_MAX, START);
		assert_true(ratelimit_ready(&limiter, START));
	}
}

static void test_bucket_starts_full_and_refills_evenly(void **state)
{
	struct rate_limiter limiter = bytes_only(1000, 0, 100);

	(void)state;
	assert_true(ratelimit_enabled(&limiter));
	ratelimit_charge(&limiter, 999, 1, START);
	assert_true(ratelimit_ready(&limiter, START));
	ratelimit_charge(&limiter, 1, 1, START);
	assert_false(ratelimit_ready(&limiter, START));
	/* ten tokens a millisecond */
	assert_false(ratelimit_ready(&limiter, START + MS / 10 - 1));
	assert_true(ratelimit_ready(&limiter, START + MS / 10));
	ratelimit_charge(&limiter, 500, 1, START + 50 * MS);
	assert_false(ratelimit_ready(&limiter, START + 50 * MS));
	/* and never more than a bucket */
	ratelimit_charge(&limiter, 1000, 1, START + 900 * MS);
	assert_false(ratelimit_ready(&limiter, START + 900 * MS));
}

static void test_burst_is_spent_first_and_once(void **state)
{
	struct rate_limiter limiter = bytes_only(100, 250, 1000);

	(void)state;
	ratelimit_charge(&limiter, 250, 1, START);
	ratelimit_charge(&limiter, 99, 1, START);
	assert_true(ratelimit_ready(&limiter, START));
	ratelimit_charge(&limiter, 1, 1, START);
	assert_false(ratelimit_ready(&limiter, START));
	/* an hour later there is a bucket, not a burst */
	ratelimit_charge(&limiter, 100, 1, START + 3600 * SECOND);
	assert_false(ratelimit_ready(&limiter, START + 3600 * SECOND));
}

static void test_more_than_there_is_becomes_a_debt(void **state)
{
	struct rate_limiter limiter = bytes_only(1000, 0, 1000);

	(void)state;
	ratelimit_charge(&limiter, 3000, 1, START);
	assert_in_range(ratelimit_delay_ns(&limiter, START), 2 * SECOND,
			2 * SECOND + 2 * MS);
	assert_in_range(ratelimit_delay_ns(&limiter, START + 2 * SECOND - 5),
			MS, MS + 10);
	assert_false(ratelimit_ready(&limiter, START + 2 * SECOND));
	assert_true(ratelimit_ready(&limiter, START + 2 * SECOND + MS));
}

static void test_delay_is_when_it_is_ready(void **state)
{
	struct rate_limiter limiter = bytes_only(10, 0, 1000);
	uint64_t now = START;

	(void)state;
	for (int i = 0; i < 100; i++) {
		ratelimit_charge(&limiter, (uint64_t)(i % 13), 1, now);
		if (ratelimit_ready(&limiter, now))
			continue;
		now += ratelimit_delay_ns(&limiter, now);
		assert_true(ratelimit_ready(&limiter, now));
	}
}

/* Whatever the sizes are, the rate is the configured one. */
static void test_rate_holds_over_time(void **state)
{
	static const uint64_t sizes[] = {1, 60, 1514, 9000, 65536, 333333};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct rate_limiter limiter = bytes_only(100000, 0, 100);
		uint64_t now = START, moved = 0;

		while (now < START + 20 * SECOND) {
			if (!ratelimit_ready(&limiter, now)) {
				now += ratelimit_delay_ns(&limiter, now);
				continue;
			}
			ratelimit_charge(&limiter, sizes[i], 1, now);
			moved += sizes[i];
			now += 700; /* work takes time */
		}
		/* 1,000,000 a second, the full bucket and one piece more;
		 * pieces of one byte take longer than their tokens. */
		assert_true(moved <= 20000000 + 100000 + sizes[i]);
		if (sizes[i] > 1)
			assert_true(moved >= 19500000);
	}
}

static void test_both_buckets_must_have_tokens(void **state)
{
	const struct rate_limiter_config config = {.bandwidth = {1000, 0, 1000},
						   .ops = {2, 0, 1000}};
	struct rate_limiter limiter;

	(void)state;
	ratelimit_init(&limiter, &config, START);
	ratelimit_charge(&limiter, 1, 1, START);
	assert_true(ratelimit_ready(&limiter, START));
	ratelimit_charge(&limiter, 1, 1, START);
	assert_false(ratelimit_ready(&limiter, START));
	assert_true(ratelimit_ready(&limiter, START + 500 * MS));
	ratelimit_charge(&limiter, 2000, 0, START + 500 * MS);
	assert_false(ratelimit_ready(&limiter, START + 600 * MS));
}

static void test_update_leaves_absent_buckets(void **state)
{
	const struct rate_limiter_update bandwidth = {
		.values = {.bandwidth = {50, 0, 1000}}, .has_bandwidth = true};
	const struct rate_limiter_update no_ops = {.has_ops = true};
	const struct rate_limiter_config config = {.bandwidth = {1000, 0, 1000},
						   .ops = {1, 0, 1000}};
	struct rate_limiter limiter;

	(void)state;
	ratelimit_init(&limiter, &config, START);
	ratelimit_charge(&limiter, 1000, 1, START);
	ratelimit_update(&limiter, &bandwidth, START);
	assert_false(ratelimit_ready(&limiter, START)); /* ops as before */
	ratelimit_update(&limiter, &no_ops, START);
	assert_true(ratelimit_ready(&limiter, START));
	ratelimit_charge(&limiter, 50, 100, START);
	assert_false(ratelimit_ready(&limiter, START));
	assert_true(ratelimit_ready(&limiter, START + 20 * MS));
}

static void test_extreme_figures_do_not_overflow(void **state)
{
	static const struct token_bucket_config cases[] = {
		{UINT64_MAX, UINT64_MAX, UINT64_MAX},
		{UINT64_MAX, 0, 1},
		{1, 0, UINT64_MAX},
		{1, UINT64_MAX, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rate_limiter_config config = {
			.bandwidth = cases[i], .ops = cases[i]};
		struct rate_limiter limiter;

		ratelimit_init(&limiter, &config, START);
		for (int k = 0; k < 3; k++) {
			ratelimit_charge(&limiter, UINT64_MAX, UINT64_MAX,
					 START);
			assert_true(ratelimit_delay_ns(&limiter, START) >= MS);
			(void)ratelimit_ready(&limiter, UINT64_MAX);
		}
	}
}

static void test_a_clock_that_stands_gives_nothing(void **state)
{
	struct rate_limiter limiter = bytes_only(10, 0, 1000);

	(void)state;
	ratelimit_charge(&limiter, 10, 0, START);
	assert_false(ratelimit_ready(&limiter, START));
	assert_false(ratelimit_ready(&limiter, START - SECOND));
	assert_false(ratelimit_ready(&limiter, 0));
}

/* Saves at @then and loads at @now, on another clock. */
static int move(struct rate_limiter *to, const struct rate_limiter *from,
		uint64_t then, uint64_t now)
{
	struct state_writer writer;
	struct state_reader reader;
	int ret;

	state_writer_init(&writer);
	reader.left = writer.len;
	ratelimit_save(from, &writer, then);
	assert_false(writer.failed);
	reader = (struct state_reader){
		.at = writer.bytes + reader.left,
		.left = writer.len - reader.left,
	};
	ret = ratelimit_load(to, &reader, now, NULL);
	assert_int_equal(state_reader_end(&reader, NULL), 0);
	state_writer_release(&writer);
	return ret;
}

/* Wherever the other clock stands, even close to its beginning. */
static void test_tokens_and_debts_move_to_another_clock(void **state)
{
	static const uint64_t clocks[] = {0, 5, START, START + 9 * SECOND,
					  UINT64_MAX / 2};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(clocks); i++) {
		struct rate_limiter limiter = bytes_only(1000, 50, 1000);
		struct rate_limiter moved = {0};
		uint64_t now = clocks[i];

		/* half of the burst, then 300 tokens after 100 ms */
		ratelimit_charge(&limiter, 50 + 1000, 1, START);
		assert_int_equal(move(&moved, &limiter, START + 300 * MS, now),
				 0);
		assert_true(ratelimit_ready(&moved, now));
		assert_int_equal(moved.bytes.budget, 300);
		assert_int_equal(moved.bytes.burst, 0);
		/* a debt of a second */
		ratelimit_charge(&limiter, 1300, 1, START + 300 * MS);
		assert_int_equal(move(&moved, &limiter, START + 300 * MS, now),
				 0);
		assert_false(ratelimit_ready(&moved, now + SECOND));
		assert_true(ratelimit_ready(&moved, now + SECOND + MS));
	}
}

/* What has flowed of a token that is not whole yet is not lost. */
static void test_part_of_a_token_moves(void **state)
{
	struct rate_limiter limiter = bytes_only(1, 0, 1000);
	struct rate_limiter moved = {0};

	(void)state;
	ratelimit_charge(&limiter, 1, 1, START);
	assert_int_equal(move(&moved, &limiter, START + 600 * MS, SECOND), 0);
	assert_false(ratelimit_ready(&moved, SECOND + 399 * MS));
	assert_true(ratelimit_ready(&moved, SECOND + 400 * MS));
}

static void test_burst_and_absence_of_limits_move(void **state)
{
	struct rate_limiter limiter = bytes_only(1000, 50, 1000);
	struct rate_limiter moved = {0};

	(void)state;
	ratelimit_charge(&limiter, 20, 1, START);
	assert_int_equal(move(&moved, &limiter, START + 5, 7), 0);
	assert_int_equal(moved.bytes.burst, 30);
	assert_int_equal(moved.bytes.budget, 1000);
	assert_int_equal(moved.ops.size, 0);
	limiter = (struct rate_limiter){0};
	assert_int_equal(move(&moved, &limiter, START, 7), 0);
	assert_false(ratelimit_enabled(&moved));
}

static void test_impossible_limiters_are_refused(void **state)
{
	/* size, refill time, burst, budget, elapsed, debt */
	static const uint64_t cases[][6] = {
		{10, 0, 0, 0, 0, 0},	 {10, 100, 0, 11, 0, 0},
		{10, 100, 0, 0, 101, 0}, {10, 100, 0, 0, 1, 1},
		{0, 100, 0, 0, 0, 0},	 {0, 0, 1, 0, 0, 0},
		{0, 0, 0, 1, 0, 0},	 {0, 0, 0, 0, 0, 1},
	};
	struct rate_limiter limiter = bytes_only(7, 0, 1000);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t words[12] = {0};
		struct state_reader reader = {.at = (const uint8_t *)words,
					      .left = sizeof(words)};
		struct error err = {0};

		for (size_t k = 0; k < 6; k++)
			words[i % 2 * 6 + k] = htole64(cases[i][k]);
		assert_int_equal(ratelimit_load(&limiter, &reader, START, &err),
				 -EINVAL);
		assert_true(err.text[0]);
		assert_int_equal(limiter.bytes.size, 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_bucket_is_no_limit),
		cmocka_unit_test(test_bucket_starts_full_and_refills_evenly),
		cmocka_unit_test(test_burst_is_spent_first_and_once),
		cmocka_unit_test(test_more_than_there_is_becomes_a_debt),
		cmocka_unit_test(test_delay_is_when_it_is_ready),
		cmocka_unit_test(test_rate_holds_over_time),
		cmocka_unit_test(test_both_buckets_must_have_tokens),
		cmocka_unit_test(test_update_leaves_absent_buckets),
		cmocka_unit_test(test_extreme_figures_do_not_overflow),
		cmocka_unit_test(test_a_clock_that_stands_gives_nothing),
		cmocka_unit_test(test_tokens_and_debts_move_to_another_clock),
		cmocka_unit_test(test_part_of_a_token_moves),
		cmocka_unit_test(test_burst_and_absence_of_limits_move),
		cmocka_unit_test(test_impossible_limiters_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
