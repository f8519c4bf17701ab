/* SPDX-License-Identifier: Apache-2.0 */
/* What vmm/seccomp.c finds linked in: the default filters, and the names of
 * system calls. Nothing, where the build has no filters. */
	.section .rodata
	.globl seccomp_builtin, seccomp_builtin_len
	.globl seccomp_calls, seccomp_calls_len
	.balign 8
seccomp_builtin:
#ifdef SECCOMP_FILTERS
	.incbin SECCOMP_FILTERS
#endif
0:
seccomp_calls:
	.incbin SECCOMP_CALLS
1:
	.balign 4
seccomp_builtin_len:
	.long 0b - seccomp_builtin
seccomp_calls_len:
	.long 1b - seccomp_calls
	.section .note.GNU-stack,"",@progbits
