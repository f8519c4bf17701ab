/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says "ready" and waits, with a drive in use, until it finds itself a copy:
 * that is when its generation id changes. Its first act then is a byte on
 * COM1, its second and last to halt.
 */
#include "virtio.h"

#define COM1 0x3f8
#define GENERATION 0xde000 /* MEMMAP_VMGENID */

static struct rings rings;
static struct block block;
static uint64_t data[SECTOR / 8];

void guest_main(uintptr_t info, uint32_t protocol)
{
	uint64_t generation = read64(GENERATION);

	(void)info;
	(void)protocol;
	check(block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, 0), "init",
	      reg_read(&block, REG_STATUS));
	check(block_request(&block, BLK_IN, 0, data, sizeof(data)) == BLK_OK,
	      "read", block_status());
	print("ready\n");
	while (read64(GENERATION) == generation)
		cpu_relax();
	out8(COM1, 'c');
	guest_halt();
}
