/* SPDX-License-Identifier: Apache-2.0 */
#include "ring3.h"

#include "guest.h"

#define PAGE_USER 0x7 /* present, writable, user */
#define PAGE_LARGE 0x80
#define LARGE_SIZE 0x200000u
#define PAGES (RING3_LIMIT / LARGE_SIZE)

#define CODE64 0x18
#define TSS_SELECTOR 0x30
#define TSS_TYPE UINT64_C(0x0000890000000000)
#define GATE_USER UINT64_C(0x0000ee0000000000) /* interrupt gate, DPL 3 */
#define BREAKPOINT 3

struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

/* The start's tables again, but for ring 3 as well. */
static uint64_t pml4[512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[512] __attribute__((aligned(4096)));

static uint64_t gdt[] = {
	0,
	0x00cf9b000000ffff, /* 0x08: 32-bit code */
	0x00cf93000000ffff, /* 0x10: data */
	0x00af9b000000ffff, /* 0x18: 64-bit code */
	0x00cff3000000ffff, /* 0x20: data, ring 3 */
	0x00affb000000ffff, /* 0x28: 64-bit code, ring 3 */
	0,		    /* 0x30: the task state, two entries */
	0,
};

static uint64_t idt[2 * (BREAKPOINT + 1)];

/* Only the stack of ring 0 matters; no port is open to ring 3. */
static struct {
	uint32_t reserved;
	uint64_t rsp0;
	uint8_t others[90];
	uint16_t ports_at;
} __attribute__((packed)) tss;

extern char ring3_trap_stack_top[];
void ring3_end(void);

static void make_tables(void)
{
	for (uint64_t i = 0; i < PAGES; i++)
		pd[i] = i * LARGE_SIZE + PAGE_LARGE + PAGE_USER;
	pdpt[0] = (uintptr_t)pd + PAGE_USER;
	pml4[0] = (uintptr_t)pdpt + PAGE_USER;
	__asm__ volatile("mov %0, %%cr3" : : "r"(pml4) : "memory");
}

static void set_task(void)
{
	uint64_t base = (uintptr_t)&tss;

	tss.rsp0 = (uintptr_t)ring3_trap_stack_top;
	tss.ports_at = sizeof(tss);
	gdt[6] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | TSS_TYPE |
		 (base >> 24 & 0xff) << 56;
	gdt[7] = base >> 32;
}

void ring3_init(void)
{
	const struct table_pointer gdtr = {sizeof(gdt) - 1, (uintptr_t)gdt};
	const struct table_pointer idtr = {sizeof(idt) - 1, (uintptr_t)idt};
	uint64_t handler = (uintptr_t)ring3_end;

	make_tables();
	set_task();
	idt[2 * BREAKPOINT] = (handler & 0xffff) | CODE64 << 16 | GATE_USER |
			      (handler >> 16 & 0xffff) << 48;
	idt[2 * BREAKPOINT + 1] = handler >> 32;
	__asm__ volatile("lgdt %0" : : "m"(gdtr));
	__asm__ volatile("lidt %0" : : "m"(idtr));
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}
