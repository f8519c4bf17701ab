/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for four scancodes from the i8042 and prints them. */
#include "guest.h"

#define KEYBOARD_GSI 1
#define DATA_PORT 0x60
#define STATUS_PORT 0x64
#define OUTPUT_FULL 0x01

void guest_main(uintptr_t info, uint32_t protocol)
{
	uint32_t count = 0;

	(void)info;
	(void)protocol;
	irq_init();
	irq_enable(KEYBOARD_GSI);
	check((in8(STATUS_PORT) & OUTPUT_FULL) == 0, "nothing_yet",
	      in8(STATUS_PORT));
	out8(STATUS_PORT, 0x60); /* write the command byte ... */
	out8(DATA_PORT, 0x01);	 /* ... keyboard interrupts on */
	print("ready\n");
	while (count < 4) {
		while (irq_count(KEYBOARD_GSI) == 0)
			__asm__ volatile("sti; hlt; cli" : : : "memory");
		for (; in8(STATUS_PORT) & OUTPUT_FULL; count++) {
			print("scancode ");
			print_hex(in8(DATA_PORT));
			print("\n");
		}
	}
	check(irq_count(KEYBOARD_GSI) > 0, "interrupt",
	      irq_count(KEYBOARD_GSI));
	print_done();
	guest_reset();
}
