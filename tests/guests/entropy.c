/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses an entropy device: first as a driver should and should not, then from
 * the console, one letter per order: r: ask for 16 bytes and print them; k: ask
 * for 64 KiB eight times and print the length of the answers; q: quit.
 */
#include "virtio.h"

#define ID_ENTROPY 4
#define DEVICES_MAX 17
#define LARGE (65536 + 4096)

static struct rings rings;
static struct block device;
static uint64_t data[LARGE / 8];

static bool find(void)
{
	device.base = VIRTIO_BASE;
	device.gsi = VIRTIO_GSI;
	for (int i = 0; i < DEVICES_MAX; i++) {
		if (reg_read(&device, REG_MAGIC) == 0x74726976 &&
		    reg_read(&device, REG_DEVICE_ID) == ID_ENTROPY)
			return true;
		device.base += 0x1000;
		device.gsi++;
	}
	return false;
}

/* Returns the bytes used; UINT32_MAX without an answer. */
static uint32_t ask(uintptr_t at, uint32_t len, uint16_t flags)
{
	rings.desc[0] = (struct descriptor){at, len, flags, 0};
	block_submit(&device, 0);
	return block_wait(&device) ? block_used_len(&device) : UINT32_MAX;
}

static uint32_t ask_for(uint32_t len)
{
	return ask((uintptr_t)data, len, DESC_WRITE);
}

static uint32_t zeros(uint32_t from, uint32_t to)
{
	uint32_t count = 0;

	for (uint32_t i = from; i < to; i++)
		count += data[i] == 0;
	return count;
}

static void check_registers(void)
{
	check(reg_read(&device, REG_QUEUE_NUM_MAX) == 256, "queue_num_max",
	      reg_read(&device, REG_QUEUE_NUM_MAX));
	reg_write(&device, REG_QUEUE_SEL, 1);
	check(reg_read(&device, REG_QUEUE_NUM_MAX) == 0, "no_second_queue",
	      reg_read(&device, REG_QUEUE_NUM_MAX));
	reg_write(&device, REG_QUEUE_SEL, 0);
	check(device.features == UINT64_C(1) << F_VERSION_1, "features",
	      device.features);
	check(reg_read(&device, REG_CONFIG) == 0, "no_config",
	      reg_read(&device, REG_CONFIG));
}

static void check_answers(void)
{
	uint32_t got = ask_for(64);
	uint64_t first = data[0];

	check(got == 64, "length", got);
	check(zeros(0, 8) == 0 && zeros(8, 16) == 8, "filled", zeros(0, 16));
	got = ask_for(64);
	check(got == 64 && data[0] != first, "different", data[0]);
	data[65536 / 8] = 0;
	got = ask_for(LARGE);
	check(got == 65536, "large_length", got);
	check(zeros(0, 65536 / 8) == 0 && data[65536 / 8] == 0, "large_filled",
	      zeros(0, 65536 / 8));
}

static void check_interrupt(void)
{
	uint32_t before;

	irq_init();
	irq_enable(device.gsi);
	reg_write(&device, REG_INTERRUPT_ACK, 3);
	before = irq_count(device.gsi);
	check(ask_for(8) == 8 && irq_wait(device.gsi, before + 1), "interrupt",
	      irq_count(device.gsi));
	reg_write(&device, REG_INTERRUPT_ACK, 1);
}

/* All of it is given back, and the device goes on. */
static void check_misuse(void)
{
	uint32_t got = ask((uintptr_t)data, 64, 0);

	check(got == 0, "readable_buffer", got);
	got = ask_for(0);
	check(got == 0, "empty_buffer", got);
	got = ask(0xd0000000, 64, DESC_WRITE);
	check(got == 0, "buffer_in_no_memory", got);
	got = ask_for(16);
	check(got == 16, "goes_on", got);
}

static void take_orders(void)
{
	uint64_t sum;

	for (;;) {
		switch (typed()) {
		case 'r':
			ask_for(16);
			print("random ");
			print_hex(data[0]);
			print_hex(data[1]);
			print("\n");
			break;
		case 'k':
			sum = 0;
			for (int i = 0; i < 8; i++)
				sum += ask_for(65536);
			print("sum ");
			print_number(sum);
			print("\n");
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

void guest_main(uintptr_t info, uint32_t protocol)
{
	bool quick = boot_word(info, protocol, "quick");

	check(find(), "found", device.base);
	check(block_init(&device, device.base, device.gsi, &rings, UINT64_MAX),
	      "init", reg_read(&device, REG_STATUS));
	if (!quick) {
		check_registers();
		check_answers();
		check_interrupt();
		check_misuse();
	}
	print("ready\n");
	take_orders();
}
