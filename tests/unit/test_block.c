/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"
#include "virtio/block.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
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
	assert_int_equal(request(f, 11, 0, 512, NULL), 2);
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
		{.path_on_host = f->path, .io_engine = IO_ENGINE_ASYNC},
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
		CASE(test_create_refuses_what_is_no_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
