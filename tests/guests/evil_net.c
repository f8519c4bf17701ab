/* SPDX-License-Identifier: Apache-2.0 */
/* Breaks the rings of a network device. Whoever serves them, the device asks
 * for a reset, and works again after it. */
#include "virtio.h"

enum { RX, TX, QUEUES };

static struct rings rings[QUEUES];
static struct block device;
static uint8_t frame[12 + 60];

static void clear(void *area, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((volatile uint8_t *)area)[i] = 0;
}

static bool begin(void)
{
	device.base = VIRTIO_BASE;
	device.gsi = VIRTIO_GSI;
	device.rings = &rings[TX];
	block_reset(&device);
	clear(rings, sizeof(rings));
	block_acknowledge(&device);
	if (!block_negotiate(&device, UINT64_C(1) << F_VERSION_1))
		return false;
	for (uint32_t q = 0; q < QUEUES; q++)
		device_set_queue(&device, q, &rings[q], RING_SIZE);
	block_go(&device);
	return true;
}

static void submit(uint32_t queue, uint16_t head)
{
	volatile struct driver_ring *driver = &rings[queue].driver;

	driver->ring[driver->idx % RING_SIZE] = head;
	barrier();
	driver->idx++;
	barrier();
	reg_write(&device, REG_QUEUE_NOTIFY, queue);
}

static bool needs_reset(void)
{
	for (uint64_t start = rdtsc(); time_left(start);)
		if (reg_read(&device, REG_STATUS) & STATUS_NEEDS_RESET)
			return true;
	return false;
}

static void check_works(const char *name)
{
	bool good = begin();

	for (size_t i = 0; i < 6; i++)
		frame[12 + i] = 0xff;
	rings[TX].desc[0] =
		(struct descriptor){(uintptr_t)frame, sizeof(frame), 0, 0};
	submit(TX, 0);
	check(good && block_wait(&device), name, reg_read(&device, REG_STATUS));
}

static void broken_transmit_queue(void)
{
	check_works("works");
	begin();
	submit(TX, RING_SIZE);
	check(needs_reset(), "head_out_of_range", 0);
	check_works("works_after_a_bad_head");
	begin();
	rings[TX].desc[0] = (struct descriptor){(uintptr_t)frame, sizeof(frame),
						DESC_NEXT, RING_SIZE};
	submit(TX, 0);
	check(needs_reset(), "next_out_of_range", 0);
	check_works("works_after_a_bad_chain");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	broken_transmit_queue();
	print_done();
	guest_halt();
}
