/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi_power.h"

/* Sleep control register: sleep type in bits 2-4, enable in bit 5. */
#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE(value) (((value) >> 2) & 7)

static void acpi_power_read(void *dev, uint64_t off, uint8_t *data, size_t len)
{
	/* Sleep status: we never wake, so no status bit is ever set. */
	(void)dev;
	(void)off;
	(void)data;
	(void)len;
}

static void acpi_power_write(void *dev, uint64_t off, const uint8_t *data,
			     size_t len)
{
	const struct acpi_power *power = dev;
	uint64_t port = ACPI_POWER_PORT + off;

	if (len != 1)
		return;
	if (port == ACPI_SLEEP_CONTROL_PORT && (data[0] & SLEEP_ENABLE) &&
	    SLEEP_TYPE(data[0]) == ACPI_S5_SLEEP_TYPE)
		power->power_off(power->arg);
	else if (port == ACPI_RESET_PORT && data[0] == ACPI_RESET_VALUE)
		power->reset(power->arg);
}

const struct bus_ops acpi_power_bus_ops = {
	.read = acpi_power_read,
	.write = acpi_power_write,
};
