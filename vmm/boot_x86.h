/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a kernel and everything it reads at boot into guest memory: image,
 * initrd, command line, ACPI tables, memory map, and the Linux zero page
 * (Linux boot protocol 2.15, 64-bit) or the PVH start info. Says where and
 * how the boot vCPU begins. All input files are hostile.
 *
 * Thread: loop, before any vCPU runs.
 */
#ifndef EMBER_BOOT_X86_H
#define EMBER_BOOT_X86_H

#include "vmm/gmem.h"

/* A virtio-mmio device, as announced to the guest. */
struct boot_device {
	uint64_t base;
	uint32_t gsi;
};

enum boot_protocol {
	BOOT_LINUX64, /* long mode, zero page in RSI */
	BOOT_PVH,     /* 32-bit protected mode, start info in EBX */
};

struct boot_request {
	struct gmem *mem;
	int kernel_fd; /* borrowed */
	int initrd_fd; /* borrowed; -1: none */
	const char *cmdline;
	uint32_t vcpu_count;
	const struct boot_device *devices;
	size_t device_count;
};

struct boot_entry {
	enum boot_protocol protocol;
	bool bzimage;
	uint64_t rip;
};

/* The memory map: fills @ranges with the RAM for @size bytes (1 or 2 of them);
 * returns the count, or -EINVAL when that much does not fit. */
int boot_ram_layout(uint64_t size, struct gmem_range ranges[2]) must_check;

int boot_load(const struct boot_request *request, struct boot_entry *ret_entry,
	      struct error *err) must_check;

#endif
