/* SPDX-License-Identifier: Apache-2.0 */
#include "jailer/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_parse_name_alone_leaves_the_rest_to_the_kernel(void **state)
{
	struct tap_spec spec;

	(void)state;
	assert_int_equal(tap_spec_parse(&spec, "tap-0.a_Z9", NULL), 0);
	assert_string_equal(spec.name, "tap-0.a_Z9");
	assert_false(spec.has_mac);
	assert_int_equal(spec.mtu, 0);
	assert_int_equal(spec.address_count, 0);
}

static void test_parse_everything_is_stored(void **state)
{
	static const uint8_t mac[] = {0x06, 0x00, 0xac, 0x1F, 0x00, 0xfe};
	struct tap_spec spec;
	uint8_t v4[4], v6[16];

	(void)state;
	assert_int_equal(inet_pton(AF_INET, "172.16.0.1", v4), 1);
	assert_int_equal(inet_pton(AF_INET6, "fd00::1", v6), 1);
	assert_int_equal(
		tap_spec_parse(&spec,
			       "fifteen-letters,mtu=1280,addr=172.16.0.1/30,"
			       "mac=06:00:AC:1f:00:fe,addr=fd00::1/128",
			       NULL),
		0);
	assert_string_equal(spec.name, "fifteen-letters");
	assert_true(spec.has_mac);
	assert_memory_equal(spec.mac, mac, sizeof(mac));
	assert_int_equal(spec.mtu, 1280);
	assert_int_equal(spec.address_count, 2);
	assert_int_equal(spec.addresses[0].family, AF_INET);
	assert_int_equal(spec.addresses[0].prefix, 30);
	assert_memory_equal(spec.addresses[0].bytes, v4, sizeof(v4));
	assert_int_equal(spec.addresses[1].family, AF_INET6);
	assert_int_equal(spec.addresses[1].prefix, 128);
	assert_memory_equal(spec.addresses[1].bytes, v6, sizeof(v6));
}

static void test_parse_bounds_are_inside(void **state)
{
	static const char *const good[] = {
		"t",
		"t,mtu=68",
		"t,mtu=65521",
		"t,mtu=68,addr=10.0.0.1/8",
		"t,addr=10.0.0.1/0",
		"t,addr=10.0.0.1/32",
		"t,addr=223.255.255.255/24",
		"t,addr=::1/0",
		"t,addr=::ffff:10.0.0.1/96",
		"t,mac=fe:ff:ff:ff:ff:ff",
	};
	struct tap_spec spec;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(tap_spec_parse(&spec, good[i], NULL), 0);
}

#define X15 "abcdefghijklmno"
#define X60 X15 X15 X15 X15
#define NO_NAME                                                                \
	"is no name of an interface: 1 to 15 letters, digits, '-', '_', '.'."

