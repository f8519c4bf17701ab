/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ring 3 for a function: ring3_call(fn) runs it there and returns when it does.
 * Its way back is int3, the one software interrupt that works everywhere.
 */
#define KERNEL_DATA 0x10
#define USER_DATA 0x23
#define USER_CODE 0x2b
#define FLAGS 0x2	/* nothing but the bit that is always set */
#define STACK_SIZE 0x4000

	.text
	.code64
	.global ring3_call
ring3_call:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, saved_rsp
	pushq $USER_DATA
	pushq $ring3_stack_top
	pushq $FLAGS
	pushq $USER_CODE
	pushq $ring3_begin
	iretq

ring3_begin:
	call *%rdi
	int3

	/* What the gate of vector 3 leads to. */
	.global ring3_end
ring3_end:
	mov saved_rsp, %rsp
	mov $KERNEL_DATA, %eax
	mov %eax, %ss
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.bss
	.balign 16
saved_rsp:
	.skip 8
	.balign 16
	.skip STACK_SIZE
ring3_stack_top:
	.skip 256
	.balign 16
	.global ring3_trap_stack_top
ring3_trap_stack_top:
