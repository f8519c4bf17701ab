/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#define LAPIC 0xfee00000u
#define IOAPIC 0xfec00000u
#define IOAPIC_DATA 0x10

#define VECTOR_BASE 32
#define VECTOR_SPURIOUS 255
#define NUMBERS 32	/* stubs in irq_entry.S: 24 GSIs and spare ones */
#define NUMBER_TIMER 24 /* the local timer's */
#define STUB_SIZE 16

struct frame {
	uint64_t rip, cs, rflags, rsp, ss;
};

struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

extern const char irq_stubs[];
void irq_handle(uint32_t number); /* called by the stubs */

static struct gate idt[256];
static volatile uint32_t counts[NUMBERS];

void lapic_write(uint32_t reg, uint32_t value)
{
	write32(LAPIC + reg, value);
}

uint32_t lapic_read(uint32_t reg)
{
	return read32(LAPIC + reg);
}

void irq_handle(uint32_t number)
{
	counts[number]++;
	lapic_write(LAPIC_EOI, 0);
}

static void died(const struct frame *frame, uint64_t code)
{
	uint64_t cr2;

	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	print("fail exception rip ");
	print_hex(frame->rip);
	print(" code ");
	print_hex(code);
	print(" cr2 ");
	print_hex(cr2);
	print("\n");
	guest_halt();
}

__attribute__((interrupt)) static void on_fault(struct frame *frame)
{
	died(frame, 0);
}

__attribute__((interrupt)) static void on_fault_code(struct frame *frame,
						     unsigned long code)
{
	died(frame, code);
}

__attribute__((interrupt)) static void on_spurious(struct frame *frame)
{
	(void)frame;
}

static void set_gate(size_t vector, uintptr_t handler)
{
	idt[vector] = (struct gate){
		.offset_low = (uint16_t)handler,
		.selector = 0x18,
		.type = 0x8e, /* present, interrupt gate */
		.offset_middle = (uint16_t)(handler >> 16),
	};
}

static void load_idt(void)
{
	const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof(idt) - 1, (uintptr_t)idt};

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void irq_init(void)
{
	/* Exceptions that push an error code: #DF #TS #NP #SS #GP #PF #AC. */
	static const uint8_t with_code[] = {8, 10, 11, 12, 13, 14, 17};

	for (size_t vector = 0; vector < VECTOR_BASE; vector++)
		set_gate(vector, (uintptr_t)on_fault);
	for (size_t i = 0; i < ARRAY_SIZE(with_code); i++)
		set_gate(with_code[i], (uintptr_t)on_fault_code);
	for (size_t i = 0; i < NUMBERS; i++)
		set_gate(VECTOR_BASE + i, (uintptr_t)irq_stubs + i * STUB_SIZE);
	set_gate(VECTOR_SPURIOUS, (uintptr_t)on_spurious);
	load_idt();
	/* Every line reaches the PIC too, which would deliver vectors of its
	 * own through LINT0. */
	out8(0x21, 0xff);
	out8(0xa1, 0xff);
	lapic_write(LAPIC_SPURIOUS, 0x100 | VECTOR_SPURIOUS);
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
	write32(IOAPIC, reg);
	write32(IOAPIC + IOAPIC_DATA, value);
}

void irq_enable(uint32_t gsi)
{
	uint32_t entry = 0x10 + gsi * 2;

	ioapic_write(entry + 1, lapic_read(LAPIC_ID) & 0xff000000);
	ioapic_write(entry, VECTOR_BASE + gsi); /* fixed, edge, unmasked */
}

uint32_t irq_count(uint32_t gsi)
{
	return counts[gsi];
}

/* Bounds a sleep: without it a lost interrupt would be one for ever. */
static void start_ticks(void)
{
	enum { PERIODIC = 0x20000, DIVIDE_BY_16 = 3, PERIOD = 10000000 };

	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
	lapic_write(LAPIC_TIMER, PERIODIC | (VECTOR_BASE + NUMBER_TIMER));
	lapic_write(LAPIC_TIMER_COUNT, PERIOD);
}

static void stop_ticks(void)
{
	enum { MASKED = 0x10000 };

	lapic_write(LAPIC_TIMER, MASKED);
}

bool irq_wait(uint32_t gsi, uint32_t count)
{
	uint64_t start = rdtsc();

	start_ticks();
	while ((int32_t)(counts[gsi] - count) < 0 && time_left(start))
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	stop_ticks();
	return (int32_t)(counts[gsi] - count) >= 0;
}
