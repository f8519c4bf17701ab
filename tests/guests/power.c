/* SPDX-License-Identifier: Apache-2.0 */
/* Ends in the way that its command line names. */
#include "guest.h"

static void acpi_power_off(void)
{
	out8(0x600, 5 << 2 | 0x20); /* SLP_TYP 5, SLP_EN */
}

static void acpi_sleep_s3(void)
{
	out8(0x600, 3 << 2 | 0x20);
	out8(0x600, 5 << 2); /* S5 chosen, but not entered */
	out8(0x602, 2);	     /* not the reset value */
	out8(0x64, 0xaa);    /* not the reset command */
	check(true, "goes_on", 0);
	guest_reset();
}

static void acpi_reset(void)
{
	out8(0x602, 1);
}

static void triple_fault(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) empty = {0, 0};

	__asm__ volatile("lidt %0; ud2" : : "m"(empty));
}

/* The emulated instruction pointer runs into memory that is not there. */
static void jump_to_nothing(void)
{
	__asm__ volatile("jmp *%0" : : "r"(UINT64_C(0xd0000000)));
}

static const struct {
	const char *word;
	void (*act)(void);
} ends[] = {
	{"i8042", guest_reset},	  {"s5", acpi_power_off},
	{"s3", acpi_sleep_s3},	  {"acpi_reset", acpi_reset},
	{"triple", triple_fault}, {"nowhere", jump_to_nothing},
};

void guest_main(uintptr_t info, uint32_t protocol)
{
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		if (!boot_word(info, protocol, ends[i].word))
			continue;
		print("ending ");
		print(ends[i].word);
		print("\n");
		ends[i].act();
	}
	guest_halt();
}
