/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device worked from the serial console, one letter per order:
 * c: print the capacity and the config changes announced so far; r, w, f: read
 * or write sector 100, or flush, and print the status; d, z: discard or zero
 * sectors from 96 on; b: write as much as fits into the ring, have it flushed,
 * and reset the device before it can be done; l: the same 300 times, with
 * answers; q: quit.
 */
#include "virtio.h"

#define LINE 100
#define RANGE 96
#define FEATURES                                                               \
	(UINT64_C(1) << F_FLUSH | UINT64_C(1) << F_DISCARD |                   \
	 UINT64_C(1) << F_WRITE_ZEROES)

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

static void say_status(uint8_t status)
{
	print("status ");
	print_number(status);
	print("\n");
}

static void empty(uint32_t type)
{
	struct request_range range = {RANGE, 8, 0};

	say_status(block_request(&block, type, 0, &range, sizeof(range)));
}

static void start(void)
{
	check(block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, FEATURES),
	      "init", reg_read(&block, REG_STATUS));
}

#define BURST 5

/* Four writes and a flush, all with the same buffers. */
static void burst(void)
{
	static struct request_header flush = {.type = BLK_FLUSH};
	const uint16_t idx = rings.driver.idx;

	block_prepare(&block, BLK_OUT, LINE, data, sizeof(data));
	rings.desc[3] = (struct descriptor){(uintptr_t)&flush, sizeof(flush),
					    DESC_NEXT, 2};
	for (uint16_t i = 0; i < BURST; i++)
		rings.driver.ring[(idx + i) % RING_SIZE] =
			i < BURST - 1 ? 0 : 3;
	barrier();
	*(volatile uint16_t *)&rings.driver.idx = (uint16_t)(idx + BURST);
	barrier();
	reg_write(&block, REG_QUEUE_NOTIFY, 0);
}

static void burst_and_reset(void)
{
	burst();
	start();
	say_status(block_request(&block, BLK_IN, LINE, data, sizeof(data)));
}

static void burst_for_long(void)
{
	uint8_t worst = 0;

	for (int round = 0; round < 300; round++) {
		burst();
		for (int i = 0; i < BURST; i++)
			if (!block_wait(&block) || block_status())
				worst = BLK_IOERR;
	}
	say_status(worst);
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	start();
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
		case 'f':
			say_status(
				block_request(&block, BLK_FLUSH, 0, NULL, 0));
			break;
		case 'd':
			empty(BLK_DISCARD);
			break;
		case 'z':
			empty(BLK_WRITE_ZEROES);
			break;
		case 'b':
			burst_and_reset();
			break;
		case 'l':
			burst_for_long();
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
