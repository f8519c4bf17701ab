/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are in an x86_64 guest's physical address space.
 */
#ifndef EMBER_MEMMAP_X86_H
#define EMBER_MEMMAP_X86_H

#include "vmm/util.h"

/* Boot-time structures in the first 640 KiB, read once by the kernel. */
#define MEMMAP_BOOT_GDT UINT64_C(0x500)
#define MEMMAP_BOOT_IDT UINT64_C(0x520)
#define MEMMAP_PVH_INFO UINT64_C(0x6000)
#define MEMMAP_PVH_MODULES UINT64_C(0x6040)
#define MEMMAP_ZERO_PAGE UINT64_C(0x7000)
#define MEMMAP_PVH_MEMMAP UINT64_C(0x7000)
#define MEMMAP_BOOT_STACK UINT64_C(0x8ff0)
#define MEMMAP_PML4 UINT64_C(0x9000)
#define MEMMAP_PDPT UINT64_C(0xa000)
#define MEMMAP_PD UINT64_C(0xb000)
#define MEMMAP_CMDLINE UINT64_C(0x20000)
#define MEMMAP_CMDLINE_MAX 2048 /* with the NUL */

/* Tables that stay valid while the guest runs (e820: reserved). */
#define MEMMAP_SYSTEM UINT64_C(0x9fc00)
#define MEMMAP_VMGENID UINT64_C(0xde000) /* a page of its own */
#define MEMMAP_VMCLOCK UINT64_C(0xdf000)
#define MEMMAP_SYSTEM_END UINT64_C(0xe0000)
#define MEMMAP_RSDP UINT64_C(0xe0000)

/* Where a real-mode reset (f000:fff0) ends up; not listed in e820. */
#define MEMMAP_RESET_VECTOR UINT64_C(0xffff0)

#define MEMMAP_KERNEL UINT64_C(0x100000) /* images load at or above */

/* RAM below and above the MMIO gap. */
#define MEMMAP_LOW_RAM_END UINT64_C(0xc0000000)
#define MEMMAP_HIGH_RAM UINT64_C(0x100000000)
#define MEMMAP_HIGH_RAM_END UINT64_C(0x4000000000) /* 256 GiB */

/* Persistent memory, then memory that is plugged in: from here on upwards. */
#define MEMMAP_DEVICE_MEMORY UINT64_C(0x8000000000) /* 512 GiB */

#define MEMMAP_MMIO_BOOT_TIMER UINT64_C(0xc0000000)
#define MEMMAP_MMIO_VIRTIO UINT64_C(0xc0001000)
#define MEMMAP_PCI_MMCONFIG UINT64_C(0xeec00000)
#define MEMMAP_PCI_MMCONFIG_LEN UINT64_C(0x10000000)
#define MEMMAP_IOAPIC UINT64_C(0xfec00000)
#define MEMMAP_LAPIC UINT64_C(0xfee00000)
#define MEMMAP_KVM_IDENTITY_MAP UINT64_C(0xfffbc000)
#define MEMMAP_KVM_TSS UINT64_C(0xfffbd000)

#endif
