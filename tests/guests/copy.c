/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says "ready" and waits until a word of its memory is not zero any more.
 * Nobody changes it but whoever looks for the mark before it in the guest's
 * saved memory (tests/perf/peers.py): so every copy, and only a copy, says
 * "copy" and halts, with any monitor, and without a device.
 */
#include "guest.h"

static volatile const struct {
	char mark[24];
	uint64_t go;
} word = {"ember: the copy may go.", 0};

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	print("ready\n");
	while (!word.go)
		cpu_relax();
	print("copy\n");
	guest_halt();
}
