/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Remembers the last access. */
struct device {
	uint64_t off;
	uint8_t data[8];
	size_t len;
	unsigned int reads, writes;
};

static void device_read(void *dev, uint64_t off, uint8_t *data, size_t len)
{
	struct device *device = dev;

	device->reads++;
	device->off = off;
	device->len = len;
	data[0] = 0x5a; /* the others stay as they are */
}

static void device_write(void *dev, uint64_t off, const uint8_t *data,
			 size_t len)
{
	struct device *device = dev;

	device->writes++;
	device->off = off;
	device->len = len;
	memcpy(device->data, data, len);
}

static const struct bus_ops device_ops = {device_read, device_write};

static int add(struct bus *bus, uint64_t base, uint64_t len,
	       struct device *device)
{
	const struct bus_range range = {"device", base, len, &device_ops,
					device};

	return bus_add(bus, &range);
}

static void test_add_bad_range_is_refused(void **state)
{
	static const struct {
		uint64_t base, len;
		int ret;
	} cases[] = {
		{0x50, 0, -EINVAL},	  {UINT64_MAX, 2, -EINVAL},
		{1, UINT64_MAX, 0},	  {0x100, 0x10, -EEXIST},
		{0xff, 2, -EEXIST},	  {0x10f, 1, -EEXIST},
		{0x80, 0x200, -EEXIST},	  {0x104, 4, -EEXIST},
		{0xf0, 0x10, 0},	  {0x110, 1, 0},
		{UINT64_MAX, 1, 0},	  {0x1f8, 8, 0},
		{0x1f8, 9, -EEXIST},	  {0x207, 1, -EEXIST},
		{0, UINT64_MAX, -EEXIST},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bus bus = {0};
		struct device device = {0};
		bool alone = cases[i].base == 1;

		if (!alone) {
			assert_int_equal(add(&bus, 0x100, 0x10, &device), 0);
			assert_int_equal(add(&bus, 0x200, 0x10, &device), 0);
		}
		assert_int_equal(
			add(&bus, cases[i].base, cases[i].len, &device),
			cases[i].ret);
	}
}

static void test_add_to_full_table_is_refused(void **state)
{
	struct bus bus = {0};
	struct device device = {0};

	(void)state;
	/* From the top down: every one goes to the front. */
	for (uint64_t i = BUS_RANGES_MAX; i > 0; i--)
		assert_int_equal(add(&bus, i * 0x10, 0x10, &device), 0);
	assert_int_equal(add(&bus, 0x10000, 1, &device), -ENOSPC);
	for (size_t i = 1; i < bus.count; i++)
		assert_true(bus.ranges[i - 1].base < bus.ranges[i].base);
}

static void test_access_reaches_the_right_device(void **state)
{
	struct device devices[BUS_RANGES_MAX] = {0};
	struct bus bus = {0};
	uint8_t data[4];

	(void)state;
	/* In no order, with gaps. */
	for (uint64_t i = 0; i < BUS_RANGES_MAX; i++) {
		uint64_t n = i * 7 % BUS_RANGES_MAX;

		assert_int_equal(add(&bus, n * 0x20, 0x10, &devices[n]), 0);
	}
	for (uint64_t i = 0; i < BUS_RANGES_MAX; i++) {
		memset(data, 0xff, sizeof(data));
		assert_true(bus_read(&bus, i * 0x20 + 0xc, data, 4));
		assert_int_equal(devices[i].reads, 1);
		assert_int_equal(devices[i].off, 0xc);
		assert_int_equal(devices[i].len, 4);
		assert_memory_equal(data, "\x5a\0\0\0", 4);
		assert_false(bus_read(&bus, i * 0x20 + 0x10, data, 1));
	}
}

static void test_access_nobody_claims_whole_is_dropped(void **state)
{
	static const struct {
		uint64_t addr;
		size_t len;
	} cases[] = {
		{0xff, 1},  {0x110, 1}, {0x10d, 4},	     {0x109, 8},
		{0xff, 2},  {0x11f, 1}, {UINT64_MAX, 1},     {UINT64_MAX, 8},
		{0x11f, 4}, {0x127, 2}, {UINT64_MAX - 3, 8}, {0, 8},
	};
	struct device device = {0};
	struct bus bus = {0};

	(void)state;
	assert_int_equal(add(&bus, 0x100, 0x10, &device), 0);
	assert_int_equal(add(&bus, 0x120, 0x8, &device), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t data[8];

		memset(data, 0xff, sizeof(data));
		assert_false(
			bus_write(&bus, cases[i].addr, data, cases[i].len));
		assert_false(bus_read(&bus, cases[i].addr, data, cases[i].len));
		for (size_t j = 0; j < sizeof(data); j++)
			assert_int_equal(data[j], j < cases[i].len ? 0 : 0xff);
	}
	assert_int_equal(device.reads + device.writes, 0);
}

static void test_write_hands_over_data(void **state)
{
	struct device device = {0};
	struct bus bus = {0};

	(void)state;
	assert_int_equal(add(&bus, UINT64_MAX - 7, 8, &device), 0);
	assert_true(bus_write(&bus, UINT64_MAX - 7, (const uint8_t *)"abcdefgh",
			      8));
	assert_memory_equal(device.data, "abcdefgh", 8);
	assert_true(bus_write(&bus, UINT64_MAX, (const uint8_t *)"x", 1));
	assert_int_equal(device.off, 7);
	assert_int_equal(device.len, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_bad_range_is_refused),
		cmocka_unit_test(test_add_to_full_table_is_refused),
		cmocka_unit_test(test_access_reaches_the_right_device),
		cmocka_unit_test(test_access_nobody_claims_whole_is_dropped),
		cmocka_unit_test(test_write_hands_over_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
