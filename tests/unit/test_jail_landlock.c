/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/landlock.h"

#include "vmm/util.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* As the kernel's documentation numbers them. */
#define MAKE_CHAR BIT(6)
#define MAKE_BLOCK BIT(11)
#define IOCTL_DEV BIT(15)

static void test_known_grows_with_the_abi(void **state)
{
	static const struct {
		int abi;
		struct landlock_rights rights;
	} cases[] = {
		{0, {0, 0, 0}},	     {1, {0x1fff, 0, 0}}, {2, {0x3fff, 0, 0}},
		{3, {0x7fff, 0, 0}}, {4, {0x7fff, 3, 0}}, {5, {0xffff, 3, 0}},
		{6, {0xffff, 3, 3}}, {7, {0xffff, 3, 3}}, {99, {0xffff, 3, 3}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct landlock_rights got = landlock_known(cases[i].abi);

		assert_int_equal(got.files, cases[i].rights.files);
		assert_int_equal(got.network, cases[i].rights.network);
		assert_int_equal(got.scopes, cases[i].rights.scopes);
	}
}

/* The kernel refuses a rule about what the ruleset doesn't handle. */
static void test_rules_are_parts_of_what_is_known(void **state)
{
	(void)state;
	for (int abi = 1; abi < 9; abi++) {
		uint64_t known = landlock_known(abi).files;
		uint64_t root = landlock_root_files(abi);
		uint64_t dev = landlock_dev_files(abi);

		assert_int_equal(root & ~known, 0);
		assert_int_equal(dev & ~known, 0);
		assert_int_equal(known & ~dev, MAKE_CHAR | MAKE_BLOCK);
		assert_int_equal(dev & ~root, abi >= 5 ? IOCTL_DEV : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_grows_with_the_abi),
		cmocka_unit_test(test_rules_are_parts_of_what_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
