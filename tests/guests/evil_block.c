/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a block device for what it cannot do. Each request must be answered,
 * with an error where it has a place for one, and the device must go on. */
#include "virtio.h"

#define RANGES (UINT64_C(1) << F_DISCARD | UINT64_C(1) << F_WRITE_ZEROES)

/* Room for a sector to be read over the rings. */
static union {
	struct rings rings;
	uint8_t room[2 * SECTOR];
} shared;
static struct block block;
static uint64_t data[2 * SECTOR / 8];

static void check_works(const char *name)
{
	uint8_t status;

	if (reg_read(&block, REG_STATUS) & STATUS_NEEDS_RESET)
		block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &shared.rings, 0);
	data[0] = 0;
	status = block_request(&block, BLK_IN, 3, data, SECTOR);
	check(status == BLK_OK && data[0] == 3, name, status);
}

static void expect(const char *name, uint8_t status, uint32_t type,
		   uint64_t sector, uint32_t len)
{
	uint8_t got = block_request(&block, type, sector, data, len);

	check(got == status, name, got);
}

static void past_the_end(uint64_t capacity)
{
	expect("read_at_the_end", BLK_IOERR, BLK_IN, capacity, SECTOR);
	expect("read_across_the_end", BLK_IOERR, BLK_IN, capacity - 1,
	       2 * SECTOR);
	expect("read_far_away", BLK_IOERR, BLK_IN, UINT64_C(1) << 40, SECTOR);
	expect("read_sector_overflow", BLK_IOERR, BLK_IN,
	       UINT64_C(0xffffffffffffffff), SECTOR);
	expect("read_offset_overflow", BLK_IOERR, BLK_IN,
	       UINT64_C(0x80000000000000), SECTOR);
	expect("write_at_the_end", BLK_IOERR, BLK_OUT, capacity, SECTOR);
	expect("write_across_the_end", BLK_IOERR, BLK_OUT, capacity - 1,
	       2 * SECTOR);
	expect("write_sector_overflow", BLK_IOERR, BLK_OUT,
	       UINT64_C(0xffffffffffffffff), SECTOR);
	check_works("works_after_past_the_end");
}

static void odd_requests(void)
{
	expect("unknown_type", BLK_UNSUPP, 2, 0, SECTOR);
	expect("unknown_high_type", BLK_UNSUPP, 0xffffffff, 0, SECTOR);
	expect("discard_not_offered", BLK_UNSUPP, 11, 0, 16);
	expect("read_part_of_a_sector", BLK_IOERR, BLK_IN, 0, 100);
	expect("write_part_of_a_sector", BLK_IOERR, BLK_OUT, 0, 513);
	check_works("works_after_odd_requests");
}

/* Sends the prepared chain; true when it came back. */
static bool answered(uint16_t head)
{
	block_submit(&block, head);
	return block_wait(&block);
}

static void answer_or_reset(const char *name, uint16_t head)
{
	const volatile struct device_ring *device = &shared.rings.device;
	uint64_t start = rdtsc();
	bool reset = false;

	block_submit(&block, head);
	while (device->idx == block.seen && !reset && time_left(start))
		reset = reg_read(&block, REG_STATUS) & STATUS_NEEDS_RESET;
	check(reset || device->idx != block.seen, name, block_status());
	if (reset)
		block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &shared.rings, 0);
	else
		block.seen = device->idx;
}

static void wrong_shapes(void)
{
	block_prepare(&block, BLK_IN, 3, data, SECTOR);
	shared.rings.desc[1].flags = DESC_WRITE; /* the data ends the chain */
	check(answered(0), "no_status_descriptor", block_status());
	check_works("works_after_no_status_descriptor");

	block_prepare(&block, BLK_OUT, 3, data, SECTOR);
	shared.rings.desc[1].flags = 0;
	answer_or_reset("nothing_writable", 0);
	check_works("works_after_nothing_writable");

	block_prepare(&block, BLK_IN, 3, data, SECTOR);
	shared.rings.desc[0].len = 8;
	answer_or_reset("short_header", 0);
	check_works("works_after_short_header");

	block_prepare(&block, BLK_IN, 3, data, SECTOR);
	answer_or_reset("status_alone", 2);
	check_works("works_after_status_alone");

	block_prepare(&block, BLK_IN, 3, NULL, 0);
	answer_or_reset("read_of_nothing", 0);
	check_works("works_after_read_of_nothing");

	block_prepare(&block, BLK_GET_ID, 0, data, 7);
	answer_or_reset("id_in_seven_bytes", 0);
	check_works("works_after_short_id");

	/* Data in the wrong direction. */
	block_prepare(&block, BLK_OUT, 3, data, SECTOR);
	shared.rings.desc[1].flags = DESC_NEXT | DESC_WRITE;
	answer_or_reset("write_into_writable", 0);
	check_works("works_after_write_into_writable");
}

static void expect_range(const char *name, uint8_t status, uint32_t type,
			 struct request_range range)
{
	uint8_t got = block_request(&block, type, 0, &range, sizeof(range));

	check(got == status, name, got);
}

/* Ranges that are not on the disk, and lists of them that are none. */
static void wrong_ranges(uint64_t capacity)
{
	const uint64_t far = UINT64_C(0xffffffffffffffff);

	block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &shared.rings, RANGES);
	for (uint32_t type = BLK_DISCARD; type <= BLK_WRITE_ZEROES; type += 2) {
		expect_range("range_at_the_end", BLK_IOERR, type,
			     (struct request_range){capacity, 1, 0});
		expect_range("range_across_the_end", BLK_IOERR, type,
			     (struct request_range){capacity - 1, 2, 0});
		expect_range("range_sector_overflow", BLK_IOERR, type,
			     (struct request_range){far, 1, 0});
		expect_range("range_offset_overflow", BLK_IOERR, type,
			     (struct request_range){far / SECTOR, 8, 0});
		expect_range("range_too_long", BLK_IOERR, type,
			     (struct request_range){0, 0xffffffff, 0});
		expect_range("range_unknown_flag", BLK_UNSUPP, type,
			     (struct request_range){0, 1, 2});
		expect("range_cut", BLK_IOERR, type, 0, 15);
		expect("ranges_cut", BLK_IOERR, type, 0, 17);
		expect("no_range", BLK_IOERR, type, 0, 0);
		expect("many_ranges", BLK_IOERR, type, 0, 2 * SECTOR);
	}
	expect_range("discard_unmap", BLK_UNSUPP, BLK_DISCARD,
		     (struct request_range){0, 1, RANGE_UNMAP});
	check_works("works_after_wrong_ranges");
}

/* Request and answer share memory; the ring itself is read into. */
static void overlapping(void)
{
	block_prepare(&block, BLK_IN, 3, data, SECTOR);
	shared.rings.desc[2].addr = (uintptr_t)data; /* status over data */
	answer_or_reset("status_over_data", 0);
	block_prepare(&block, BLK_IN, 3, &shared, SECTOR);
	answer_or_reset("data_over_the_ring", 0);
	block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &shared.rings, 0);
	check_works("works_after_overlapping");
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	(void)info;
	(void)protocol;
	block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &shared.rings, 0);
	check_works("works_at_first");
	past_the_end(block_capacity(&block));
	odd_requests();
	wrong_shapes();
	wrong_ranges(block_capacity(&block));
	overlapping();
	print_done();
	guest_halt();
}
