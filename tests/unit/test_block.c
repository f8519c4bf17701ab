/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"
#include "virtio/block.h"
#include "virtio/block_request.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#define DISK_SIZE 8192
#define HEADER RING_DATA
#define DATA (RING_DATA + 0x1000)
#define STATUS (RING_DATA + 0x3000)

struct fixture {
	struct ring ring;
	struct block *block;
	struct block_metrics metrics;
	struct virtio_device *dev;
	char path[32];
};

static struct block *create(struct fixture *f, bool read_only,
			    enum cache_type cache)
{
	struct drive_config config = {
		.drive_id = f->path,
		.path_on_host = f->path,
		.is_read_only = read_only,
		.cache_type = cache,
	};
	struct block *block = NULL;

	assert_int_equal(block_create(&block, &config, &f->metrics, NULL), 0);
	return block;
}

/* Brings the device up as the transport would. */
static void activate(struct fixture *f, struct block *block)
{
	f->block = block;
	f->dev = block_virtio(block);
	f->dev->mem = f->ring.mem;
	f->dev->driver_features = f->dev->features & ~BIT(VIRTIO_F_EVENT_IDX);
	ring_describe(&f->ring, &f->dev->queues[0]);
	ring_set_driver_idx(&f->ring, 0);
	virtio_device_activate(f->dev);
	assert_true(f->dev->active);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uint8_t disk[DISK_SIZE];
	int fd;

	assert_non_null(f);
	strcpy(f->path, "/tmp/ember-block-XXXXXX");
	fd = mkstemp(f->path);
	for (size_t i = 0; i < sizeof(disk); i++)
		disk[i] = (uint8_t)(i / 512 + 1);
	assert_int_equal(write(fd, disk, sizeof(disk)), sizeof(disk));
	close(fd);
	assert_int_equal(ring_create(&f->ring, 16), 0);
	activate(f, create(f, false, CACHE_WRITEBACK));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_device_destroy(f->dev);
	ring_destroy(&f->ring);
	unlink(f->path);
	free(f);
	return 0;
}

static void put_header(struct fixture *f, uint32_t type, uint64_t sector)
{
	const struct {
		le32 type, reserved;
		le64 sector;
	} header = {le32_make(type), {0}, le64_make(sector)};

	assert_int_equal(
		gmem_write(f->ring.mem, HEADER, &header, sizeof(header)), 0);
	assert_int_equal(gmem_write(f->ring.mem, STATUS, "\xee", 1), 0);
}

/* Sends header, @len bytes of data and a status byte; returns the status. */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector,
		       uint32_t len, uint32_t *ret_used)
{
	bool out = type == 1;
	uint32_t id, used = UINT32_MAX;
	uint8_t status;

	put_header(f, type, sector);
	ring_set_desc(&f->ring, 0, HEADER, 16, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, DATA, len,
		      (uint16_t)(RING_NEXT | (out ? 0 : RING_WRITE)), 2);
	ring_set_desc(&f->ring, 2, STATUS, 1, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	virtio_device_queue_event(f->dev, 0);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(id, 0);
	assert_int_equal(gmem_read(f->ring.mem, STATUS, &status, 1), 0);
	if (ret_used)
		*ret_used = used;
	return status;
}

static void test_in_reads_sectors(void **state)
{
	struct fixture *f = *state;
	uint8_t data[1024];
	uint32_t used;

	assert_int_equal(request(f, 0, 3, 1024, &used), 0);
	assert_int_equal(used, 1025);
	assert_int_equal(gmem_read(f->ring.mem, DATA, data, 1024), 0);
	assert_int_equal(data[0], 4);
	assert_int_equal(data[1023], 5);
	assert_int_equal(f->metrics.read_bytes.value, 1024);
}

static void test_out_writes_sectors(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512];
	uint32_t used;
	int fd;

	memset(data, 0xab, sizeof(data));
	assert_int_equal(gmem_write(f->ring.mem, DATA, data, 512), 0);
	assert_int_equal(request(f, 1, 15, 512, &used), 0);
	assert_int_equal(used, 1);
	fd = open(f->path, O_RDONLY);
	memset(data, 0, sizeof(data));
	assert_int_equal(pread(fd, data, 512, 15 * 512), 512);
	assert_int_equal(data[511], 0xab);
	close(fd);
}

