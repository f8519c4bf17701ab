/* SPDX-License-Identifier: Apache-2.0 */
/* Checks what a kernel entered through the 64-bit Linux boot protocol gets:
 * the zero page (Documentation/arch/x86/zero-page.rst) and the CPU's state. */
#include "guest.h"

enum {
	ZP_ACPI_RSDP = 0x070,
	ZP_E820_ENTRIES = 0x1e8,
	ZP_BOOT_FLAG = 0x1fe,
	ZP_HEADER = 0x202,
	ZP_TYPE_OF_LOADER = 0x210,
	ZP_RAMDISK_IMAGE = 0x218,
	ZP_RAMDISK_SIZE = 0x21c,
	ZP_CMD_LINE_PTR = 0x228,
	ZP_CMDLINE_SIZE = 0x238,
	ZP_E820_TABLE = 0x2d0,
	E820_ENTRY_SIZE = 20,
};

static void print_map(uintptr_t zero_page)
{
	for (uint32_t i = 0; i < read8(zero_page + ZP_E820_ENTRIES); i++) {
		uintptr_t entry =
			zero_page + ZP_E820_TABLE + i * E820_ENTRY_SIZE;

		print("range ");
		print_hex(read64(entry));
		print(" ");
		print_hex(read64(entry + 8));
		print(" ");
		print_number(read32(entry + 16));
		print("\n");
	}
}

static void print_ramdisk(uintptr_t zero_page)
{
	uint32_t addr = read32(zero_page + ZP_RAMDISK_IMAGE);
	uint32_t size = read32(zero_page + ZP_RAMDISK_SIZE);

	if (!size)
		return;
	print("module ");
	print_hex(addr);
	print(" ");
	print_hex(size);
	print(" ");
	print_hex(read64(addr));
	print("\n");
}

static void check_registers(void)
{
	const uint64_t pe_and_pg = 0x80000001;

	check(entry_state.rsp == 0x8ff0, "rsp", entry_state.rsp);
	check(entry_state.rbp == 0x8ff0, "rbp", entry_state.rbp);
	check(entry_state.rflags == 2, "rflags", entry_state.rflags);
	check((entry_state.cr0 & pe_and_pg) == pe_and_pg, "cr0",
	      entry_state.cr0);
	check(entry_state.cr3 == 0x9000, "cr3", entry_state.cr3);
	check(entry_state.cr4 & 0x20, "cr4", entry_state.cr4);
}

void guest_main(uintptr_t zero_page, uint32_t protocol)
{
	const char *cmdline = boot_cmdline(zero_page, protocol);
	uint64_t rsdp = read64(zero_page + ZP_ACPI_RSDP);

	print("hello\n");
	check(protocol == PROTOCOL_LINUX, "protocol", protocol);
	check(zero_page == 0x7000, "zero_page_address", zero_page);
	check(read16(zero_page + ZP_BOOT_FLAG) == 0xaa55, "boot_flag",
	      read16(zero_page + ZP_BOOT_FLAG));
	check(read32(zero_page + ZP_HEADER) == 0x53726448, "header_magic",
	      read32(zero_page + ZP_HEADER));
	check(read8(zero_page + ZP_TYPE_OF_LOADER) == 0xff, "type_of_loader",
	      read8(zero_page + ZP_TYPE_OF_LOADER));
	check(rsdp == 0xe0000, "rsdp", rsdp);
	check(text_equal((const char *)(uintptr_t)rsdp, "RSD PTR ", 8),
	      "rsdp_signature", read64(rsdp));
	check_registers();
	print("cmdline ");
	print(cmdline);
	print("\n");
	print("cmdline_size ");
	print_number(read32(zero_page + ZP_CMDLINE_SIZE));
	print("\n");
	print_map(zero_page);
	print_ramdisk(zero_page);
	print_done();
	guest_reset();
}
