/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device; getrandom of the host can be made to fail here. */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/entropy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#define RING_SIZE 16
#define BUFFER (RING_DATA + 0x10000)
#define LARGE (3 * 65536)

struct fixture {
	struct ring ring;
	struct loop *loop;
	struct metrics metrics;
	struct slot slot;
};

/* What the host's generator does: after @interruptions, @pieces of at most so
 * many bytes (0: all at once), or an error. */
static struct {
	int interruptions;
	size_t piece;
	int error;
} host;

ssize_t __real_getrandom(void *buf, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);

ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
	if (host.interruptions || host.error) {
		errno = host.error ? host.error : EINTR;
		if (host.interruptions)
			host.interruptions--;
		return -1;
	}
	return __real_getrandom(buf, host.piece ? MIN(len, host.piece) : len,
				flags);
}

static void start(struct fixture *f, const struct entropy_config *config)
{
	struct ring *const rings[] = {&f->ring};
	struct entropy *entropy = NULL;

	assert_int_equal(entropy_create(&entropy, config, &f->metrics, NULL),
			 0);
	slot_create(&f->slot, entropy_virtio(entropy), f->loop, f->ring.mem);
	slot_activate(&f->slot, rings, UINT64_MAX);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	memset(&host, 0, sizeof(host));
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->ring, RING_SIZE), 0);
	*state = f;
	return 0;
}

static int setup_started(void **state)
{
	const struct entropy_config config = {0};
	int ret = setup(state);

	start(*state, &config);
	return ret;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	slot_destroy(&f->slot);
	ring_destroy(&f->ring);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

static void kick(struct fixture *f)
{
	slot_kick(&f->slot, 0);
	turn_once(f->loop);
}

/* One buffer in, one back: the length used. */
static uint32_t request(struct fixture *f, uint64_t at, uint32_t len,
			uint16_t flags)
{
	uint32_t id, used = UINT32_MAX;

	ring_set_desc(&f->ring, 3, at, len, flags, 0);
	ring_publish(&f->ring, 3);
	kick(f);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(id, 3);
	return used;
}

static size_t zeros(const struct fixture *f, uint64_t at, size_t len)
{
	size_t count = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t byte;

		assert_int_equal(gmem_read(f->ring.mem, at + i, &byte, 1), 0);
		count += byte == 0;
	}
	return count;
}

static void test_device_has_no_features_and_no_config(void **state)
{
	struct fixture *f = *state;
	uint8_t byte = 1;

	assert_int_equal(f->slot.dev->ops->id, 4);
	assert_int_equal(f->slot.dev->features, BIT(VIRTIO_F_VERSION_1));
	virtio_device_read_config(f->slot.dev, 0, &byte, 1);
	assert_int_equal(byte, 0);
}

static void test_buffer_is_filled(void **state)
{
	struct fixture *f = *state;
	uint8_t first[64], second[64];

	assert_int_equal(request(f, BUFFER, 4096, RING_WRITE), 4096);
	assert_true(zeros(f, BUFFER, 4096) < 100);
	assert_int_equal(zeros(f, BUFFER + 4096, 64), 64);
	assert_int_equal(gmem_read(f->ring.mem, BUFFER, first, 64), 0);
	assert_int_equal(request(f, BUFFER, 64, RING_WRITE), 64);
	assert_int_equal(gmem_read(f->ring.mem, BUFFER, second, 64), 0);
	assert_memory_not_equal(first, second, 64);
	assert_int_equal(f->metrics.entropy.entropy_bytes.value, 4096 + 64);
	assert_int_equal(f->metrics.entropy.entropy_event_count.value, 2);
	assert_int_equal(f->metrics.entropy.entropy_event_fails.value, 0);
}

