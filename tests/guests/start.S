/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a tiny guest begins, whichever way it was entered, up to the call of
 * guest_main(info, protocol) in long mode with the first 4 GiB mapped one to
 * one. The page tables are data, so that no instruction is spent on them: on
 * machines without virtualization hardware each costs a microsecond here.
 *
 * What is in .note.Xen makes a monitor use the 32-bit PVH entry; guests linked
 * without note.o are entered as a 64-bit Linux kernel.
 */
#define PRESENT_WRITABLE 0x3
#define LARGE_PAGE 0x80
#define CODE64 0x18
#define CR0_PE_PG 0x80000001
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define STACK_SIZE 0x4000

	.section .text.start, "ax"

	/* Linux 64-bit entry: RSI = zero page. */
	.code64
	.global start64
start64:
	mov %rsp, entry_state
	mov %rbp, entry_state + 8
	mov $boot_stack_top, %esp
	pushfq
	popq entry_state + 16
	mov %cr0, %rax
	mov %rax, entry_state + 24
	mov %cr3, %rax
	mov %rax, entry_state + 32
	mov %cr4, %rax
	mov %rax, entry_state + 40
	mov $tables_pml4, %eax
	mov %rax, %cr3
	lgdt gdt_pointer
	mov %rsi, %rdi
	mov $1, %esi
	jmp enter_main

	/* PVH entry: 32-bit, no paging, EBX = start info. */
	.code32
	.global start32
start32:
	mov $boot_stack_top, %esp
	pushfl
	popl entry_state + 16
	mov %cr0, %eax
	mov %eax, entry_state + 24
	mov %cr4, %eax
	mov %eax, entry_state + 40
	mov %ebx, %edi
	xor %esi, %esi
	mov $enter_main, %ebx
	jmp go_long

	/* To 64-bit code at EBX; keeps EDI and ESI. The second CPU comes this
	 * way too. */
	.global go_long
go_long:
	lgdt gdt_pointer
	mov %cr4, %eax
	or $CR4_PAE, %eax
	mov %eax, %cr4
	mov $tables_pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov %cr0, %eax
	or $CR0_PE_PG, %eax
	mov %eax, %cr0
	ljmp $CODE64, $long_mode
	.code64
long_mode:
	mov %ebx, %ebx
	jmp *%rbx

enter_main:
	/* The Linux entry's code segment may be any; ours has a known one. */
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	pushq $CODE64
	pushq $1f
	lretq
1:	call guest_main
	jmp guest_halt

	/* The second CPU: real mode at the page it was sent to, copied here
	 * from ap_start..ap_end, all references relative to that page. */
	.global ap_start
	.global ap_end
	.code16
ap_start:
	cli
	mov %cs, %ax
	mov %ax, %ds
	lgdtl (ap_gdt_pointer - ap_start)
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmpl $0x8, $ap_protected
	.balign 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_end:

	.code32
ap_protected:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $ap_stack_top, %esp
	mov $ap_main_address, %ebx
	jmp go_long
	.code64
ap_main_address:
	call ap_main
1:	hlt
	jmp 1b

	/* Guests with one CPU have no ap_main. */
	.weak ap_main

	.section .tables, "aw"
	.balign 4096
tables_pml4:
	.quad tables_pdpt + PRESENT_WRITABLE
	.fill 511, 8, 0
tables_pdpt:
	.set gib, 0
	.rept 4
	.quad tables_pd + gib * 0x1000 + PRESENT_WRITABLE
	.set gib, gib + 1
	.endr
	.fill 508, 8, 0
tables_pd:
	.set page, 0
	.rept 4 * 512
	.quad page * 0x200000 + LARGE_PAGE + PRESENT_WRITABLE
	.set page, page + 1
	.endr

	/* struct entry_state of guest.h */
	.global entry_state
entry_state:
	.fill 6, 8, 0

gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 0x08: 32-bit code */
	.quad 0x00cf93000000ffff	/* 0x10: data */
	.quad 0x00af9b000000ffff	/* 0x18: 64-bit code */
gdt_end:
	.balign 4
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.bss
	.balign 16
	.skip STACK_SIZE
boot_stack_top:
	.skip STACK_SIZE
ap_stack_top:
