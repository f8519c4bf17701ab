/* SPDX-License-Identifier: Apache-2.0 */
/* XEN_ELFNOTE_PHYS32_ENTRY: this image has a PVH entry, and where. */
	.section .note.Xen, "a", @note
	.balign 4
	.long 2f - 1f	/* length of the name */
	.long 4f - 3f	/* length of the value */
	.long 18
1:	.asciz "Xen"
2:	.balign 4
3:	.quad start32
4:
