/* SPDX-License-Identifier: Apache-2.0 */
/* Programs a virtio transport in every wrong order; after each the device must
 * still answer a driver that begins anew and does it right. */
#include "virtio.h"

#define WINDOW 0x1000

static struct rings rings;
static struct block block = {.base = VIRTIO_BASE};
static uint64_t data[SECTOR / 8];

static void check_works(const char *name)
{
	bool good = block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, 0);
	uint8_t status = BLK_NONE;

	data[0] = 0;
	if (good)
		status = block_request(&block, BLK_IN, 3, data, SECTOR);
	check(status == BLK_OK && data[0] == 3, name, status);
}

static uint32_t status_after(uint32_t value)
{
	reg_write(&block, REG_STATUS, value);
	return reg_read(&block, REG_STATUS);
}

/* Bits that skip a step are refused. */
static void skip_steps(void)
{
	static const uint8_t wrong[] = {
		STATUS_DRIVER,
		STATUS_DRIVER_OK,
		STATUS_FEATURES_OK,
		STATUS_ACKNOWLEDGE | STATUS_DRIVER_OK,
		STATUS_ACKNOWLEDGE | STATUS_FEATURES_OK,
		0x30,
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		block_reset(&block);
		check(status_after(wrong[i]) == 0, "skipped_step_refused",
		      wrong[i]);
	}
	check_works("works_after_skipped_steps");
}

/* Bits once set go away only by a reset. */
static void clear_bits(void)
{
	block_reset(&block);
	block_acknowledge(&block);
	check(status_after(STATUS_ACKNOWLEDGE) ==
		      (STATUS_ACKNOWLEDGE | STATUS_DRIVER),
	      "clearing_refused", reg_read(&block, REG_STATUS));
	block_negotiate(&block, UINT64_C(1) << F_VERSION_1);
	check(status_after(STATUS_ACKNOWLEDGE | STATUS_DRIVER) ==
		      (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK),
	      "clearing_features_ok_refused", reg_read(&block, REG_STATUS));
	check_works("works_after_cleared_bits");
}

/* A queue can be set up only between FEATURES_OK and DRIVER_OK. */
static void queue_too_early(void)
{
	block_reset(&block);
	block_set_queue(&block, &rings, RING_SIZE);
	check(reg_read(&block, REG_QUEUE_READY) == 0, "too_early_not_ready",
	      reg_read(&block, REG_QUEUE_READY));
	block_acknowledge(&block);
	block_set_queue(&block, &rings, RING_SIZE);
	check(reg_read(&block, REG_QUEUE_READY) == 0, "early_not_ready",
	      reg_read(&block, REG_QUEUE_READY));
	check_works("works_after_early_queue");
}

static void queue_too_late(void)
{
	block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, 0);
	reg_write(&block, REG_QUEUE_DESC, 0xfffff000);
	reg_write(&block, REG_QUEUE_DESC + 4, 0xffffffff);
	reg_write(&block, REG_QUEUE_NUM, 1);
	check(block_request(&block, BLK_IN, 3, data, SECTOR) == BLK_OK,
	      "late_changes_ignored", block_status());
	check_works("works_after_late_queue");
}

/* Accepting what was not offered must cost FEATURES_OK. */
static void wrong_features(void)
{
	block_reset(&block);
	block_acknowledge(&block);
	reg_write(&block, REG_DRIVER_FEATURES_SEL, 1);
	reg_write(&block, REG_DRIVER_FEATURES, 0xffffffff);
	check(!(status_after(STATUS_ACKNOWLEDGE | STATUS_DRIVER |
			     STATUS_FEATURES_OK) &
		STATUS_FEATURES_OK),
	      "unknown_features_refused", reg_read(&block, REG_STATUS));
	block_reset(&block);
	block_acknowledge(&block);
	check(!block_negotiate(&block, 0), "legacy_driver_refused",
	      reg_read(&block, REG_STATUS));
	check_works("works_after_wrong_features");
}

static bool needs_reset(void)
{
	return reg_read(&block, REG_STATUS) & STATUS_NEEDS_RESET;
}