static void test_requests_beyond_the_disk_fail(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint64_t sector;
		uint32_t len;
	} cases[] = {
		{16, 512},
		{15, 1024},
		{UINT64_MAX, 512},
		{UINT64_MAX / 512, 512},
		{0, 513},
		{0, DISK_SIZE + 512},
		{UINT64_MAX - 1, 1024},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (uint32_t type = 0; type <= 1; type++)
			assert_int_equal(request(f, type, cases[i].sector,
						 cases[i].len, NULL),
					 1);
	assert_int_equal(request(f, 0, 15, 512, NULL), 0);
}

static void test_get_id_gives_twenty_bytes(void **state)
{
	struct fixture *f = *state;
	char id[20], expected[64];
	struct stat st;

	assert_int_equal(request(f, 8, 0, 20, NULL), 0);
	assert_int_equal(gmem_read(f->ring.mem, DATA, id, 20), 0);
	assert_int_equal(stat(f->path, &st), 0);
	snprintf(expected, sizeof(expected), "%lu%lu%lu",
		 (unsigned long)st.st_dev, (unsigned long)st.st_rdev,
		 (unsigned long)st.st_ino);
	assert_memory_equal(id, expected, MIN(strlen(expected), (size_t)20));
	assert_int_equal(request(f, 8, 0, 19, NULL), 1);
}

static void test_flush_and_unknown_types(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(f, 4, 0, 0, NULL), 0);
	assert_int_equal(f->metrics.flush_count.value, 1);
	assert_int_equal(request(f, 12, 0, 512, NULL), 2);
	assert_int_equal(request(f, UINT32_MAX, 0, 512, NULL), 2);
	assert_int_equal(f->metrics.invalid_reqs_count.value, 2);
}

static void test_read_only_disk_refuses_writes(void **state)
{
	struct fixture *f = *state;

	virtio_device_destroy(f->dev);
	activate(f, create(f, true, CACHE_UNSAFE));
	assert_true(f->dev->features & BIT(5));
	assert_int_equal(request(f, 1, 0, 512, NULL), 1);
	assert_int_equal(request(f, 0, 0, 512, NULL), 0);
	assert_int_equal(request(f, 4, 0, 0, NULL), 2); /* no FLUSH offered */
}

static void test_file_that_shrank_is_an_io_error(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(truncate(f->path, 1024), 0);
	assert_int_equal(request(f, 0, 8, 512, NULL), 1);
	assert_int_equal(request(f, 0, 1, 512, NULL), 0);
}

static void test_any_cut_of_the_buffers_is_served(void **state)
{
	struct fixture *f = *state;
	uint32_t id, used;
	uint8_t byte;

	/* header in 5 + 11, data and status in 300 + 213 bytes */
	put_header(f, 0, 2);
	ring_set_desc(&f->ring, 0, HEADER, 5, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, HEADER + 5, 11, RING_NEXT, 2);
	ring_set_desc(&f->ring, 2, DATA, 300, RING_NEXT | RING_WRITE, 3);
	ring_set_desc(&f->ring, 3, DATA + 300, 213, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	virtio_device_queue_event(f->dev, 0);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(used, 513);
	assert_int_equal(gmem_read(f->ring.mem, DATA + 511, &byte, 1), 0);
	assert_int_equal(byte, 3);
	assert_int_equal(gmem_read(f->ring.mem, DATA + 512, &byte, 1), 0);
	assert_int_equal(byte, 0);
}

static void test_malformed_requests_are_given_back(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
	} cases[] = {
		{HEADER, 16, 0},		   /* no room for a status */
		{STATUS, 1, RING_WRITE},	   /* no header */
		{HEADER, 0, 0},			   /* nothing at all */
		{RING_MEMORY - 4, 16, 0},	   /* header outside RAM */
		{RING_MEMORY - 4, 16, RING_WRITE}, /* status outside RAM */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t id, used;

		ring_set_desc(&f->ring, 4, cases[i].addr, cases[i].len,
			      cases[i].flags, 0);
		ring_publish(&f->ring, 4);
		virtio_device_queue_event(f->dev, 0);
		assert_true(ring_take(&f->ring, &id, &used));
		assert_int_equal(id, 4);
	}
	assert_int_equal(request(f, 0, 0, 512, NULL), 0);
}

