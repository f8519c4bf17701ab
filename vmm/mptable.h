/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MP table (MultiProcessor Specification 1.4, chapter 4): processors, the
 * I/O APIC and interrupt wiring for kernels that do without ACPI.
 * Thread: loop, before vCPUs run.
 */
#ifndef EMBER_MPTABLE_H
#define EMBER_MPTABLE_H

#include "vmm/gmem.h"

/* Writes floating pointer and table to @base, which must be where kernels look
 * for it: the last KiB of base memory. Never more than 1 KiB. */
int mptable_write(struct gmem *mem, uint64_t base,
		  uint32_t vcpu_count) must_check;

#endif
