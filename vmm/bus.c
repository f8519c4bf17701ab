/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <string.h>

/* Index of the first range that ends behind @addr, or the count. */
static size_t search(const struct bus *bus, uint64_t addr)
{
	size_t low = 0, high = bus->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct bus_range *range = &bus->ranges[middle];

		if (addr - range->base < range->len || addr < range->base)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

int bus_add(struct bus *bus, const struct bus_range *range)
{
	size_t at;

	if (range->len == 0 || range->base + (range->len - 1) < range->base)
		return -EINVAL;
	if (bus->count == BUS_RANGES_MAX)
		return -ENOSPC;
	at = search(bus, range->base);
	if (at < bus->count &&
	    (bus->ranges[at].base <= range->base ||
	     bus->ranges[at].base - range->base < range->len))
		return -EEXIST;
	memmove(&bus->ranges[at + 1], &bus->ranges[at],
		(bus->count - at) * sizeof(bus->ranges[0]));
	bus->ranges[at] = *range;
	bus->count++;
	return 0;
}

/* The range that holds all of the access. */
static const struct bus_range *find(const struct bus *bus, uint64_t addr,
				    size_t len)
{
	size_t at = search(bus, addr);
	const struct bus_range *range = &bus->ranges[at];

	if (at == bus->count || addr < range->base)
		return NULL;
	return len <= range->len - (addr - range->base) ? range : NULL;
}

bool bus_read(const struct bus *bus, uint64_t addr, uint8_t *data, size_t len)
{
	const struct bus_range *range = find(bus, addr, len);

	memset(data, 0, len);
	if (!range)
		return false;
	range->ops->read(range->dev, addr - range->base, data, len);
	return true;
}

bool bus_write(const struct bus *bus, uint64_t addr, const uint8_t *data,
	       size_t len)
{
	const struct bus_range *range = find(bus, addr, len);

	if (!range)
		return false;
	range->ops->write(range->dev, addr - range->base, data, len);
	return true;
}