static void test_parse_refuses_with_a_sentence(void **state)
{
	static const struct {
		const char *text, *part, *why;
	} cases[] = {
		{"", "", NO_NAME},
		{",mtu=1500", "", NO_NAME},
		{X15 "p", X15 "p", NO_NAME},
		{"a/b", "a/b", NO_NAME},
		{"a b", "a b", NO_NAME},
		{"tap%d", "tap%d", NO_NAME},
		{"a:1", "a:1", NO_NAME},
		{"t\xc3\xa4p", "t\xc3\xa4p", NO_NAME},
		{".", ".", NO_NAME},
		{"..", "..", NO_NAME},
		{"t,", "", "is none of: addr=, mac=, mtu=."},
		{"t,,mtu=99", "", "is none of: addr=, mac=, mtu=."},
		{"t,mtu", "mtu", "is none of: addr=, mac=, mtu=."},
		{"t,owner=0", "owner=0", "is none of: addr=, mac=, mtu=."},
		{"t,MTU=99", "MTU=99", "is none of: addr=, mac=, mtu=."},
		{"t,mtu=", "mtu=", "is no MTU from 68 to 65521."},
		{"t,mtu=67", "mtu=67", "is no MTU from 68 to 65521."},
		{"t,mtu=65522", "mtu=65522", "is no MTU from 68 to 65521."},
		{"t,mtu=+99", "mtu=+99", "is no MTU from 68 to 65521."},
		{"t,mtu=99 ", "mtu=99 ", "is no MTU from 68 to 65521."},
		{"t,mtu=18446744073709551716", "mtu=18446744073709551716",
		 "is no MTU from 68 to 65521."},
		{"t,mtu=99,mtu=99", "mtu=99", "is a second MTU."},
		{"t,mac=", "mac=", "is no MAC address."},
		{"t,mac=2:0:0:0:0:1", "mac=2:0:0:0:0:1", "is no MAC address."},
		{"t,mac=02:00:00:00:00:0g", "mac=02:00:00:00:00:0g",
		 "is no MAC address."},
		{"t,mac=02-00-00-00-00-01", "mac=02-00-00-00-00-01",
		 "is no MAC address."},
		{"t,mac=02:00:00:00:00:01:", "mac=02:00:00:00:00:01:",
		 "is no MAC address."},
		{"t,mac=01:00:00:00:00:00", "mac=01:00:00:00:00:00",
		 "is no MAC address of a single station."},
		{"t,mac=00:00:00:00:00:00", "mac=00:00:00:00:00:00",
		 "is no MAC address of a single station."},
		{"t,mac=02:00:00:00:00:01,mac=02:00:00:00:00:02",
		 "mac=02:00:00:00:00:02", "is a second MAC address."},
		{"t,addr=", "addr=",
		 "has no prefix length, as in 172.16.0.1/30."},
		{"t,addr=1.2.3.4", "addr=1.2.3.4",
		 "has no prefix length, as in 172.16.0.1/30."},
		{"t,addr=1.2.3.4/", "addr=1.2.3.4/",
		 "has a prefix length out of range."},
		{"t,addr=1.2.3.4/33", "addr=1.2.3.4/33",
		 "has a prefix length out of range."},
		{"t,addr=1.2.3.4/24/8", "addr=1.2.3.4/24/8",
		 "has a prefix length out of range."},
		{"t,addr=fd00::1/129", "addr=fd00::1/129",
		 "has a prefix length out of range."},
		{"t,addr=1.2.3/24", "addr=1.2.3/24",
		 "is no IPv4 or IPv6 address."},
		{"t,addr=1.2.3.256/24", "addr=1.2.3.256/24",
		 "is no IPv4 or IPv6 address."},
		{"t,addr=host/24", "addr=host/24",
		 "is no IPv4 or IPv6 address."},
		{"t,addr=fd00:::1/64", "addr=fd00:::1/64",
		 "is no IPv4 or IPv6 address."},
		{"t,addr=0.0.0.0/24", "addr=0.0.0.0/24",
		 "is no address of a host."},
		{"t,addr=224.0.0.1/24", "addr=224.0.0.1/24",
		 "is no address of a host."},
		{"t,addr=::/64", "addr=::/64", "is no address of a host."},
		{"t,addr=ff02::1/64", "addr=ff02::1/64",
		 "is no address of a host."},
		{"t,mtu=1279,addr=fd00::1/64", "t,mtu=1279,addr=fd00::1/64",
		 "has too small an MTU for IPv6."},
		{"t,addr=1.1.1.1/8,addr=1.1.1.2/8,addr=1.1.1.3/8,"
		 "addr=1.1.1.4/8,addr=1.1.1.5/8,addr=1.1.1.6/8,"
		 "addr=1.1.1.7/8,addr=1.1.1.8/8,addr=1.1.1.9/8",
		 "addr=1.1.1.9/8", "is one address too many."},
	};
	struct tap_spec spec = {.mtu = 7};
	char want[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};

		snprintf(want, sizeof(want), "'%s' of argument 'tap': '%s' %s",
			 cases[i].text, cases[i].part, cases[i].why);
		assert_int_equal(tap_spec_parse(&spec, cases[i].text, &err),
				 -EINVAL);
		assert_string_equal(err.text, want);
		assert_int_equal(spec.mtu, 7);
	}
}

static void test_parse_too_long_parts_are_refused_not_cut(void **state)
{
	static const char *const cases[] = {
		X60 X60,
		"t,mtu=0000000000000000000000000000000000000000000000000000001"
		"500000000",
		"t,addr=" X60 "/24",
		"t,mac=" X60 X60,
		"t," X60 X60,
	};
	struct tap_spec spec;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(tap_spec_parse(&spec, cases[i], NULL),
				 -EINVAL);
}

static void test_parse_list_refuses_a_name_twice(void **state)
{
	const struct argument_list good = {{"a", "b,mtu=1500"}, 2};
	const struct argument_list bad = {{"a", "b", "a,mtu=1500"}, 3};
	struct tap_spec specs[ARGUMENT_LIST_MAX];
	struct error err = {0};

	(void)state;
	assert_int_equal(tap_specs_parse(specs, &good, &err), 0);
	assert_string_equal(specs[1].name, "b");
	assert_int_equal(tap_specs_parse(specs, &bad, &err), -EINVAL);
	assert_string_equal(err.text, "'a,mtu=1500' of argument 'tap': 'a' is "
				      "the name of another tap.");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_parse_name_alone_leaves_the_rest_to_the_kernel),
		cmocka_unit_test(test_parse_everything_is_stored),
		cmocka_unit_test(test_parse_bounds_are_inside),
		cmocka_unit_test(test_parse_refuses_with_a_sentence),
		cmocka_unit_test(test_parse_too_long_parts_are_refused_not_cut),
		cmocka_unit_test(test_parse_list_refuses_a_name_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
