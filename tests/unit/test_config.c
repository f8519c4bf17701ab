/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_machine_config_default_is_one_small_vcpu(void **state)
{
	(void)state;
	assert_int_equal(machine_config_default.vcpu_count, 1);
	assert_int_equal(machine_config_default.mem_size_mib, 128);
	assert_int_equal(machine_config_default.huge_pages, HUGE_PAGES_NONE);
}

static void test_machine_config_update_applies_only_named_fields(void **state)
{
	struct machine_config config = machine_config_default;
	const struct machine_update update = {
		.values = {.vcpu_count = 2, .mem_size_mib = 1},
		.has_vcpu_count = true,
	};

	(void)state;
	assert_int_equal(machine_config_update(&config, &update, NULL), 0);
	assert_int_equal(config.vcpu_count, 2);
	assert_int_equal(config.mem_size_mib, 128);
}

static void test_machine_config_update_refuses_and_keeps(void **state)
{
	static const struct {
		struct machine_config values;
		const char *text;
	} cases[] = {
		{{.vcpu_count = 0, .mem_size_mib = 1}, "The number of vCPUs"},
		{{.vcpu_count = 33, .mem_size_mib = 1}, "The number of vCPUs"},
		{{.vcpu_count = 3, .mem_size_mib = 1, .smt = true},
		 "The number of vCPUs"},
		{{.vcpu_count = 1, .mem_size_mib = 0}, "The memory size"},
		{{.vcpu_count = 1,
		  .mem_size_mib = 3,
		  .huge_pages = HUGE_PAGES_2M},
		 "The memory size"},
		{{.vcpu_count = 1,
		  .mem_size_mib = 3,
		  .huge_pages = HUGE_PAGES_TRANSPARENT},
		 "The memory size"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine_config config = machine_config_default;
		const struct machine_update update = {
			.values = cases[i].values,
			.has_vcpu_count = true,
			.has_mem_size_mib = true,
			.has_smt = true,
			.has_huge_pages = true,
		};
		struct error err = {0};

		assert_int_equal(machine_config_update(&config, &update, &err),
				 -EINVAL);
		assert_memory_equal(err.text, cases[i].text,
				    strlen(cases[i].text));
		assert_int_equal(config.vcpu_count, 1);
		assert_int_equal(config.mem_size_mib, 128);
	}
}

static void test_machine_config_update_accepts_the_limits(void **state)
{
	static const struct machine_config cases[] = {
		{.vcpu_count = 32, .mem_size_mib = UINT64_MAX},
		{.vcpu_count = 1, .mem_size_mib = 1, .smt = true},
		{.vcpu_count = 2,
		 .mem_size_mib = 2,
		 .smt = true,
		 .huge_pages = HUGE_PAGES_2M},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine_config config = machine_config_default;
		const struct machine_update update = {
			.values = cases[i],
			.has_vcpu_count = true,
			.has_mem_size_mib = true,
			.has_smt = true,
			.has_huge_pages = true,
		};

		assert_int_equal(machine_config_update(&config, &update, NULL),
				 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine_config_default_is_one_small_vcpu),
		cmocka_unit_test(
			test_machine_config_update_applies_only_named_fields),
		cmocka_unit_test(test_machine_config_update_refuses_and_keeps),
		cmocka_unit_test(test_machine_config_update_accepts_the_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
