/* SPDX-License-Identifier: Apache-2.0 */
/* Prints a rising number about every millisecond, for ever: what a paused
 * machine must not do. With "quiet" on the command line it only sleeps. */
#include "guest.h"

#define TICK 2000000 /* TSC cycles */

static void wait_a_tick(void)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < TICK)
		cpu_relax();
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	print("counting\n");
	if (boot_word(info, protocol, "quiet"))
		guest_halt();
	for (uint64_t n = 0;; n++) {
		print_number(n);
		print("\n");
		wait_a_tick();
	}
}