static void test_pieces_are_filled_and_dirty(void **state)
{
	struct fixture *f = *state;
	uint32_t id, used;

	assert_int_equal(gmem_track_dirty(f->ring.mem), 0);
	host.piece = 7;
	host.interruptions = 3;
	ring_set_desc(&f->ring, 0, BUFFER, 100, RING_WRITE | RING_NEXT, 5);
	ring_set_desc(&f->ring, 5, BUFFER + 0x5000, 200, RING_WRITE | RING_NEXT,
		      1);
	ring_set_desc(&f->ring, 1, BUFFER + 0x9000, 300, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	kick(f);
	assert_true(ring_take(&f->ring, &id, &used));
	assert_int_equal(used, 600);
	assert_true(zeros(f, BUFFER, 100) < 10);
	assert_true(zeros(f, BUFFER + 0x5000, 200) < 20);
	assert_true(zeros(f, BUFFER + 0x9000, 300) < 30);
	assert_int_equal(zeros(f, BUFFER + 100, 100), 100);
	assert_true(gmem_page_dirty(f->ring.mem, BUFFER + 0x5000));
	assert_true(gmem_page_dirty(f->ring.mem, BUFFER + 0x9000));
	assert_false(gmem_page_dirty(f->ring.mem, BUFFER + 0x1000));
}

static void test_large_buffer_gets_64_kib(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(f, BUFFER, LARGE, RING_WRITE), 65536);
	assert_true(zeros(f, BUFFER + 65536 - 64, 64) < 10);
	assert_int_equal(zeros(f, BUFFER + 65536, LARGE - 65536),
			 LARGE - 65536);
}

static void test_malformed_requests_come_back_empty(void **state)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		uint16_t flags;
	} cases[] = {
		{BUFFER, 64, 0},	       /* nothing to fill */
		{BUFFER, 0, RING_WRITE},       /* no room */
		{RING_MEMORY, 64, RING_WRITE}, /* not in RAM */
		{RING_MEMORY - 8, 64, RING_WRITE},
		{UINT64_MAX - 8, 64, RING_WRITE},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(
			request(f, cases[i].at, cases[i].len, cases[i].flags),
			0);
		assert_int_equal(f->metrics.entropy.entropy_event_fails.value,
				 i + 1);
	}
	assert_int_equal(request(f, BUFFER, 8, RING_WRITE), 8);
}

static void test_host_without_entropy_gives_nothing(void **state)
{
	struct fixture *f = *state;

	host.error = EAGAIN;
	assert_int_equal(request(f, BUFFER, 64, RING_WRITE), 0);
	assert_int_equal(f->metrics.entropy.host_rng_fails.value, 1);
	assert_int_equal(f->metrics.entropy.entropy_bytes.value, 0);
	host.error = 0;
	assert_int_equal(request(f, BUFFER, 64, RING_WRITE), 64);
}

static void test_broken_ring_needs_reset_and_recovers(void **state)
{
	struct fixture *f = *state;
	struct ring *const rings[] = {&f->ring};

	ring_publish(&f->ring, RING_SIZE);
	kick(f);
	assert_false(f->slot.dev->active);
	assert_true(f->slot.dev->status & VIRTIO_STATUS_NEEDS_RESET);
	virtio_device_reset(f->slot.dev);
	f->ring.driver_idx = f->ring.device_idx = 0;
	ring_set_driver_idx(&f->ring, 0);
	slot_activate(&f->slot, rings, UINT64_MAX);
	f->ring.device_idx = 0;
	assert_int_equal(request(f, BUFFER, 8, RING_WRITE), 8);
}

/* ------------------------------------------------------------- many, slowly */

struct count {
	struct ring *ring;
	int back, wanted;
};

static bool counted(void *arg)
{
	struct count *count = arg;
	uint32_t id, len;

	while (ring_take(count->ring, &id, &len))
		count->back++;
	return count->back >= count->wanted;
}

static void publish_many(struct fixture *f, uint16_t count, uint32_t len)
{
	for (uint16_t i = 0; i < count; i++) {
		ring_set_desc(&f->ring, i, BUFFER, len, RING_WRITE, 0);
		ring_publish(&f->ring, i);
	}
}

