/* SPDX-License-Identifier: Apache-2.0 */
/* The start info of the x86/HVM direct boot protocol ("PVH"), version 1. */
#ifndef GUEST_PVH_H
#define GUEST_PVH_H

#include <stdint.h>

#define PVH_MAGIC 0x336ec578

struct pvh_start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct pvh_module {
	uint64_t addr, size, cmdline, reserved;
};

struct pvh_memory_range {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#endif
