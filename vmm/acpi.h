/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of the machine (ACPI 6.4, chapter 5): RSDP, XSDT, FADT of a
 * hardware-reduced platform, MADT and DSDT. They tell the kernel about its
 * processors, the serial port, the keyboard controller, every virtio-mmio
 * device, the generation id and the clock, and how to power off and reset.
 * Thread: loop, before vCPUs run.
 */
#ifndef EMBER_ACPI_H
#define EMBER_ACPI_H

#include "vmm/boot_x86.h"

/* Writes all tables to [base, limit) of guest memory and the RSDP to
 * MEMMAP_RSDP. -ENOSPC when they do not fit, -EFAULT when that is not RAM. */
int acpi_write_tables(struct gmem *mem, uint64_t base, uint64_t limit,
		      uint32_t vcpu_count, const struct boot_device *devices,
		      size_t device_count) must_check;

#endif
