/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses to ports and addresses where nothing is: reads give 0, writes are
 * ignored, and the machine goes on. */
#include "guest.h"

static const uint16_t ports[] = {
	0x0070, 0x0080, 0x02f8, 0x03e8, 0x03f0, 0x0400, 0x0604, 0x0cf8, 0xffff,
};

static const uint32_t addresses[] = {
	0xc0000000, 0xc0000ffc, 0xc0001000, 0xd0000000,
	0xeec00000, 0xfed00000, 0xfffff000,
};

static void try_port(uint16_t port)
{
	uint32_t got;

	out8(port, 0xa5);
	got = in8(port);
	if (port != 0xffff) {
		out16(port, 0xa5a5);
		got |= in16(port);
	}
	if (port < 0xfffc) {
		out32(port, 0xa5a5a5a5);
		got |= in32(port);
	}
	check(got == 0, "port", (uint64_t)got << 16 | port);
}

static void try_address(uint32_t addr)
{
	uint64_t got;

	write8(addr, 0xa5);
	write16(addr, 0xa5a5);
	write32(addr, 0xa5a5a5a5);
	if ((addr & 7) == 0)
		write64(addr, 0xa5a5a5a5a5a5a5a5);
	got = read8(addr) | read16(addr) | read32(addr);
	if ((addr & 7) == 0)
		got |= read64(addr);
	check(got == 0, "address", got);
}

/* Accesses that begin inside a device and end outside of it. */
static void try_edges(void)
{
	out32(0x3fe, 0xffffffff);
	check((in16(0x3ff) & 0xff00) == 0, "edge_of_uart", in16(0x3ff));
	out16(0x64, 0xfefe); /* half of it is a reset: not the device's */
	check(in32(0x63) == 0, "edge_of_keyboard", in32(0x63));
}

/* A string instruction makes many accesses in one exit. */
static void try_strings(void)
{
	static uint8_t buffer[256];
	void *to = buffer;
	unsigned long count = sizeof(buffer);
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(buffer); i++)
		buffer[i] = 0xff;
	__asm__ volatile("rep insb"
			 : "+D"(to), "+c"(count)
			 : "d"(0x400)
			 : "memory");
	for (size_t i = 0; i < sizeof(buffer); i++)
		sum |= buffer[i];
	check(sum == 0, "string_input", sum);
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++)
		try_port(ports[i]);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		try_address(addresses[i]);
	try_edges();
	try_strings();
	/* Provoke a warning per access: the log must stay readable. */
	for (uint32_t i = 0; i < 200; i++)
		in8(0x400);
	print_done();
	guest_reset();
}
