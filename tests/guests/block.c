/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses a block device as a driver should, in all the ways that it may. The
 * drive's sectors begin with their own number; "ro" on the command line says
 * that it is read-only, "flush" that it has a cache to flush, "discard" that it
 * can be made empty, which it is then in places, "elsewhere" that another
 * process serves it: then nobody knows whether an interrupt that was
 * acknowledged was the last. With "quick" the device is only brought up, and
 * once more when something is typed.
 */
#include "virtio.h"

#define ALL_FEATURES                                                           \
	(UINT64_C(1) << F_EVENT_IDX | UINT64_C(1) << F_FLUSH |                 \
	 UINT64_C(1) << F_RO | RANGES)
#define RANGES (UINT64_C(1) << F_DISCARD | UINT64_C(1) << F_WRITE_ZEROES)

static struct rings rings;
static struct block block;
static uint64_t data[3 * SECTOR / 8];
static uint64_t capacity;

static void print_devices(void)
{
	struct block each = {.base = VIRTIO_BASE};

	for (; reg_read(&each, REG_MAGIC) == 0x74726976; each.base += 0x1000) {
		print("device ");
		print_hex(each.base);
		print(" ");
		print_number(reg_read(&each, REG_DEVICE_ID));
		print(" ");
		print_number(block_capacity(&each));
		print("\n");
	}
}

static void check_registers(void)
{
	check(reg_read(&block, REG_VERSION) == 2, "version",
	      reg_read(&block, REG_VERSION));
	check(reg_read(&block, REG_VENDOR_ID) == 0, "vendor",
	      reg_read(&block, REG_VENDOR_ID));
	check(reg_read(&block, REG_QUEUE_NUM_MAX) == 256, "queue_num_max",
	      reg_read(&block, REG_QUEUE_NUM_MAX));
	reg_write(&block, REG_QUEUE_SEL, 1);
	check(reg_read(&block, REG_QUEUE_NUM_MAX) == 0, "no_second_queue",
	      reg_read(&block, REG_QUEUE_NUM_MAX));
	reg_write(&block, REG_QUEUE_SEL, 0);
	reg_write(&block, REG_DEVICE_FEATURES_SEL, 2);
	check(reg_read(&block, REG_DEVICE_FEATURES) == 0, "no_features_above",
	      reg_read(&block, REG_DEVICE_FEATURES));
	/* Config space may be read in any width. */
	check(read8(block.base + REG_CONFIG) == (uint8_t)capacity,
	      "config_byte", read8(block.base + REG_CONFIG));
	check(read16(block.base + REG_CONFIG) == (uint16_t)capacity,
	      "config_word", read16(block.base + REG_CONFIG));
	check(reg_read(&block, REG_CONFIG + 64) == 0, "config_end", 0);
}

static void check_features(bool read_only, bool flush, bool discard)
{
	check(block.features >> F_VERSION_1 & 1, "version_1", block.features);
	check(block.features >> F_EVENT_IDX & 1, "event_idx", block.features);
	check((block.features >> F_RO & 1) == read_only, "feature_ro",
	      block.features);
	check((block.features >> F_FLUSH & 1) == flush, "feature_flush",
	      block.features);
	check((block.features & RANGES) == (discard ? RANGES : 0),
	      "feature_discard", block.features);
}

static void check_reads(void)
{
	uint8_t status = block_request(&block, BLK_IN, 3, data, SECTOR);

	check(status == BLK_OK, "read", status);
	check(data[0] == 3, "read_data", data[0]);
	check(block_used_len(&block) == SECTOR + 1, "read_used_length",
	      block_used_len(&block));
	status = block_request(&block, BLK_IN, capacity - 3, data, 3 * SECTOR);
	check(status == BLK_OK, "read_last_sectors", status);
	check(data[SECTOR / 8 * 2] == capacity - 1, "last_sector",
	      data[SECTOR / 8 * 2]);
}

static void check_writes(void)
{
	uint8_t status;

	data[0] = 0x1122334455667788;
	status = block_request(&block, BLK_OUT, 5, data, SECTOR);
	check(status == BLK_OK, "write", status);
	check(block_used_len(&block) == 1, "write_used_length",
	      block_used_len(&block));
	data[0] = 0;
	status = block_request(&block, BLK_IN, 5, data, SECTOR);
	check(status == BLK_OK && data[0] == 0x1122334455667788, "read_back",
	      data[0]);
}

static void check_refused_write(void)
{
	uint8_t status = block_request(&block, BLK_OUT, 5, data, SECTOR);

	check(status == BLK_IOERR, "write_refused", status);
}

static void check_flush(void)
{
	uint8_t status = block_request(&block, BLK_FLUSH, 0, NULL, 0);

	check(status == BLK_OK, "flush", status);
}

static void check_id(void)
{
	uint8_t status = block_request(&block, BLK_GET_ID, 0, data, 20);

	check(status == BLK_OK, "get_id", status);
	((char *)data)[20] = '\0';
	print("id ");
	print((const char *)data);
	print("\n");
}

/* Sector @at is empty, its neighbours are as they were. */
static void check_emptied(const char *name, uint64_t at, uint64_t end)
{
	uint8_t status = block_request(&block, BLK_IN, at - 1, data, SECTOR);
	bool before = status == BLK_OK && data[0] == at - 1;
	bool inside;

	status = block_request(&block, BLK_IN, end - 1, data, SECTOR);
	inside = status == BLK_OK && data[0] == 0 && data[1] == 0;
	status = block_request(&block, BLK_IN, end, data, SECTOR);
	check(before && inside && status == BLK_OK && data[0] == end, name,
	      data[0]);
}

