/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot timer (--boot-timer): a guest that writes the byte 123 to MMIO
 * 0xC000_0000 has booted; the log then says how long that took since start.
 */
#ifndef EMBER_BOOT_TIMER_H
#define EMBER_BOOT_TIMER_H

#include "vmm/bus.h"

#define BOOT_TIMER_BASE UINT64_C(0xC0000000)
#define BOOT_TIMER_LEN UINT64_C(0x1000)

struct boot_timer {
	uint64_t start_ns;     /* CLOCK_MONOTONIC at InstanceStart */
	uint64_t start_cpu_ns; /* CLOCK_PROCESS_CPUTIME_ID at the same time */
};

/* Takes both time stamps now. */
void boot_timer_start(struct boot_timer *timer);

extern const struct bus_ops boot_timer_bus_ops;

#endif
