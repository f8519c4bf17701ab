/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tiny guests have instead of an operating system.
 *
 * A guest is a freestanding program in ring 0 with the first 4 GiB mapped one
 * to one. It reports on COM1, one line per property: "ok NAME" or "fail NAME
 * DETAIL", and says "done" at its end; tests/integration/tiny_*.py turn the
 * lines into results. Code is kept to some thousand instructions, since some
 * machines interpret each of them.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { PROTOCOL_PVH, PROTOCOL_LINUX };

/* Each guest's own part. @info: PVH start info or zero page. */
void guest_main(uintptr_t info, uint32_t protocol);

/* ------------------------------------------------------------ instructions */

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t in16(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint8_t read8(uintptr_t addr)
{
	return *(volatile uint8_t *)addr;
}

static inline uint16_t read16(uintptr_t addr)
{
	return *(volatile uint16_t *)addr;
}

static inline uint32_t read32(uintptr_t addr)
{
	return *(volatile uint32_t *)addr;
}

static inline uint64_t read64(uintptr_t addr)
{
	return *(volatile uint64_t *)addr;
}

static inline void write8(uintptr_t addr, uint8_t value)
{
	*(volatile uint8_t *)addr = value;
}

static inline void write16(uintptr_t addr, uint16_t value)
{
	*(volatile uint16_t *)addr = value;
}

static inline void write32(uintptr_t addr, uint32_t value)
{
	*(volatile uint32_t *)addr = value;
}

static inline void write64(uintptr_t addr, uint64_t value)
{
	*(volatile uint64_t *)addr = value;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline uint64_t rdmsr(uint32_t index)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
	return (uint64_t)high << 32 | low;
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* All earlier memory accesses before all later ones. */
static inline void barrier(void)
{
	__asm__ volatile("mfence" : : : "memory");
}

/* ------------------------------------------------------------------ report */

void print(const char *text);
void print_hex(uint64_t value);
void print_number(uint64_t value);

/* One property: "ok NAME", or "fail NAME got 0x..". */
void check(bool good, const char *name, uint64_t got);

/* The guest's last words. */
void print_done(void);

/* Waits for the next byte from COM1. */
uint8_t typed(void);

/* ----------------------------------------------------------------- the end */

void guest_reset(void); /* i8042; the monitor ends with 0 */
_Noreturn void guest_halt(void);

/* ------------------------------------------------------------ boot details */

/* Registers at the entry; the PVH one leaves the first two and CR3 open. */
extern const struct entry_state {
	uint64_t rsp, rbp, rflags, cr0, cr3, cr4;
} entry_state;

/* The kernel command line, however the guest was entered. */
const char *boot_cmdline(uintptr_t info, uint32_t protocol);

/* Does the command line have this word? */
bool boot_word(uintptr_t info, uint32_t protocol, const char *word);

bool text_equal(const char *a, const char *b, size_t len);

/* -------------------------------------------------------------- interrupts */

/* Takes over the local APIC and an IDT, keeps the PIC quiet. */
void irq_init(void);

/* Edge-triggered delivery of @gsi through the IOAPIC to this CPU. */
void irq_enable(uint32_t gsi);

/* Interrupts of @gsi so far; wraps. */
uint32_t irq_count(uint32_t gsi);

/* Sleeps until there are @count of them; false after some seconds. */
bool irq_wait(uint32_t gsi, uint32_t count);

void lapic_write(uint32_t reg, uint32_t value);
uint32_t lapic_read(uint32_t reg);

enum {
	LAPIC_ID = 0x20,
	LAPIC_EOI = 0xb0,
	LAPIC_SPURIOUS = 0xf0,
	LAPIC_ICR_LOW = 0x300,
	LAPIC_ICR_HIGH = 0x310,
	LAPIC_TIMER = 0x320,
	LAPIC_TIMER_COUNT = 0x380,
	LAPIC_TIMER_DIVIDE = 0x3e0,
};

/* True until a generous number of seconds has passed since @start (rdtsc). */
bool time_left(uint64_t start);

#endif