static void check_range(const char *name, uint32_t type, uint64_t sector,
			uint32_t sectors, uint32_t flags)
{
	struct request_range range = {sector, sectors, flags};
	uint8_t status = block_request(&block, type, 0, &range, sizeof(range));

	check(status == BLK_OK, name, status);
	check(block_used_len(&block) == 1, "range_used_length",
	      block_used_len(&block));
	check_emptied(name, sector, sector + sectors);
}

static void check_ranges(void)
{
	check(reg_read(&block, REG_CONFIG + 36) >= 8, "max_discard_sectors",
	      reg_read(&block, REG_CONFIG + 36));
	check(reg_read(&block, REG_CONFIG + 48) >= 8, "max_zeroes_sectors",
	      reg_read(&block, REG_CONFIG + 48));
	check_range("discard", BLK_DISCARD, 16, 8, 0);
	check_range("write_zeroes", BLK_WRITE_ZEROES, 33, 3, 0);
	check_range("write_zeroes_unmap", BLK_WRITE_ZEROES, 48, 8, RANGE_UNMAP);
}

/* One sector in pieces, the descriptors in no order, the header cut in two:
 * how a driver frames a request is its own business (2.7.4.1). */
static void check_framing(void)
{
	static const struct request_header header = {.type = BLK_IN,
						     .sector = 7};
	static volatile uint8_t status;
	const uintptr_t at = (uintptr_t)&header, to = (uintptr_t)data;
	const struct descriptor chain[] = {
		[9] = {at, 5, DESC_NEXT, 2},
		[2] = {at + 5, 11, DESC_NEXT, 14},
		[14] = {to, 1, DESC_NEXT | DESC_WRITE, 0},
		[0] = {to + 1, 510, DESC_NEXT | DESC_WRITE, 5},
		[5] = {to + 511, 1, DESC_NEXT | DESC_WRITE, 1},
		[1] = {(uintptr_t)&status, 1, DESC_WRITE, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(chain); i++)
		rings.desc[i] = chain[i];
	status = BLK_NONE;
	block_submit(&block, 9);
	check(block_wait(&block) && status == BLK_OK, "framing", status);
	check(data[0] == 7, "framing_data", data[0]);
	check(block_used_id(&block) == 9, "framing_used_id",
	      block_used_id(&block));
	check(block_used_len(&block) == SECTOR + 1, "framing_used_length",
	      block_used_len(&block));
}

/* Several requests published with one change of the index, around the end of
 * the ring; all answered. */
static void check_batch(void)
{
	struct driver_ring *driver = &rings.driver;
	uint16_t idx = driver->idx;
	bool answered = true;

	block_prepare(&block, BLK_IN, 11, data, SECTOR);
	for (uint16_t i = 0; i < RING_SIZE; i++)
		driver->ring[(idx + i) % RING_SIZE] = 0;
	barrier();
	*(volatile uint16_t *)&driver->idx = (uint16_t)(idx + RING_SIZE);
	barrier();
	reg_write(&block, REG_QUEUE_NOTIFY, 0);
	for (uint16_t i = 0; i < RING_SIZE; i++)
		answered = answered && block_wait(&block);
	check(answered, "batch", block.seen);
	check(data[0] == 11, "batch_data", data[0]);
}

static void check_interrupts(bool elsewhere)
{
	uint32_t before;
	uint8_t status;

	irq_init();
	irq_enable(block.gsi);
	reg_write(&block, REG_INTERRUPT_ACK, 3);
	/* "Tell me when you pass the entry that comes next." */
	before = irq_count(block.gsi);
	rings.driver.used_event = block.seen;
	block_prepare(&block, BLK_IN, 1, data, SECTOR);
	block_submit(&block, 0);
	check(irq_wait(block.gsi, before + 1), "interrupt",
	      irq_count(block.gsi));
	check(reg_read(&block, REG_INTERRUPT_STATUS) == 1, "interrupt_status",
	      reg_read(&block, REG_INTERRUPT_STATUS));
	reg_write(&block, REG_INTERRUPT_ACK, 1);
	check(reg_read(&block, REG_INTERRUPT_STATUS) == elsewhere,
	      "interrupt_ack", reg_read(&block, REG_INTERRUPT_STATUS));
	check(block_wait(&block), "answered", 0);
	/* "Tell me in half a ring from now": not for the next one. */
	before = irq_count(block.gsi);
	rings.driver.used_event = (uint16_t)(block.seen + RING_SIZE / 2);
	status = block_request(&block, BLK_IN, 1, data, SECTOR);
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	check(status == BLK_OK && irq_count(block.gsi) == before,
	      "interrupt_suppressed", irq_count(block.gsi) - before);
}

void guest_main(uintptr_t info, uint32_t protocol)
{
	bool read_only = boot_word(info, protocol, "ro");
	bool flush = boot_word(info, protocol, "flush");
	bool discard = boot_word(info, protocol, "discard");
	bool elsewhere = boot_word(info, protocol, "elsewhere");

	print_devices();
	check(block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, ALL_FEATURES),
	      "init", reg_read(&block, REG_STATUS));
	if (boot_word(info, protocol, "quick")) {
		typed();
		check(block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings,
				 ALL_FEATURES),
		      "init_again", reg_read(&block, REG_STATUS));
		guest_halt();
	}
	capacity = block_capacity(&block);
	check_registers();
	check_features(read_only, flush, discard);
	check_reads();
	if (read_only)
		check_refused_write();
	else
		check_writes();
	if (flush)
		check_flush();
	if (discard)
		check_ranges();
	check_id();
	check_framing();
	check_batch();
	check_interrupts(elsewhere);
	check(block_init(&block, VIRTIO_BASE, VIRTIO_GSI, &rings, ALL_FEATURES),
	      "init_again", reg_read(&block, REG_STATUS));
	check_reads();
	print_done();
	guest_reset();
}
