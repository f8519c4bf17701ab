/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A memory device worked from the serial console. An order is a letter, and
 * numbers of 16 hexadecimal digits; addresses are from the start of the region:
 *
 *   c            print the config space, and the changes announced so far
 *   q T A N      a request: type, address, blocks; prints the response
 *   w A V        write a value
 *   r A          print the value there
 *   z            reset the device, and start it again
 *   d A          a read of the first disk's sector 3 to there
 *   m D A        start device D (0: memory, 1: disk) again, with its rings
 * there
 *
 * With "careless" on the command line the driver does not accept that unplugged
 * memory is inaccessible.
 */
#include "virtio.h"

#define F_UNPLUGGED_INACCESSIBLE 1
#define DEVICE_MEMORY 24
#define DEVICE_BLOCK 2

#define PRESENT_WRITABLE 0x3
#define LARGE_PAGE 0x80
#define MAPPED_GIB 4

struct mem_request {
	uint64_t type, addr;
	uint16_t nb_blocks, padding[3];
};

struct mem_response {
	uint16_t type, padding[3], state;
};

static struct rings rings, disk_rings;
static struct block device, disk;
static struct mem_request request;
static volatile struct mem_response response;
static uint64_t wanted, region;
static uint32_t changes;
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t directories[MAPPED_GIB][512] __attribute__((aligned(4096)));

/* The first GiBs of the region, which may be anywhere. */
static void map_region(void)
{
	uint64_t pml4;
	uint64_t first = region >> 30 & 511;

	__asm__ volatile("mov %%cr3, %0" : "=r"(pml4));
	for (uint64_t i = 0; i < MAPPED_GIB * 512; i++)
		directories[i / 512][i % 512] =
			(region + i * 0x200000) | PRESENT_WRITABLE | LARGE_PAGE;
	for (uint64_t i = 0; i < MAPPED_GIB; i++)
		pdpt[first + i] = (uintptr_t)directories[i] | PRESENT_WRITABLE;
	write64(pml4 + (region >> 39) * 8, (uintptr_t)pdpt | PRESENT_WRITABLE);
}

static uint64_t config(uint32_t offset)
{
	return reg_read(&device, REG_CONFIG + offset) |
	       (uint64_t)reg_read(&device, REG_CONFIG + offset + 4) << 32;
}

static void print_value(const char *what, uint64_t value)
{
	print(what);
	print_hex(value);
}

static void print_config(void)
{
	if (reg_read(&device, REG_INTERRUPT_STATUS) & 2) {
		reg_write(&device, REG_INTERRUPT_ACK, 2);
		changes++;
	}
	print_value("config block ", config(0));
	print_value(" addr ", config(16));
	print_value(" region ", config(24));
	print_value(" usable ", config(32));
	print_value(" plugged ", config(40));
	print_value(" requested ", config(48));
	print_value(" changes ", changes);
	print("\n");
}

static uint64_t number(void)
{
	uint64_t value = 0;

	for (int i = 0; i < 16; i++) {
		uint8_t digit = typed();

		value = value << 4 | (uint64_t)(digit >= 'a' ? digit - 'a' + 10
							     : digit - '0');
	}
	return value;
}

static void ask(void)
{
	struct descriptor *desc = device.rings->desc;

	request.type = number();
	request.addr = region + number();
	request.nb_blocks = (uint16_t)number();
	response.type = response.state = 0xffff;
	desc[0] = (struct descriptor){(uintptr_t)&request, sizeof(request),
				      DESC_NEXT, 1};
	desc[1] = (struct descriptor){(uintptr_t)&response, 10, DESC_WRITE, 0};
	block_submit(&device, 0);
	if (!block_wait(&device))
		print("never ");
	print_value("response ", response.type);
	print_value(" state ", response.state);
	print("\n");
}

static void start(void)
{
	check(block_init(&device, device.base, device.gsi, &rings, wanted),
	      "init", reg_read(&device, REG_STATUS));
}

static void find_devices(void)
{
	struct block each = {.base = VIRTIO_BASE, .gsi = VIRTIO_GSI};

	for (; reg_read(&each, REG_MAGIC) == 0x74726976;
	     each.base += 0x1000, each.gsi++) {
		uint32_t id = reg_read(&each, REG_DEVICE_ID);

		if (id == DEVICE_MEMORY)
			device = each;
		if (id != DEVICE_BLOCK)
			continue;
		(void)block_init(&disk, each.base, each.gsi, &disk_rings, 0);
	}
}

static void read_disk(void)
{
	uintptr_t to = region + number();

	print_value("disk ",
		    block_request(&disk, BLK_IN, 3, (void *)to, SECTOR));
	print("\n");
}

static void move_rings(void)
{
	struct block *which = number() ? &disk : &device;
	uintptr_t to = region + number();
	bool good = block_init(which, which->base, which->gsi,
			       (struct rings *)to, wanted);

	print(good ? "moved\n" : "not moved\n");
}

static void write_value(void)
{
	uintptr_t to = region + number();

	write64(to, number());
	print("written\n");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	find_devices();
	if (!boot_word(info, protocol, "careless"))
		wanted = UINT64_C(1) << F_UNPLUGGED_INACCESSIBLE;
	start();
	region = config(16);
	map_region();
	print("ready\n");
	for (;;) {
		switch (typed()) {
		case 'c':
			print_config();
			break;
		case 'q':
			ask();
			break;
		case 'w':
			write_value();
			break;
		case 'r':
			print_value("value ", read64(region + number()));
			print("\n");
			break;
		case 'z':
			start();
			print("ready\n");
			break;
		case 'd':
			read_disk();
			break;
		case 'm':
			move_rings();
			break;
		default:
			break;
		}
	}
}