static void test_broken_ring_needs_reset_and_recovers(void **state)
{
	struct fixture *f = *state;

	ring_publish(&f->ring, 16);
	assert_false(virtio_device_queue_event(f->dev, 0));
	assert_false(f->dev->active);
	assert_true(f->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	virtio_device_reset(f->dev);
	activate(f, f->block);
	f->ring.device_idx = 0;
	assert_int_equal(request(f, 0, 0, 512, NULL), 0);
}

static void test_set_path_changes_capacity(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	uint8_t capacity[8];

	assert_int_equal(truncate(f->path, 4 * 512 + 100), 0);
	assert_int_equal(block_set_path(f->block, f->path, &err), 0);
	virtio_device_read_config(f->dev, 0, capacity, 8);
	assert_int_equal(capacity[0], 4); /* the odd 100 bytes are left out */
	assert_int_equal(f->dev->interrupt_status, VIRTIO_INTERRUPT_CONFIG);
	assert_int_equal(block_set_path(f->block, "/nonexistent", &err),
			 -ENOENT);
	assert_string_equal(err.text,
			    "Virtio backend error: Error manipulating the "
			    "backing file: No such file or directory (os "
			    "error 2) /nonexistent");
	assert_int_equal(request(f, 0, 0, 512, NULL), 0);
}

struct range {
	uint64_t sector;
	uint32_t sectors, flags;
};

#define DISCARD 11
#define WRITE_ZEROES 13
#define UNMAP 1

/* A request with @count ranges; the bytes of the last may be cut off. */
static uint8_t request_ranges(struct fixture *f, uint32_t type,
			      const struct range *ranges, uint32_t count,
			      uint32_t cut)
{
	uint32_t id, used;
	uint8_t status;

	put_header(f, type, UINT64_MAX); /* the sector means nothing */
	for (uint32_t i = 0; i < count; i++) {
		const struct {
			le64 sector;
			le32 sectors, flags;
		} raw = {le64_make(ranges[i].sector),
			 le32_make(ranges[i].sectors),
			 le32_make(ranges[i].flags)};

		assert_int_equal(gmem_write(f->ring.mem, DATA + i * sizeof(raw),
					    &raw, sizeof(raw)),
				 0);
	}
	ring_set_desc(&f->ring, 0, HEADER, 16, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, DATA, 16 * count - cut, RING_NEXT, 2);
	ring_set_desc(&f->ring, 2, STATUS, 1, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	virtio_device_queue_event(f->dev, 0);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(gmem_read(f->ring.mem, STATUS, &status, 1), 0);
	return status;
}

static uint8_t byte_at(const struct fixture *f, off_t off)
{
	int fd = open(f->path, O_RDONLY);
	uint8_t byte = 0xee;

	assert_int_equal(pread(fd, &byte, 1, off), 1);
	close(fd);
	return byte;
}

static uint32_t config32(const struct fixture *f, size_t off)
{
	le32 value;
	uint8_t bytes[4];

	virtio_device_read_config(f->dev, off, bytes, sizeof(bytes));
	memcpy(&value, bytes, sizeof(value));
	return le32_get(value);
}

/* 5.2.4 */
static void test_discard_is_offered_with_its_limits(void **state)
{
	struct fixture *f = *state;
	struct drive_config config = {
		.drive_id = f->path,
		.path_on_host = f->path,
		.has_discard = true,
	};
	struct block *block = NULL;
	uint32_t unit = config32(f, 44);

	assert_true(f->dev->features & BIT(13) && f->dev->features & BIT(14));
	assert_int_equal(f->dev->config_len, 60);
	assert_int_equal(config32(f, 36), BLOCK_DISCARD_SECTORS_MAX);
	assert_int_equal(config32(f, 40), BLOCK_RANGES_MAX);
	assert_true(unit && !(unit & (unit - 1)));
	assert_int_equal(config32(f, 48), BLOCK_ZEROES_SECTORS_MAX);
	assert_int_equal(config32(f, 52), BLOCK_RANGES_MAX);
	assert_int_equal(config32(f, 56), 1);
	assert_int_equal(config32(f, 8), 0); /* not offered: no limit */
	assert_true(f->dev->features & BIT(2));
	assert_int_equal(config32(f, 12), BLOCK_SEGMENTS_MAX);
	/* without them it ends behind seg_max */
	for (int i = 0; i < 2; i++) {
		config.has_discard = i == 0;
		config.is_read_only = i == 1;
		assert_int_equal(
			block_create(&block, &config, &f->metrics, NULL), 0);
		assert_false(block_virtio(block)->features &
			     (BIT(13) | BIT(14)));
		assert_int_equal(block_virtio(block)->config_len, 16);
		virtio_device_destroy(block_virtio(block));
	}
}

static void test_discard_empties_ranges(void **state)
{
	static const struct range ranges[] = {{2, 1, 0}, {0, 0, 0}, {9, 2, 0}};
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(request_ranges(f, DISCARD, ranges, 3, 0), 0);
	assert_int_equal(byte_at(f, 2 * 512 - 1), 2);
	assert_int_equal(byte_at(f, 2 * 512), 0);
	assert_int_equal(byte_at(f, 3 * 512), 4);
	assert_int_equal(byte_at(f, 9 * 512), 0);
	assert_int_equal(byte_at(f, 11 * 512 - 1), 0);
	assert_int_equal(byte_at(f, 11 * 512), 12);
	assert_int_equal(request_ranges(f, DISCARD,
					&(const struct range){0, 16, 0}, 1, 0),
			 0);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_size, DISK_SIZE);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(f->metrics.execute_fails.value, 0);
}

/* Sectors 4 to 14 of a file full of one byte. */
static void zero_some(struct fixture *f, const char *path, uint32_t flags)
{
	const struct range range = {4, 11, flags};
	uint8_t data[DISK_SIZE];
	int fd = open(path, O_RDWR);

	memset(data, 7, sizeof(data));
	assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
	assert_int_equal(block_set_path(f->block, path, NULL), 0);
	assert_int_equal(request_ranges(f, WRITE_ZEROES, &range, 1, 0), 0);
	assert_int_equal(pread(fd, data, sizeof(data), 0), sizeof(data));
	for (size_t i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], i >= 4 * 512 && i < 15 * 512 ? 0 : 7);
	close(fd);
}

