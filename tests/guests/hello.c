/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what a PVH guest is given at its start: not Linux, and alive. */
#include "guest.h"

#include "pvh.h"

static void print_map(const struct pvh_start_info *info)
{
	const struct pvh_memory_range *map =
		(const void *)(uintptr_t)info->memmap;

	for (uint32_t i = 0; i < info->memmap_entries; i++) {
		print("range ");
		print_hex(map[i].addr);
		print(" ");
		print_hex(map[i].size);
		print(" ");
		print_number(map[i].type);
		print("\n");
	}
}

static void print_modules(const struct pvh_start_info *info)
{
	const struct pvh_module *module =
		(const void *)(uintptr_t)info->modules;

	for (uint32_t i = 0; i < info->module_count; i++) {
		print("module ");
		print_hex(module[i].addr);
		print(" ");
		print_hex(module[i].size);
		print(" ");
		print_hex(read64(module[i].addr));
		print("\n");
	}
}

void guest_main(uintptr_t addr, uint32_t protocol)
{
	const struct pvh_start_info *info = (const void *)addr;

	print("hello\n");
	check(protocol == PROTOCOL_PVH, "protocol", protocol);
	check(info->magic == PVH_MAGIC, "magic", info->magic);
	check(info->version == 1, "version", info->version);
	check(info->flags == 0, "flags", info->flags);
	check(addr == 0x6000, "info_address", addr);
	check(entry_state.cr0 == 0x11, "cr0", entry_state.cr0);
	check(entry_state.cr4 == 0, "cr4", entry_state.cr4);
	check(entry_state.rflags == 2, "rflags", entry_state.rflags);
	print("cmdline ");
	print((const char *)(uintptr_t)info->cmdline);
	print("\n");
	print_map(info);
	print_modules(info);
	print_done();
	guest_reset();
}
