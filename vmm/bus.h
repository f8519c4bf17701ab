/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address range -> device, for port I/O and MMIO alike.
 *
 * Ranges are added while the machine is built and never change while vCPUs
 * run, so look-ups take no lock. A device's handlers run on vCPU threads,
 * several at once: the device brings its own lock.
 */
#ifndef EMBER_BUS_H
#define EMBER_BUS_H

#include "vmm/util.h"

#include <stdbool.h>

#define BUS_RANGES_MAX 40

/* @off is relative to the range; @len is 1, 2, 4 or 8 (guest-chosen), and
 * [off, off + len) always lies inside the range. Data is little-endian bytes.
 * A read handler may leave @data as it is: it was zeroed before. */
struct bus_ops {
	void (*read)(void *dev, uint64_t off, uint8_t *data, size_t len);
	void (*write)(void *dev, uint64_t off, const uint8_t *data, size_t len);
};

struct bus_range {
	const char *name;
	uint64_t base;
	uint64_t len;
	const struct bus_ops *ops;
	void *dev;
};

struct bus {
	size_t count;
	struct bus_range ranges[BUS_RANGES_MAX]; /* sorted by base */
};

/* -EEXIST when it overlaps another range, -ENOSPC when the table is full,
 * -EINVAL for an empty or wrapping range. */
int bus_add(struct bus *bus, const struct bus_range *range) must_check;

/* Called from: vCPU threads. False when no device claims the whole access;
 * @data is then all zero (read) or the write is dropped. */
bool bus_read(const struct bus *bus, uint64_t addr, uint8_t *data, size_t len);
bool bus_write(const struct bus *bus, uint64_t addr, const uint8_t *data,
	       size_t len);

#endif