/* Also where a file system knows only how to write them. */
static void test_write_zeroes_writes_zeroes(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("disk", MFD_CLOEXEC);
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (uint32_t flags = 0; flags <= UNMAP; flags++) {
		zero_some(f, f->path, flags);
		zero_some(f, path, flags);
	}
	close(fd);
}

static void test_impossible_ranges_are_refused(void **state)
{
	static const struct {
		uint32_t type;
		struct range range;
		uint8_t status;
	} cases[] = {
		{DISCARD, {16, 1, 0}, 1},
		{DISCARD, {15, 2, 0}, 1},
		{DISCARD, {UINT64_MAX, 1, 0}, 1},
		{DISCARD, {UINT64_MAX / 512, 1, 0}, 1},
		{DISCARD, {UINT64_MAX - 1, 2, 0}, 1},
		{DISCARD, {0, UINT32_MAX, 0}, 1},
		{DISCARD, {0, 1, UNMAP}, 2},
		{DISCARD, {0, 1, 2}, 2},
		{WRITE_ZEROES, {16, 1, 0}, 1},
		{WRITE_ZEROES, {UINT64_MAX, UINT32_MAX, UNMAP}, 1},
		{WRITE_ZEROES, {0, 1, 2}, 2},
		{WRITE_ZEROES, {0, 1, 0x80000001}, 2},
		{DISCARD, {17, 0, 0}, 1},
		{DISCARD, {16, 0, 0}, 0}, /* nothing, at the end */
	};
	struct fixture *f = *state;
	struct range many[BLOCK_RANGES_MAX + 1] = {0};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* a good one before it must not be done either */
		const struct range pair[] = {{0, 1, 0}, cases[i].range};

		assert_int_equal(
			request_ranges(f, cases[i].type, &cases[i].range, 1, 0),
			cases[i].status);
		if (cases[i].status)
			assert_int_equal(
				request_ranges(f, cases[i].type, pair, 2, 0),
				cases[i].status);
	}
	assert_int_equal(request_ranges(f, DISCARD, many, 1, 1), 1);
	assert_int_equal(request_ranges(f, DISCARD, many, 1, 16), 1);
	assert_int_equal(request_ranges(f, DISCARD, many, ARRAY_SIZE(many), 0),
			 1);
	for (off_t off = 0; off < DISK_SIZE; off += 512)
		assert_int_equal(byte_at(f, off), off / 512 + 1);
}