static void test_a_turn_gives_at_most_half_a_mib(void **state)
{
	struct fixture *f = *state;
	struct count count = {.ring = &f->ring, .wanted = 16};

	publish_many(f, 16, LARGE);
	pthread_mutex_lock(&f->slot.dev->lock);
	assert_true(virtio_device_queue_event(f->slot.dev, 0));
	pthread_mutex_unlock(&f->slot.dev->lock);
	assert_false(counted(&count));
	assert_int_equal(count.back, 8);
	slot_kick(&f->slot, 0);
	assert_true(turn_until(f->loop, counted, &count));
	assert_int_equal(f->metrics.entropy.entropy_bytes.value, 16 * 65536);
}

static void limited(void **state, struct token_bucket_config bytes,
		    struct token_bucket_config ops, int at_once)
{
	struct fixture *f = *state;
	const struct entropy_config config = {
		.rate_limiter.values = {.bandwidth = bytes, .ops = ops}};
	struct count count = {.ring = &f->ring, .wanted = 8};

	start(f, &config);
	publish_many(f, 8, 100);
	kick(f);
	assert_false(counted(&count));
	assert_int_equal(count.back, at_once);
	assert_int_equal(
		f->metrics.entropy.entropy_rate_limiter_throttled.value, 1);
	slot_kick(&f->slot, 0); /* is of no help */
	turn_once(f->loop);
	assert_true(turn_until(f->loop, counted, &count));
	assert_true(f->metrics.entropy.rate_limiter_event_count.value > 0);
	assert_int_equal(f->metrics.entropy.entropy_bytes.value, 800);
}

static void test_operations_are_limited(void **state)
{
	limited(state, (struct token_bucket_config){0},
		(struct token_bucket_config){3, 0, 300}, 3);
}

static void test_bytes_are_limited(void **state)
{
	limited(state, (struct token_bucket_config){400, 100, 400},
		(struct token_bucket_config){0}, 5);
}

/* --------------------------------------------------------------- snapshots */

static void test_limiter_and_queue_are_kept(void **state)
{
	struct fixture *f = *state;
	const struct entropy_config config = {
		.rate_limiter.values.ops = {2, 0, 3600000}};
	struct count count = {.ring = &f->ring};
	struct fixture clone = {.ring = {0}};
	struct entropy *entropy = NULL;
	struct state_file file;

	start(f, &config);
	publish_many(f, 4, 100);
	kick(f);
	counted(&count);
	assert_int_equal(count.back, 2);
	slot_save(&f->slot, &file);
	clone.ring = f->ring;
	clone.ring.mem = memory_copy(f->ring.mem);
	assert_int_equal(
		entropy_create(&entropy, &config, &clone.metrics, NULL), 0);
	slot_create(&clone.slot, entropy_virtio(entropy), f->loop,
		    clone.ring.mem);
	loop_enable_devices(f->loop, true);
	assert_int_equal(slot_load(&clone.slot, &file, NULL), 0);
	turn_briefly(f->loop);
	count = (struct count){.ring = &clone.ring};
	counted(&count);
	assert_int_equal(count.back, 0); /* no tokens in the copy either */
	slot_destroy(&clone.slot);
	ring_destroy(&clone.ring);
	state_file_release(&file);
}

int main(void)
{
#define CASE(name)                                                             \
	cmocka_unit_test_setup_teardown(name, setup_started, teardown)
#define LATER(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_device_has_no_features_and_no_config),
		CASE(test_buffer_is_filled),
		CASE(test_pieces_are_filled_and_dirty),
		CASE(test_large_buffer_gets_64_kib),
		CASE(test_malformed_requests_come_back_empty),
		CASE(test_host_without_entropy_gives_nothing),
		CASE(test_broken_ring_needs_reset_and_recovers),
		CASE(test_a_turn_gives_at_most_half_a_mib),
		LATER(test_operations_are_limited),
		LATER(test_bytes_are_limited),
		LATER(test_limiter_and_queue_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
