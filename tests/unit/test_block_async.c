/* SPDX-License-Identifier: Apache-2.0 */
/* Block devices with io_engine "Async", on a ring that does as it is told. */
#include "tests/fake/block_ring.h"
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/block.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define RING_SIZE 64
#define SECTORS 64
#define REQUESTS 16 /* four descriptors and 4 KiB each */
#define HEADER(i) (RING_DATA + (i)*UINT64_C(0x2000))
#define DATA(i) (HEADER(i) + 0x100)
#define STATUS(i) (HEADER(i) + 0x1f00)
#define IN 0
#define OUT 1
#define FLUSH 4
#define DISCARD 11
#define WRITE_ZEROES 13

struct fixture {
	struct ring ring;
	struct loop *loop;
	struct block_ring *block_ring;
	struct block_metrics metrics, other_metrics;
	struct block *block;
	struct slot slot;
	int disk;
	char path[32];
};

static struct block *create(struct fixture *f, struct block_metrics *metrics)
{
	const struct drive_config config = {
		.drive_id = f->path,
		.path_on_host = f->path,
		.cache_type = CACHE_WRITEBACK,
		.io_engine = IO_ENGINE_ASYNC,
	};
	struct block *block = NULL;

	assert_int_equal(block_create(&block, &config, metrics, NULL), 0);
	assert_int_equal(block_use_ring(block, f->block_ring, NULL), 0);
	return block;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct ring *rings[1];

	assert_non_null(f);
	memset(&fake_block_ring, 0, sizeof(fake_block_ring));
	f->disk = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->disk, SECTORS * 512), 0);
	snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->disk);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->ring, RING_SIZE), 0);
	assert_int_equal(block_ring_create(&f->block_ring, NULL), 0);
	f->block = create(f, &f->metrics);
	slot_create(&f->slot, block_virtio(f->block), f->loop, f->ring.mem);
	rings[0] = &f->ring;
	slot_activate(&f->slot, rings, ~BIT(VIRTIO_F_EVENT_IDX));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	slot_destroy(&f->slot);
	block_ring_destroy(f->block_ring);
	ring_destroy(&f->ring);
	loop_destroy(f->loop);
	close_fd(&f->disk);
	free(f);
	return 0;
}

/* Publishes request @i: of byte @i + 1, to or from sector @i. */
static void post(struct ring *ring, uint16_t i, uint32_t type, uint32_t len)
{
	const struct {
		le32 type, reserved;
		le64 sector;
	} header = {le32_make(type), {0}, le64_make(i)};
	uint16_t first = (uint16_t)(4 * i), out = type == IN ? RING_WRITE : 0;

	assert_int_equal(
		gmem_write(ring->mem, HEADER(i), &header, sizeof(header)), 0);
	assert_int_equal(gmem_write(ring->mem, STATUS(i), "\xee", 1), 0);
	ring_set_desc(ring, first, HEADER(i), 16, RING_NEXT,
		      (uint16_t)(first + 1));
	ring_set_desc(ring, (uint16_t)(first + 1), DATA(i), len,
		      out | RING_NEXT, (uint16_t)(first + 2));
	ring_set_desc(ring, (uint16_t)(first + 2), STATUS(i), 1, RING_WRITE, 0);
	ring_publish(ring, first);
}

static void post_write(struct ring *ring, uint16_t i, uint32_t len)
{
	uint8_t data[4096];

	memset(data, i + 1, sizeof(data));
	assert_int_equal(gmem_write(ring->mem, DATA(i), data, len), 0);
	post(ring, i, OUT, len);
}

static uint8_t status_of(const struct fixture *f, uint16_t i)
{
	uint8_t status;

	assert_int_equal(gmem_read(f->ring.mem, STATUS(i), &status, 1), 0);
	return status;
}

static uint8_t sector_byte(const struct fixture *f, uint16_t i)
{
	uint8_t byte = 0;

	assert_int_equal(pread(f->disk, &byte, 1, i * 512), 1);
	return byte;
}

/* The number of the request that comes back next, or -1. */
static int next_back(struct fixture *f)
{
	uint32_t id, len;

	return ring_take(&f->ring, &id, &len) ? (int)id / 4 : -1;
}

