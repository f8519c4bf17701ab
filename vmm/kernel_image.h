/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images: ELF vmlinux (with or without a PVH note) and bzImage, told
 * apart by content. The file is hostile: every offset and size in it is checked
 * against the file, against guest memory and against the others before a byte
 * is loaded. Segments go from the file straight into guest memory.
 *
 * Thread: loop.
 */
#ifndef EMBER_KERNEL_IMAGE_H
#define EMBER_KERNEL_IMAGE_H

#include "vmm/boot_x86.h"

/* Longest setup header a bzImage can carry (boot protocol: 0x1f1..0x280). */
#define SETUP_HEADER_MAX 0x8f

struct kernel_image {
	struct boot_entry entry;
	uint64_t end; /* first address behind what the image occupies */
	/* From a bzImage, for the zero page at offset 0x1f1. */
	uint8_t setup_header[SETUP_HEADER_MAX];
	size_t setup_header_len;
};

/* Loads @fd into @mem. -errno with a sentence in @err; guest memory may then
 * hold parts of the image. */
int kernel_image_load(struct gmem *mem, int fd, struct kernel_image *ret_image,
		      struct error *err) must_check;

#endif
