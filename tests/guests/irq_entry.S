/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt entries: one stub of 16 bytes per vector from 32 on, each of which
 * calls irq_handle(number), counted from 0.
 */
	.text
	.code64
	.balign 16
	.global irq_stubs
irq_stubs:
	.set number, 0
	.rept 32
	.balign 16
	pushq $number
	jmp common
	.set number, number + 1
	.endr

common:
	push %rax
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	mov 72(%rsp), %edi
	cld
	call irq_handle
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rax
	add $8, %rsp
	iretq
