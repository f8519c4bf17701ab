/* SPDX-License-Identifier: Apache-2.0 */
/* Echoes what is typed on COM1, woken by its interrupt, until a 'q'. */
#include "guest.h"

#define COM1 0x3f8
#define COM1_GSI 4

enum {
	DATA = 0,
	IER = 1,
	IIR = 2,
	FCR = 2,
	LCR = 3,
	MCR = 4,
	LSR = 5,
	SCR = 7
};
enum { LSR_DATA_READY = 0x01, LSR_TRANSMITTER_EMPTY = 0x60 };

static void check_registers(void)
{
	uint8_t low, high;

	out8(COM1 + SCR, 0x5a);
	check(in8(COM1 + SCR) == 0x5a, "scratch", in8(COM1 + SCR));
	out8(COM1 + LCR, 0x83); /* divisor latch */
	out8(COM1 + DATA, 0x0c);
	out8(COM1 + IER, 0x01);
	low = in8(COM1 + DATA);
	high = in8(COM1 + IER);
	out8(COM1 + LCR, 0x03);
	check(low == 0x0c, "divisor_low", low);
	check(high == 0x01, "divisor_high", high);
	check(in8(COM1 + LCR) == 0x03, "line_control", in8(COM1 + LCR));
	check((in8(COM1 + LSR) & LSR_TRANSMITTER_EMPTY) ==
		      LSR_TRANSMITTER_EMPTY,
	      "transmitter_empty", in8(COM1 + LSR));
	out8(COM1 + FCR, 0x01); /* on, and what has arrived is kept */
	check((in8(COM1 + IIR) & 0xc0) == 0xc0, "fifo_enabled",
	      in8(COM1 + IIR));
}

/* Returns true at a 'q'. */
static bool echo_available(void)
{
	while (in8(COM1 + LSR) & LSR_DATA_READY) {
		uint8_t byte = in8(COM1 + DATA);

		if (byte == 'q')
			return true;
		out8(COM1 + DATA, byte);
	}
	return false;
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	uint32_t seen = 0;

	(void)info;
	(void)protocol;
	check_registers();
	irq_init();
	irq_enable(COM1_GSI);
	out8(COM1 + MCR, 0x0b); /* OUT2: lets interrupts out */
	out8(COM1 + IER, 0x01); /* data available */
	print("ready\n");
	while (!echo_available()) {
		while (irq_count(COM1_GSI) == seen)
			__asm__ volatile("sti; hlt; cli" : : : "memory");
		seen = irq_count(COM1_GSI);
	}
	print("\n");
	check(irq_wait(COM1_GSI, 1), "interrupts", irq_count(COM1_GSI));
	print_done();
	guest_reset();
}
