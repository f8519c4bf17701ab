/* SPDX-License-Identifier: Apache-2.0 */
/* Walks the ACPI tables the way an operating system does that was told nothing
 * about them: from the signature in the BIOS area on. */
#include "guest.h"

#define BIOS_AREA 0xe0000u
#define BIOS_AREA_END 0x100000u
#define TABLE_HEADER 36

static uint32_t sum(uintptr_t addr, uint32_t len)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < len; i++)
		total += read8(addr + i);
	return total & 0xff;
}

static uintptr_t find_rsdp(void)
{
	for (uintptr_t at = BIOS_AREA; at < BIOS_AREA_END; at += 16)
		if (text_equal((const char *)at, "RSD PTR ", 8))
			return at;
	return 0;
}

static bool is_table(uintptr_t table, const char *signature)
{
	return text_equal((const char *)table, signature, 4);
}

static void count_madt(uintptr_t madt, uint32_t len)
{
	uint32_t cpus = 0, ioapics = 0;
	uintptr_t end = madt + len;

	for (uintptr_t at = madt + 44; at + 2 <= end && read8(at + 1);
	     at += read8(at + 1)) {
		if (read8(at) == 0 && (read32(at + 4) & 1))
			cpus++;
		if (read8(at) == 1 && read32(at + 4) == 0xfec00000)
			ioapics++;
	}
	print("cpus ");
	print_number(cpus);
	print("\n");
	check(ioapics == 1, "one_ioapic", ioapics);
	check(read32(madt + 36) == 0xfee00000, "lapic_address",
	      read32(madt + 36));
}

/* Names and strings in AML stand there as text. */
static uint32_t count_text(uintptr_t table, uint32_t len, const char *text)
{
	uint32_t count = 0;

	for (uintptr_t at = table + TABLE_HEADER; at + 4 <= table + len; at++)
		if (read8(at) == (uint8_t)text[0] &&
		    text_equal((const char *)at, text, 4))
			count++;
	return count;
}

/* Address of the first such bytes in the table; 0: none. */
static uintptr_t find_bytes(uintptr_t from, uintptr_t end, const char *bytes,
			    size_t len)
{
	for (uintptr_t at = from; at + len <= end; at++)
		if (text_equal((const char *)at, bytes, len))
			return at;
	return 0;
}

/* Name (ADDR, Package (2) {DWord low, Zero}), the length in three bytes. */
static void look_at_generation_id(uintptr_t dsdt, uintptr_t end)
{
	uintptr_t name = find_bytes(dsdt, end, "ADDR\x12", 5);
	uint32_t addr;

	check(name && read8(name + 8) == 2 && read8(name + 9) == 0x0c &&
		      read8(name + 14) == 0,
	      "generation_id_package", name);
	addr = read32(name + 10);
	check(addr % 8 == 0 && addr >= 0x9fc00 && addr < 0xe0000,
	      "generation_id_address", addr);
	check(read64(addr) && read64(addr + 8), "generation_id", read64(addr));
	print("id ");
	print_hex(read64(addr));
	print_hex(read64(addr + 8));
	print("\n");
}

static void look_at_clock(uintptr_t dsdt, uintptr_t end)
{
	enum { MAGIC = 0x4b4c4356, GENERATION_COUNTER = 1 << 8 };
	uintptr_t device = find_bytes(dsdt, end, "VCLK", 4);
	/* Memory32Fixed, writable */
	uintptr_t range = find_bytes(device, end, "\x86\x09\x00\x01", 4);
	uint32_t addr;

	check(device && range, "clock_resource", range);
	addr = read32(range + 4);
	check(read32(range + 8) == 4096, "clock_length", read32(range + 8));
	check(addr % 4096 == 0 && addr >= 0x9fc00 && addr < 0xe0000,
	      "clock_address", addr);
	check(read32(addr) == MAGIC && read32(addr + 4) == 4096 &&
		      read32(addr + 8) == 0xff0001,
	      "clock_constants", read64(addr));
	check(read32(addr + 12) == 0, "clock_sequence", read32(addr + 12));
	check(read64(addr + 24) & GENERATION_COUNTER, "clock_flags",
	      read64(addr + 24));
}

static void look_at_dsdt(uintptr_t dsdt)
{
	uint32_t len = read32(dsdt + 4);

	check(is_table(dsdt, "DSDT"), "dsdt_signature", read32(dsdt));
	check(sum(dsdt, len) == 0, "dsdt_checksum", sum(dsdt, len));
	check(count_text(dsdt, len, "COM1") > 0, "com1", 0);
	check(count_text(dsdt, len, "PS2_") > 0, "keyboard", 0);
	check(count_text(dsdt, len, "_S5_") > 0, "power_off", 0);
	look_at_generation_id(dsdt, dsdt + len);
	look_at_clock(dsdt, dsdt + len);
	print("virtio ");
	print_number(count_text(dsdt, len, "LNRO"));
	print("\n");
}

static void look_at_fadt(uintptr_t fadt)
{
	enum { HW_REDUCED = 1u << 20, RESET_SUPPORTED = 1u << 10 };
	uint32_t flags = read32(fadt + 112);

	check(flags & HW_REDUCED, "hardware_reduced", flags);
	check(flags & RESET_SUPPORTED, "reset_supported", flags);
	check(read8(fadt + 116) == 1 && read64(fadt + 120) == 0x602 &&
		      read8(fadt + 128) == 1,
	      "reset_register", read64(fadt + 120));
	check(read8(fadt + 244) == 1 && read64(fadt + 248) == 0x600,
	      "sleep_control", read64(fadt + 248));
	look_at_dsdt(read64(fadt + 140));
}

static void look_at_table(uintptr_t table)
{
	uint32_t len = read32(table + 4);
	char name[5] = {0};

	for (size_t i = 0; i < 4; i++)
		name[i] = (char)read8(table + i);
	print("table ");
	print(name);
	print("\n");
	check(sum(table, len) == 0, "checksum", sum(table, len));
	check(table >= 0x9fc00 && table + len <= 0xe0000, "in_reserved_memory",
	      table);
	if (is_table(table, "APIC"))
		count_madt(table, len);
	if (is_table(table, "FACP"))
		look_at_fadt(table);
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	uintptr_t rsdp = find_rsdp();
	uintptr_t xsdt;

	(void)info;
	(void)protocol;
	check(rsdp == BIOS_AREA, "rsdp", rsdp);
	check(sum(rsdp, 20) == 0, "rsdp_checksum", sum(rsdp, 20));
	check(sum(rsdp, 36) == 0, "rsdp_long_checksum", sum(rsdp, 36));
	check(read8(rsdp + 15) == 2, "rsdp_revision", read8(rsdp + 15));
	xsdt = read64(rsdp + 24);
	check(is_table(xsdt, "XSDT"), "xsdt_signature", read32(xsdt));
	for (uintptr_t at = xsdt + TABLE_HEADER; at < xsdt + read32(xsdt + 4);
	     at += 8)
		look_at_table(read64(at));
	print_done();
	guest_reset();
}
