/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells whether its registers and its memory are of the same moment.
 *
 * The number of the turn is in a register and nowhere else. Each turn finds the
 * last one's number in every page and leaves its own, and is reported as "turn
 * N", or, for ever, as "torn N". With "high" on the command line every other
 * page is above 4 GiB; with "calm" the guest sleeps once there has been a turn.
 */
#include "guest.h"

#define TICK 2000000 /* TSC cycles */
#define PAGES 64
#define LOW 0x2000000
#define HIGH 0x100000000
#define PRESENT_WRITABLE 0x3
#define LARGE_PAGE 0x80

register uint64_t turn __asm__("r15");

static bool has_high;
static uint64_t high_directory[512] __attribute__((aligned(4096)));

static void map_high(void)
{
	uint64_t pml4, pdpt;

	__asm__ volatile("mov %%cr3, %0" : "=r"(pml4));
	pdpt = read64(pml4) & ~0xfffull;
	for (uint64_t i = 0; i < ARRAY_SIZE(high_directory); i++)
		high_directory[i] =
			(HIGH + i * 0x200000) | PRESENT_WRITABLE | LARGE_PAGE;
	write64(pdpt + 4 * 8, (uintptr_t)high_directory | PRESENT_WRITABLE);
}

static uintptr_t page(uintptr_t i)
{
	return (has_high && i % 2 ? HIGH : LOW) + i * 0x1000;
}

static void report(const char *what)
{
	print(what);
	print_number(turn);
	print("\n");
}

static void take_turn(void)
{
	for (uintptr_t i = 0; i < PAGES; i++) {
		while (read64(page(i)) != turn)
			report("torn ");
		write64(page(i), turn + 1);
	}
	turn++;
	report("turn ");
}

static void wait_a_tick(void)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < TICK)
		cpu_relax();
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	has_high = boot_word(info, protocol, "high");
	if (has_high)
		map_high();
	turn = 0;
	for (;;) {
		take_turn();
		if (boot_word(info, protocol, "calm"))
			guest_halt();
		wait_a_tick();
	}
}