/* Up to DRIVER_OK with this queue; does the device notice? */
static void bad_queue(const char *name, const struct rings *at, uint32_t size)
{
	block_reset(&block);
	block_acknowledge(&block);
	block_negotiate(&block, UINT64_C(1) << F_VERSION_1);
	block_set_queue(&block, at, size);
	block_go(&block);
	check(needs_reset() || !reg_read(&block, REG_QUEUE_READY), name,
	      reg_read(&block, REG_STATUS));
	reg_write(&block, REG_QUEUE_NOTIFY, 0);
}

static void bad_queues(void)
{
	static const struct {
		const char *name;
		uintptr_t at;
	} places[] = {
		{"rings_in_mmio_refused", VIRTIO_BASE},
		{"rings_in_the_gap_refused", 0xd0000000},
		{"rings_above_memory_refused", UINT64_C(0x700000000000)},
		{"rings_at_the_end_refused", 0x7fffff0},
		{"rings_wrapping_refused", UINT64_C(0xfffffffffffffff0)},
		{"rings_unaligned_refused", 0x200001},
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		bad_queue(places[i].name, (const void *)places[i].at,
			  RING_SIZE);
	bad_queue("size_zero_refused", &rings, 0);
	bad_queue("size_odd_refused", &rings, 3);
	bad_queue("size_above_max_refused", &rings, 512);
	bad_queue("size_huge_refused", &rings, 0x10000);
	check_works("works_after_bad_queues");
}

/* DRIVER_OK without a queue, kicks of queues that don't exist. */
static void no_queue(void)
{
	static const uint32_t doorbells[] = {0,	     1,	      7,
					     0xffff, 0x10000, 0xffffffff};

	block_reset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(doorbells); i++)
		reg_write(&block, REG_QUEUE_NOTIFY, doorbells[i]);
	block_acknowledge(&block);
	block_negotiate(&block, UINT64_C(1) << F_VERSION_1);
	block_go(&block);
	for (size_t i = 0; i < ARRAY_SIZE(doorbells); i++)
		reg_write(&block, REG_QUEUE_NOTIFY, doorbells[i]);
	reg_write(&block, REG_QUEUE_SEL, 0xffffffff);
	reg_write(&block, REG_QUEUE_NUM, 16);
	reg_write(&block, REG_QUEUE_READY, 1);
	check(reg_read(&block, REG_QUEUE_READY) == 0, "no_such_queue",
	      reg_read(&block, REG_QUEUE_READY));
	check_works("works_after_wrong_doorbells");
	for (size_t i = 1; i < ARRAY_SIZE(doorbells); i++)
		reg_write(&block, REG_QUEUE_NOTIFY, doorbells[i]);
	check(block_request(&block, BLK_IN, 3, data, SECTOR) == BLK_OK,
	      "wrong_doorbells_ignored", block_status());
}

/* Every register, read and written in every width, in every state. */
static void scribble(void)
{
	for (uint32_t reg = 0; reg < 0x110; reg += 4) {
		write32(block.base + reg, 0xffffffff);
		write16(block.base + reg + 2, 0xffff);
		write8(block.base + reg + 1, 0xff);
		read32(block.base + reg);
		read16(block.base + reg + 2);
		read8(block.base + reg + 3);
	}
	write64(block.base + REG_QUEUE_DESC, UINT64_MAX);
	read64(block.base + REG_CONFIG);
	write32(block.base + WINDOW - 4, 1);
	check(read32(block.base + WINDOW - 4) == 0, "end_of_window", 0);
}

static void scribble_everywhere(void)
{
	block_reset(&block);
	scribble();
	check_works("works_after_scribbling_before_driver");
	scribble();
	check_works("works_after_scribbling_while_running");
}

static void give_up(void)
{
	block_reset(&block);
	block_acknowledge(&block);
	check(status_after(STATUS_FAILED) & STATUS_FAILED, "failed_is_kept",
	      reg_read(&block, REG_STATUS));
	check_works("works_after_failed");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	check_works("works_at_first");
	skip_steps();
	clear_bits();
	queue_too_early();
	queue_too_late();
	wrong_features();
	bad_queues();
	no_queue();
	scribble_everywhere();
	give_up();
	print_done();
	guest_halt();
}
