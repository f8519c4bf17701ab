/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/nets.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct metrics metrics;
	struct nets *nets;
	struct error err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	metrics_init(&f->metrics, "test");
	assert_int_equal(nets_create(&f->nets, &f->metrics), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	nets_destroy(f->nets);
	metrics_release(&f->metrics);
	free(f);
	return 0;
}

static int set(struct fixture *f, const char *id, const char *tap, bool vhost)
{
	struct net_config config = {.iface_id = strdup(id),
				    .host_dev_name = strdup(tap),
				    .vhost = vhost};
	int ret = nets_set(f->nets, &config, &f->err);

	net_config_release(&config);
	return ret;
}

static void test_update_vhost_takes_limiters_that_are_none(void **state)
{
	static const struct {
		struct rate_limiter_update limiter;
		int result;
	} cases[] = {
		{{.has_ops = false}, 0},
		{{.has_ops = true}, 0},
		{{.has_ops = true, .values.ops = {.size = 5}}, 0},
		{{.has_ops = true,
		  .values.ops = {.size = 5, .refill_time_ms = 5}},
		 -EINVAL},
		{{.has_bandwidth = true,
		  .values.bandwidth = {.size = 5, .refill_time_ms = 5}},
		 -EINVAL},
	};
	struct fixture *f = *state;
	struct net_update update = {.iface_id = (char[]){"eth0"}};

	assert_int_equal(set(f, "eth0", "tap0", true), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		update.has_rx_rate_limiter = true;
		update.rx_rate_limiter = cases[i].limiter;
		assert_int_equal(nets_update(f->nets, &update, &f->err),
				 cases[i].result);
	}
}

static void test_update_of_nothing_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct net_update update = {
		.iface_id = (char[]){"eth0"},
		.has_tx_rate_limiter = true,
		.tx_rate_limiter = {.has_ops = true,
				    .values.ops = {.size = 5,
						   .refill_time_ms = 6}},
	};
	const struct rate_limiter_config *tx;

	assert_int_equal(set(f, "eth0", "tap0", false), 0);
	tx = &nets_config(f->nets, 0)->tx_rate_limiter.values;
	assert_false(rate_limiter_config_limits(tx));
	assert_int_equal(nets_update(f->nets, &update, &f->err), 0);
	assert_true(rate_limiter_config_limits(tx));
	update.tx_rate_limiter = (struct rate_limiter_update){0};
	assert_int_equal(nets_update(f->nets, &update, &f->err), 0);
	assert_int_equal(tx->ops.size, 5);
	assert_int_equal(tx->ops.refill_time_ms, 6);
}

static void test_set_tap_of_another_is_busy(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(set(f, "eth0", "tap0", false), 0);
	assert_int_equal(set(f, "eth1", "tap1", false), 0);
	assert_int_equal(set(f, "eth0", "tap0", false), 0); /* replaced */
	assert_int_equal(set(f, "eth2", "tap1", false), -EBUSY);
	assert_non_null(strstr(f->err.text, "Resource busy (os error 16)"));
	assert_int_equal(nets_count(f->nets), 2);
	/* A refused replacement is lost, and its tap is free. */
	assert_int_equal(set(f, "eth0", "tap1", false), -EBUSY);
	assert_int_equal(nets_count(f->nets), 1);
	assert_int_equal(set(f, "eth2", "tap0", false), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_update_vhost_takes_limiters_that_are_none),
		CASE(test_update_of_nothing_changes_nothing),
		CASE(test_set_tap_of_another_is_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
