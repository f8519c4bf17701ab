/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first instructions of the release monitor. What has addresses in it is
 * relocated before anything else, each of its pages becomes the process's own,
 * and each would be missed on its own: the kernel is asked for all of them at
 * once. (The same for code, constants and the stack gives nothing: there a fault
 * brings in what is around it.)
 *
 * Kernels before 5.14 do not know the request; nothing depends on it.
 */
#include <asm/unistd_64.h>

#define MADV_POPULATE_WRITE 23

	.text
	.globl ember_entry
	.hidden ember_entry
	.type ember_entry, @function
ember_entry:
	mov %rdx, %rbx /* what the kernel gives to _start */
	lea __init_array_start(%rip), %rdi
	lea _edata(%rip), %rsi
	and $-4096, %rdi
	sub %rdi, %rsi
	mov $MADV_POPULATE_WRITE, %edx
	mov $__NR_madvise, %eax
	syscall
	mov %rbx, %rdx
	xor %ebx, %ebx
	jmp _start
	.size ember_entry, . - ember_entry

	.section .note.GNU-stack, "", @progbits
