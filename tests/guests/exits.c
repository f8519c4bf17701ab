/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves the guest very often: that many writes to a port nobody listens at,
 * between two bytes on COM1. For measuring what one exit costs. */
#include "guest.h"

#define COM1 0x3f8
#define NOBODY 0x80
#define EXITS 20000 /* tests/perf/filter.c knows */

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	out8(COM1, 's');
	for (uint32_t i = 0; i < EXITS; i++)
		out8(NOBODY, 0);
	out8(COM1, 'e');
	guest_reset();
}
