/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#include "pvh.h"

#define COM1 0x3f8
#define LSR (COM1 + 5)
#define LSR_DATA_READY 1
#define ZERO_PAGE_CMDLINE 0x228 /* offset of cmd_line_ptr */

/* Ten seconds at 2 GHz. */
#define TIME_LIMIT UINT64_C(20000000000)

void print(const char *text)
{
	while (*text)
		out8(COM1, (uint8_t)*text++);
}

void print_hex(uint64_t value)
{
	char text[17];
	size_t at = sizeof(text) - 1;

	text[at] = '\0';
	do {
		text[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value);
	print("0x");
	print(text + at);
}

void print_number(uint64_t value)
{
	char text[21];
	size_t at = sizeof(text) - 1;

	text[at] = '\0';
	do {
		text[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	print(text + at);
}

void check(bool good, const char *name, uint64_t got)
{
	print(good ? "ok " : "fail ");
	print(name);
	if (!good) {
		print(" got ");
		print_hex(got);
	}
	print("\n");
}

void print_done(void)
{
	print("done\n");
}

uint8_t typed(void)
{
	while (!(in8(LSR) & LSR_DATA_READY))
		cpu_relax();
	return in8(COM1);
}

void guest_reset(void)
{
	out8(0x64, 0xfe);
}

_Noreturn void guest_halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

bool time_left(uint64_t start)
{
	return rdtsc() - start < TIME_LIMIT;
}

const char *boot_cmdline(uintptr_t info, uint32_t protocol)
{
	const struct pvh_start_info *pvh = (const void *)info;

	if (protocol == PROTOCOL_PVH)
		return (const char *)(uintptr_t)pvh->cmdline;
	return (const char *)(uintptr_t)read32(info + ZERO_PAGE_CMDLINE);
}

bool text_equal(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

static size_t word_length(const char *text)
{
	size_t len = 0;

	while (text[len] && text[len] != ' ')
		len++;
	return len;
}

bool boot_word(uintptr_t info, uint32_t protocol, const char *word)
{
	const char *at = boot_cmdline(info, protocol);
	size_t want = word_length(word);

	while (*at) {
		size_t len = word_length(at);

		if (len == want && text_equal(at, word, len))
			return true;
		at += len;
		while (*at == ' ')
			at++;
	}
	return false;
}
