/* SPDX-License-Identifier: Apache-2.0 */
/* Puts nonsense into a ring that was set up well. The device must either fail
 * the request or ask for a reset, and work again after that. */
#include "virtio.h"

static struct rings rings;
static struct block block;
static uint64_t data[SECTOR / 8];

static bool needs_reset(void)
{
	return reg_read(&block, REG_STATUS) & STATUS_NEEDS_RESET;
}

static void begin(void)
{
	block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, 0);
	block_prepare(&block, BLK_IN, 3, data, SECTOR);
}

static void check_works(const char *name)
{
	begin();
	data[0] = 0;
	block_submit(&block, 0);
	check(block_wait(&block) && block_status() == BLK_OK && data[0] == 3,
	      name, block_status());
}

enum outcome {
	NOTHING,
	ANSWERED,
	RESET_WANTED,
};

/* What comes of the kick; a broken ring is answered at once. */
static enum outcome outcome(void)
{
	const volatile struct device_ring *device = &rings.device;
	uint64_t start = rdtsc();

	while (time_left(start)) {
		if (needs_reset())
			return RESET_WANTED;
		if (device->idx != 0)
			return ANSWERED;
	}
	return NOTHING;
}

static void corrupt(const char *name, size_t desc, uint64_t addr, uint32_t len,
		    uint16_t flags, uint16_t next)
{
	begin();
	rings.desc[desc] = (struct descriptor){addr, len, flags, next};
	block_submit(&block, 0);
	check(outcome() != NOTHING && block_status() != BLK_OK, name,
	      block_status());
}

static void bad_chains(void)
{
	const uintptr_t to = (uintptr_t)data;
	const uint16_t more = DESC_NEXT, in = DESC_NEXT | DESC_WRITE;

	corrupt("next_out_of_range", 0, to, 16, more, RING_SIZE);
	corrupt("next_far_out_of_range", 0, to, 16, more, 0xffff);
	corrupt("cycle_of_one", 1, to, SECTOR, in, 1);
	corrupt("cycle_of_two", 1, to, SECTOR, in, 0);
	corrupt("cycle_of_readable", 0, to, 16, more, 0);
	corrupt("readable_after_writable", 2, to, 1, 0, 0);
	corrupt("indirect_not_negotiated", 0, to, 16, DESC_INDIRECT, 0);
	corrupt("data_outside_memory", 1, UINT64_C(0x700000000000), SECTOR, in,
		2);
	corrupt("data_in_mmio", 1, VIRTIO_BASE, SECTOR, in, 2);
	corrupt("data_wraps", 1, UINT64_C(0xffffffffffffff00), SECTOR, in, 2);
	corrupt("data_crosses_the_end", 1, 0x8000000 - SECTOR / 2, SECTOR, in,
		2);
	corrupt("data_of_4_gib", 1, to, 0xffffffff, in, 2);
	corrupt("header_outside_memory", 0, UINT64_C(0x700000000000), 16, more,
		1);
	corrupt("status_outside_memory", 2, UINT64_C(0x700000000000), 1,
		DESC_WRITE, 0);
	check_works("works_after_bad_chains");
}

/* Zero-length descriptors are allowed or not, but never endless. */
static void empty_descriptors(void)
{
	const uint16_t in = DESC_NEXT | DESC_WRITE;

	begin();
	rings.desc[1] = (struct descriptor){(uintptr_t)data, 0, in, 2};
	block_submit(&block, 0);
	check(outcome() != NOTHING, "zero_length_data", block_status());
	begin();
	rings.desc[0].len = 0;
	block_submit(&block, 0);
	check(outcome() != NOTHING && block_status() != BLK_OK,
	      "zero_length_header", block_status());
	begin();
	rings.desc[2].len = 0;
	block_submit(&block, 0);
	check(outcome() != NOTHING && block_status() != BLK_OK,
	      "zero_length_status", block_status());
	check_works("works_after_empty_descriptors");
}

/* As long as the ring is, and one descriptor more than it can be. */
static void long_chains(void)
{
	const uintptr_t to = (uintptr_t)data;

	begin();
	for (uint16_t i = 1; i < RING_SIZE - 1; i++)
		rings.desc[i] = (struct descriptor){
			to, 1, DESC_NEXT | DESC_WRITE, (uint16_t)(i + 1)};
	rings.desc[RING_SIZE - 1] =
		(struct descriptor){to, 1, DESC_WRITE | DESC_NEXT, 1};
	block_submit(&block, 0);
	check(outcome() == RESET_WANTED, "chain_longer_than_the_ring",
	      block_status());
	check_works("works_after_long_chain");
}

static void bad_indices(void)
{
	begin();
	block_submit(&block, RING_SIZE);
	check(outcome() == RESET_WANTED, "head_out_of_range", block_status());
	begin();
	block_submit(&block, 0xffff);
	check(outcome() == RESET_WANTED, "head_far_out_of_range",
	      block_status());
	begin();
	*(volatile uint16_t *)&rings.driver.idx = RING_SIZE + 1;
	barrier();
	reg_write(&block, REG_QUEUE_NOTIFY, 0);
	check(outcome() == RESET_WANTED, "index_runs_ahead", block_status());
	begin();
	*(volatile uint16_t *)&rings.driver.idx = 0xffff;
	barrier();
	reg_write(&block, REG_QUEUE_NOTIFY, 0);
	check(outcome() == RESET_WANTED, "index_runs_back", block_status());
	check_works("works_after_bad_indices");
}

/* A device that asked for its reset does nothing until it gets it. */
static void wait_for_reset(void)
{
	uint16_t before;

	begin();
	block_submit(&block, RING_SIZE);
	check(outcome() == RESET_WANTED, "broken", block_status());
	before = *(volatile uint16_t *)&rings.device.idx;
	reg_write(&block, REG_INTERRUPT_ACK, 3);
	block_submit(&block, 0);
	for (uint64_t start = rdtsc(); rdtsc() - start < 20000000;)
		cpu_relax();
	check(*(volatile uint16_t *)&rings.device.idx == before,
	      "silent_until_reset", rings.device.idx);
	check_works("works_after_reset");
}

/* Kicks, takes the device away at once, and gives it other work: the answer to
 * what was before must not show up in what comes after. */
static void reset_in_flight(void)
{
	bool good = true;

	for (uint32_t i = 0; i < 8; i++) {
		begin();
		block_submit(&block, 0);
		block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, 0);
		good = good && rings.device.idx == 0;
	}
	check(good, "reset_in_flight", rings.device.idx);
	check_works("works_after_reset_in_flight");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	check_works("works_at_first");
	bad_chains();
	empty_descriptors();
	long_chains();
	bad_indices();
	wait_for_reset();
	reset_in_flight();
	print_done();
	guest_halt();
}
