/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the boot timer that it has booted; first wrongly, then rightly. */
#include "guest.h"

#define BOOT_TIMER 0xc0000000u
#define BOOTED 123

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	write8(BOOT_TIMER, 122);
	write32(BOOT_TIMER + 8, BOOTED);
	check(read8(BOOT_TIMER) == 0, "reads_zero", read8(BOOT_TIMER));
	print("wrong\n");
	write8(BOOT_TIMER, BOOTED);
	print_done();
	guest_reset();
}