static void test_one_kick_is_one_submission(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < REQUESTS; i++)
		post_write(&f->ring, i, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(fake_block_ring.submits, 1);
	assert_int_equal(slot_edges(&f->slot), 1);
	for (uint16_t i = 0; i < REQUESTS; i++) {
		assert_int_equal(next_back(f), i);
		assert_int_equal(status_of(f, i), 0);
		assert_int_equal(sector_byte(f, i), i + 1);
	}
	assert_int_equal(f->metrics.write_count.value, REQUESTS);
	assert_int_equal(f->metrics.write_bytes.value, REQUESTS * 512);
}

static void test_requests_come_back_in_any_order(void **state)
{
	struct fixture *f = *state;

	fake_block_ring.backwards = fake_block_ring.hold = true;
	post_write(&f->ring, 0, 512);
	post_write(&f->ring, 1, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(next_back(f), -1);
	assert_int_equal(slot_edges(&f->slot), 0);
	post_write(&f->ring, 2, 512);
	slot_kick(&f->slot, 0);
	fake_block_ring_finish(f->block_ring);
	assert_int_equal(slot_edges(&f->slot), 1);
	for (int i = 2; i >= 0; i--)
		assert_int_equal(next_back(f), i);
	assert_int_equal(next_back(f), -1);
}

static void test_short_transfers_go_on(void **state)
{
	struct fixture *f = *state;
	uint8_t data[1024];

	fake_block_ring.piece = 100;
	post_write(&f->ring, 3, 1024);
	slot_kick(&f->slot, 0);
	assert_int_equal(fake_block_ring.calls, 11);
	assert_int_equal(next_back(f), 3);
	assert_int_equal(status_of(f, 3), 0);
	assert_int_equal(sector_byte(f, 4), 4);
	post(&f->ring, 3, IN, 1024);
	assert_int_equal(gmem_zero(f->ring.mem, DATA(3), 1024), 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(next_back(f), 3);
	assert_int_equal(gmem_read(f->ring.mem, DATA(3), data, 1024), 0);
	assert_int_equal(data[0], 4);
	assert_int_equal(data[1023], 4);
	assert_int_equal(f->metrics.read_count.value, 1);
}

/* Interrupted calls are made again; those that the kernel cannot make without
 * waiting are made by us; others fail the request, and nothing but it. */
static void test_errors_of_the_ring(void **state)
{
	static const struct {
		int error;
		uint8_t status;
	} cases[] = {
		{EINTR, 0}, {EAGAIN, 0}, {ECANCELED, 0},
		{EIO, 1},   {ENOSPC, 1}, {EFAULT, 1},
		{EBADF, 1}, {EACCES, 1}, {EOPNOTSUPP, 2},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fake_block_ring.fail = cases[i].error;
		post_write(&f->ring, 1, 512);
		post_write(&f->ring, 2, 512);
		slot_kick(&f->slot, 0);
		assert_int_equal(status_of(f, 1), cases[i].status);
		assert_int_equal(status_of(f, 2), 0);
		assert_int_equal(next_back(f) + next_back(f), 3);
	}
	assert_int_equal(f->metrics.execute_fails.value, 5);
}

static void test_read_past_a_shrunken_file_fails(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ftruncate(f->disk, 512), 0);
	post(&f->ring, 0, IN, 1024);
	post(&f->ring, 9, IN, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(status_of(f, 0), 1);
	assert_int_equal(status_of(f, 9), 1);
	assert_int_equal(f->metrics.execute_fails.value, 2);
}

/* Nothing that was in flight is seen by the driver after a reset, in memory
 * that may be something else by then. */
static void test_reset_waits_and_gives_nothing_back(void **state)
{
	struct fixture *f = *state;
	struct ring *rings[1] = {&f->ring};

	fake_block_ring.hold = true;
	assert_int_equal(gmem_track_dirty(f->ring.mem), 0);
	post_write(&f->ring, 0, 512);
	post(&f->ring, 1, IN, 512);
	slot_kick(&f->slot, 0);
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_reset(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	assert_int_equal(fake_block_ring.waits, 1);
	assert_int_equal(fake_block_ring.taken, fake_block_ring.given);
	assert_int_equal(next_back(f), -1);
	assert_int_equal(status_of(f, 0), 0xee);
	/* but the kernel wrote there */
	assert_true(gmem_page_dirty(f->ring.mem, DATA(1)));
	fake_block_ring_finish(f->block_ring);
	fake_block_ring.hold = false;
	ring_set_driver_idx(&f->ring, 0);
	slot_activate(&f->slot, rings, 0xffffffff | BIT(VIRTIO_F_VERSION_1));
	post_write(&f->ring, 2, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(status_of(f, 2), 0);
}

static void test_broken_ring_waits_for_what_is_in_flight(void **state)
{
	struct fixture *f = *state;

	fake_block_ring.hold = true;
	post_write(&f->ring, 0, 512);
	slot_kick(&f->slot, 0);
	ring_publish(&f->ring, RING_SIZE);
	slot_kick(&f->slot, 0);
	assert_false(f->slot.dev->active);
	assert_int_equal(fake_block_ring.taken, fake_block_ring.given);
	assert_int_equal(sector_byte(f, 0), 1);
}

static void test_pause_finishes_what_is_in_flight(void **state)
{
	struct fixture *f = *state;

	fake_block_ring.hold = true;
	fake_block_ring.piece = 200;
	post_write(&f->ring, 0, 512);
	slot_kick(&f->slot, 0);
	virtio_device_hold(f->slot.dev, true);
	assert_int_equal(next_back(f), 0);
	assert_int_equal(status_of(f, 0), 0);
	assert_int_equal(sector_byte(f, 0), 1);
	assert_int_equal(slot_edges(&f->slot), 1);
}

static void test_snapshot_finishes_what_is_in_flight(void **state)
{
	struct fixture *f = *state;
	struct state_file file;

	fake_block_ring.hold = true;
	post_write(&f->ring, 0, 512);
	slot_kick(&f->slot, 0);
	slot_save(&f->slot, &file);
	assert_int_equal(next_back(f), 0);
	assert_int_equal(f->slot.dev->queues[0].next_used, 1);
	state_file_release(&file);
	slot_resume(&f->slot);
}

static void test_other_file_waits_for_what_is_in_flight(void **state)
{
	struct fixture *f = *state;
	char path[32];
	int other = memfd_create("other", MFD_CLOEXEC);
	uint8_t byte;

	assert_int_equal(ftruncate(other, 512), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", other);
	fake_block_ring.hold = true;
	post_write(&f->ring, 0, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(block_set_path(f->block, path, NULL), 0);
	assert_int_equal(next_back(f), 0);
	assert_int_equal(sector_byte(f, 0), 1);
	assert_int_equal(pread(other, &byte, 1, 0), 1);
	assert_int_equal(byte, 0);
	fake_block_ring.hold = false;
	post(&f->ring, 0, IN, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(gmem_read(f->ring.mem, DATA(0), &byte, 1), 0);
	assert_int_equal(byte, 0);
	close(other);
}

/* More requests than fit: the rest waits in the driver's ring. */
static void test_full_ring_loses_nothing(void **state)
{
	struct fixture *f = *state;

	fake_block_ring.hold = true;
	fake_block_ring.depth = 3;
	for (uint16_t i = 0; i < REQUESTS; i++)
		post_write(&f->ring, i, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(f->metrics.io_engine_throttled_events.value, 1);
	assert_int_equal(f->metrics.remaining_reqs_count.value, REQUESTS - 3);
	for (int round = 0; round < REQUESTS; round++) {
		fake_block_ring_finish(f->block_ring);
		turn_once(f->loop);
	}
	for (uint16_t i = 0; i < REQUESTS; i++) {
		assert_int_equal(next_back(f), i);
		assert_int_equal(sector_byte(f, i), i + 1);
	}
}

/* The device that took all the room is reset, by a thread that is not the
 * loop's: the other must go on. */
static void test_starved_device_goes_on_after_reset_of_another(void **state)
{
	struct fixture *f = *state;
	struct block *block = create(f, &f->other_metrics);
	struct ring other;
	struct ring *rings[1] = {&other};
	struct slot slot;

	ring_share(&other, &f->ring, 2, RING_SIZE);
	slot_create(&slot, block_virtio(block), f->loop, f->ring.mem);
	slot_activate(&slot, rings, ~BIT(VIRTIO_F_EVENT_IDX));
	fake_block_ring.hold = true;
	fake_block_ring.depth = 1;
	post_write(&f->ring, 0, 512);
	slot_kick(&f->slot, 0);
	post_write(&other, 1, 512);
	slot_kick(&slot, 0);
	assert_int_equal(f->other_metrics.io_engine_throttled_events.value, 1);
	fake_block_ring.hold = false;
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_reset(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	turn_briefly(f->loop);
	assert_int_equal(status_of(f, 1), 0);
	assert_int_equal(sector_byte(f, 1), 2);
	slot_destroy(&slot);
}

/* A limit holds back what has not been begun, and nothing else. */
static void test_limited_device_gives_back_what_is_in_flight(void **state)
{
	static const struct rate_limiter_update update = {
		.values.ops = {.size = 2, .refill_time_ms = 60000},
		.has_ops = true,
	};
	static const struct rate_limiter_update none = {.has_ops = true};
	struct fixture *f = *state;

	block_update_limiter(f->block, &update);
	fake_block_ring.hold = true;
	for (uint16_t i = 0; i < 3; i++)
		post_write(&f->ring, i, 512);
	slot_kick(&f->slot, 0);
	assert_int_equal(f->metrics.rate_limiter_throttled_events.value, 1);
	assert_int_equal(fake_block_ring.taken - fake_block_ring.given, 2);
	fake_block_ring_finish(f->block_ring);
	assert_int_equal(next_back(f), 0);
	assert_int_equal(next_back(f), 1);
	assert_int_equal(next_back(f), -1);
	fake_block_ring.hold = false;
	block_update_limiter(f->block, &none);
	turn_briefly(f->loop);
	assert_int_equal(next_back(f), 2);
	assert_int_equal(sector_byte(f, 2), 3);
}

/* They cost the host as much as those that are sent; a discard does not. */
static void test_limit_counts_zeroes_that_are_not_sent(void **state)
{
	static const struct rate_limiter_update update = {
		.values.bandwidth = {.size = 4096, .refill_time_ms = 60000},
		.has_bandwidth = true,
	};
	const struct {
		le64 sector;
		le32 sectors, flags;
	} range = {le64_make(0), le32_make(SECTORS), {0}};
	struct fixture *f = *state;

	block_update_limiter(f->block, &update);
	for (uint16_t i = 0; i < 4; i++)
		assert_int_equal(
			gmem_write(f->ring.mem, DATA(i), &range, sizeof(range)),
			0);
	post(&f->ring, 0, DISCARD, sizeof(range));
	post(&f->ring, 1, DISCARD, sizeof(range));
	post(&f->ring, 2, WRITE_ZEROES, sizeof(range));
	post(&f->ring, 3, DISCARD, sizeof(range));
	slot_kick(&f->slot, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(next_back(f), i);
	assert_int_equal(next_back(f), -1);
	assert_int_equal(f->metrics.rate_limiter_throttled_events.value, 1);
}

static void test_flush_and_discard_go_through_the_ring(void **state)
{
	const struct {
		le64 sector;
		le32 sectors, flags;
	} range = {le64_make(0), le32_make(8), {0}};
	struct fixture *f = *state;

	post_write(&f->ring, 0, 512);
	slot_kick(&f->slot, 0);
	fake_block_ring.calls = 0;
	post(&f->ring, 1, FLUSH, 0);
	assert_int_equal(
		gmem_write(f->ring.mem, DATA(2), &range, sizeof(range)), 0);
	post(&f->ring, 2, DISCARD, sizeof(range));
	slot_kick(&f->slot, 0);
	assert_int_equal(fake_block_ring.calls, 2);
	assert_int_equal(status_of(f, 1), 0);
	assert_int_equal(status_of(f, 2), 0);
	assert_int_equal(sector_byte(f, 0), 0);
	assert_int_equal(f->metrics.flush_count.value, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_one_kick_is_one_submission),
		CASE(test_requests_come_back_in_any_order),
		CASE(test_short_transfers_go_on),
		CASE(test_errors_of_the_ring),
		CASE(test_read_past_a_shrunken_file_fails),
		CASE(test_reset_waits_and_gives_nothing_back),
		CASE(test_broken_ring_waits_for_what_is_in_flight),
		CASE(test_pause_finishes_what_is_in_flight),
		CASE(test_snapshot_finishes_what_is_in_flight),
		CASE(test_other_file_waits_for_what_is_in_flight),
		CASE(test_full_ring_loses_nothing),
		CASE(test_starved_device_goes_on_after_reset_of_another),
		CASE(test_limited_device_gives_back_what_is_in_flight),
		CASE(test_limit_counts_zeroes_that_are_not_sent),
		CASE(test_flush_and_discard_go_through_the_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
