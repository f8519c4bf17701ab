/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings up all devices that there are, whatever they are, and uses those that
 * it knows how to: reads a sector of each disk, with an interrupt, asks each
 * entropy device for bytes. Disks begin with a number of their own.
 */
#include "virtio.h"

#define DEVICES_MAX 20
#define QUEUES_MAX 3

enum { ID_NET = 1, ID_BLOCK = 2, ID_ENTROPY = 4, ID_VSOCK = 19 };

static struct rings rings[DEVICES_MAX][QUEUES_MAX];
static struct block devices[DEVICES_MAX];
static uint64_t data[SECTOR / 8];

static uint32_t queues_of(uint32_t id)
{
	switch (id) {
	case ID_NET:
		return 2;
	case ID_VSOCK:
		return 3;
	default:
		return 1;
	}
}

static bool bring_up(struct block *device, uint32_t id, struct rings *own)
{
	device->rings = own;
	block_reset(device);
	block_acknowledge(device);
	if (!block_negotiate(device, UINT64_C(1) << F_VERSION_1))
		return false;
	for (uint32_t q = 0; q < queues_of(id); q++)
		device_set_queue(device, q, &own[q], RING_SIZE);
	block_go(device);
	return reg_read(device, REG_STATUS) == 15;
}

static bool read_first(struct block *device)
{
	uint32_t before = irq_count(device->gsi);
	uint8_t status = block_request(device, BLK_IN, 0, data, SECTOR);
	bool good = status == BLK_OK && irq_wait(device->gsi, before + 1);

	reg_write(device, REG_INTERRUPT_ACK, 1);
	return good;
}

static bool get_random(struct block *device)
{
	data[0] = data[1] = 0;
	device->rings->desc[0] =
		(struct descriptor){(uintptr_t)data, 16, DESC_WRITE, 0};
	block_submit(device, 0);
	return block_wait(device) && data[0] && data[1];
}

static void use(struct block *device, uint32_t id)
{
	bool good = true;

	data[0] = 0;
	if (id == ID_BLOCK)
		good = read_first(device);
	else if (id == ID_ENTROPY)
		good = get_random(device);
	print(good ? "used " : "lost ");
	print_number(id);
	print(" at ");
	print_number(device->gsi);
	if (id == ID_BLOCK) {
		print(" data ");
		print_number(data[0]);
	}
	print("\n");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	size_t count = 0;
	bool good = true;

	(void)info;
	(void)protocol;
	irq_init();
	for (; count < DEVICES_MAX; count++) {
		struct block *device = &devices[count];

		device->base = VIRTIO_BASE + count * 0x1000;
		device->gsi = VIRTIO_GSI + (uint32_t)count;
		if (reg_read(device, REG_MAGIC) != 0x74726976)
			break;
		good = good && bring_up(device, reg_read(device, REG_DEVICE_ID),
					rings[count]);
		irq_enable(device->gsi);
	}
	check(good, "all_come_up", count);
	for (size_t i = 0; i < count; i++)
		use(&devices[i], reg_read(&devices[i], REG_DEVICE_ID));
	print("count ");
	print_number(count);
	print("\n");
	print_done();
	guest_reset();
}
