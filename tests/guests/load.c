/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps a block device busy, one request after the other, as it is told on the
 * serial console by a letter: r, w: 400 reads or writes of 4 KiB; R, W: 64 of
 * 1 MiB. Says "done" after each order, or how many of them failed. What is read
 * and written is at 16 MiB.
 */
#include "virtio.h"

#define DATA ((void *)0x1000000ul)
#define DISK_SECTORS (64u << 20 >> 9)

static struct rings rings;
static struct block block;

static void repeat(uint32_t type, unsigned int count, uint32_t len)
{
	unsigned int failed = 0;
	uint64_t sector = 0;

	for (unsigned int i = 0; i < count; i++) {
		failed += block_request(&block, type, sector, DATA, len) !=
			  BLK_OK;
		sector = (sector + len / SECTOR) % DISK_SECTORS;
	}
	check(failed == 0, "failed", failed);
	print("done\n");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	check(block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, 0), "init",
	      reg_read(&block, REG_STATUS));
	print("ready\n");
	for (;;) {
		switch (typed()) {
		case 'r':
			repeat(BLK_IN, 400, 4096);
			break;
		case 'w':
			repeat(BLK_OUT, 400, 4096);
			break;
		case 'R':
			repeat(BLK_IN, 64, 1 << 20);
			break;
		case 'W':
			repeat(BLK_OUT, 64, 1 << 20);
			break;
		default:
			break;
		}
	}
}
