/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device worked from the serial console, one letter per order:
 * c: print the capacity and the config changes announced so far; r, w: read or
 * write sector 100 and print the status; q: quit.
 */
#include "virtio.h"

#define LINE 100

static struct rings rings;
static struct block block;
static uint64_t data[SECTOR / 8];
static uint32_t changes;

static void count_changes(void)
{
	if (!(reg_read(&block, REG_INTERRUPT_STATUS) & 2))
		return;
	reg_write(&block, REG_INTERRUPT_ACK, 2);
	changes++;
}

static void print_capacity(void)
{
	count_changes();
	print("capacity ");
	print_number(block_capacity(&block));
	print(" changes ");
	print_number(changes);
	print("\n");
}

static void transfer(uint32_t type)
{
	uint8_t status;

	data[0] = 0x5555aaaa;
	status = block_request(&block, type, LINE, data, sizeof(data));
	print("status ");
	print_number(status);
	print(" data ");
	print_hex(data[0]);
	print("\n");
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
		case 'c':
			print_capacity();
			break;
		case 'r':
			transfer(BLK_IN);
			break;
		case 'w':
			transfer(BLK_OUT);
			break;
		case 'q':
			print_done();
			guest_reset();
			break;
		default:
			break;
		}
	}
}
