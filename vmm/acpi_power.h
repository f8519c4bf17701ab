/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware-reduced ACPI power registers (ACPI 6.4, 4.8.3.7 and 4.8.3.6): sleep
 * control, sleep status and reset, three byte-wide I/O ports, so that a plain
 * `poweroff` or `reboot` in the guest ends the process.
 */
#ifndef EMBER_ACPI_POWER_H
#define EMBER_ACPI_POWER_H

#include "vmm/bus.h"

#define ACPI_POWER_PORT 0x600
#define ACPI_POWER_PORT_COUNT 3
#define ACPI_SLEEP_CONTROL_PORT 0x600
#define ACPI_SLEEP_STATUS_PORT 0x601
#define ACPI_RESET_PORT 0x602
#define ACPI_RESET_VALUE 1
#define ACPI_S5_SLEEP_TYPE 5

struct acpi_power {
	void (*power_off)(void *arg); /* on the vCPU thread */
	void (*reset)(void *arg);
	void *arg;
};

extern const struct bus_ops acpi_power_bus_ops;

#endif