/* What was not negotiated is not there. */
static void test_discard_needs_to_be_negotiated(void **state)
{
	static const struct range range = {0, 1, 0};
	struct fixture *f = *state;

	f->dev->driver_features &= ~(BIT(13) | BIT(14));
	assert_int_equal(request_ranges(f, DISCARD, &range, 1, 0), 2);
	assert_int_equal(request_ranges(f, WRITE_ZEROES, &range, 1, 0), 2);
	assert_int_equal(byte_at(f, 0), 1);
}

static void test_create_refuses_what_is_no_disk(void **state)
{
	static char dir[] = "/tmp", fifo[] = "/tmp/ember-block-fifo";
	static char socket[] = "/tmp/x";
	struct fixture *f = *state;
	const struct drive_config cases[] = {
		{.path_on_host = NULL},
		{.path_on_host = dir},
		{.path_on_host = fifo},
		{.path_on_host = f->path, .socket = socket},
		{.socket = socket},
	};

	unlink(fifo);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};
		struct block *block = NULL;

		assert_true(block_create(&block, &cases[i], &f->metrics, &err) <
			    0);
		assert_null(block);
		assert_non_null(strstr(err.text, "Unable to create the virtio "
						 "block device: "));
	}
	unlink(fifo);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_in_reads_sectors),
		CASE(test_out_writes_sectors),
		CASE(test_requests_beyond_the_disk_fail),
		CASE(test_get_id_gives_twenty_bytes),
		CASE(test_flush_and_unknown_types),
		CASE(test_read_only_disk_refuses_writes),
		CASE(test_file_that_shrank_is_an_io_error),
		CASE(test_any_cut_of_the_buffers_is_served),
		CASE(test_malformed_requests_are_given_back),
		CASE(test_broken_ring_needs_reset_and_recovers),
		CASE(test_set_path_changes_capacity),
		CASE(test_discard_is_offered_with_its_limits),
		CASE(test_discard_empties_ranges),
		CASE(test_write_zeroes_writes_zeroes),
		CASE(test_impossible_ranges_are_refused),
		CASE(test_discard_needs_to_be_negotiated),
		CASE(test_create_refuses_what_is_no_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
