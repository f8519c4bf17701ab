/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to as many MiB of its memory as it is told on the serial console, one
 * number a line: a word in the middle of each page, another one each time, from
 * 16 MiB on. Says "dirty N" when that is done. Zero ends it.
 */
#include "guest.h"

#define FIRST 0x1000000ul
#define PAGE 4096
#define MIDDLE (PAGE / 2)

static uint64_t typed_number(void)
{
	uint64_t number = 0;

	for (uint8_t c = typed(); c != '\n'; c = typed())
		number = number * 10 + (c - '0');
	return number;
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	uint64_t turn = 0, mib;

	(void)info;
	(void)protocol;
	print("ready\n");
	while ((mib = typed_number()) != 0) {
		uintptr_t end = FIRST + (mib << 20);

		turn++;
		for (uintptr_t at = FIRST + MIDDLE; at < end; at += PAGE)
			write64(at, turn);
		print("dirty ");
		print_number(mib);
		print("\n");
	}
	print_done();
	guest_reset();
}
