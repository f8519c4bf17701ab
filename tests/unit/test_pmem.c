/* SPDX-License-Identifier: Apache-2.0 */
/* The device and the file behind it. Linked with --wrap=fdatasync. */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/pmem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#define FILE_SIZE (MIB(2) + 100)
#define START UINT64_C(0x8000000000)
#define RING_SIZE 16
#define REQUEST(i) (RING_DATA + (i)*UINT64_C(0x100))
#define RESULT(i) (REQUEST(i) + 0x80)
#define ALL UINT64_MAX

/* Of a section, behind its head: where it is, then the device. */
#define OFF_CONFIG (28 + 24 + 6 + 1 + 8 + 12 + 6)
#define OFF_QUEUE (OFF_CONFIG + VIRTIO_CONFIG_MAX)
#define OFF_OWN (OFF_QUEUE + 35)

struct fixture {
	struct ring ring;
	struct loop *loop;
	struct pmem_metrics metrics;
	struct pmem *pmem;
	struct slot slot;
	char path[32];
	struct rate_limiter_config limits;
	bool read_only;
};

/* What the disk does. */
static struct {
	unsigned syncs;
	int error;
	struct ring *publishes; /* a request comes meanwhile */
} disk;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
	disk.syncs++;
	if (disk.publishes)
		ring_publish(disk.publishes, 2);
	disk.publishes = NULL;
	if (disk.error) {
		errno = disk.error;
		return -1;
	}
	return __real_fdatasync(fd);
}

static struct pmem *create(struct fixture *f)
{
	const struct pmem_config config = {
		.id = f->path,
		.path_on_host = f->path,
		.read_only = f->read_only,
		.rate_limiter.values = f->limits,
	};
	struct error err = {0};
	struct pmem *pmem = NULL;

	assert_int_equal(pmem_create(&pmem, &config, &f->metrics, &err), 0);
	assert_int_equal(pmem_open(pmem, f->path, f->read_only, &err), 0);
	pmem_place(pmem, START);
	return pmem;
}

static void start(struct fixture *f)
{
	struct ring *const rings[] = {&f->ring};

	f->pmem = create(f);
	slot_create(&f->slot, pmem_virtio(f->pmem), f->loop, f->ring.mem);
	slot_activate(&f->slot, rings, ALL);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_non_null(f);
	memset(&disk, 0, sizeof(disk));
	strcpy(f->path, "/tmp/ember-pmem-XXXXXX");
	fd = mkstemp(f->path);
	assert_int_equal(ftruncate(fd, FILE_SIZE), 0);
	close(fd);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->ring, RING_SIZE), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->slot.mmio)
		slot_destroy(&f->slot);
	ring_destroy(&f->ring);
	loop_destroy(f->loop);
	unlink(f->path);
	free(f);
	return 0;
}

/* A flush with descriptors of its own, not yet published. */
static void prepare(struct ring *ring, uint16_t i, uint32_t type)
{
	const le32 request = le32_make(type), nothing = le32_make(0xeeeeeeee);
	uint16_t first = (uint16_t)(2 * i);

	assert_int_equal(gmem_write(ring->mem, REQUEST(i), &request, 4), 0);
	assert_int_equal(gmem_write(ring->mem, RESULT(i), &nothing, 4), 0);
	ring_set_desc(ring, first, REQUEST(i), 4, RING_NEXT,
		      (uint16_t)(first + 1));
	ring_set_desc(ring, (uint16_t)(first + 1), RESULT(i), 4, RING_WRITE, 0);
}

static void post(struct ring *ring, uint16_t i, uint32_t type)
{
	prepare(ring, i, type);
	ring_publish(ring, (uint16_t)(2 * i));
}

/* The answer to the request that comes back next, which is number @i. */
static uint32_t answer_to(struct ring *ring, uint16_t i)
{
	uint32_t id, len;
	le32 result;

	assert_true(ring_take(ring, &id, &len));
	assert_int_equal(id, 2 * i);
	assert_int_equal(len, 4);
	assert_int_equal(gmem_read(ring->mem, RESULT(i), &result, 4), 0);
	return le32_get(result);
}

/* ---------------------------------------------------------------- the file */

static void test_open_maps_the_file_and_what_is_behind(void **state)
{
	struct fixture *f = *state;
	struct pmem_file file;

	assert_int_equal(pmem_file_open(&file, f->path, false, NULL), 0);
	assert_int_equal(file.size, FILE_SIZE);
	assert_int_equal(file.len, MIB(4));
	assert_int_equal((uintptr_t)file.hva % MIB(2), 0);
	file.hva[0] = 1;
	file.hva[FILE_SIZE - 1] = 2;
	file.hva[MIB(4) - 1] = 3;
	pmem_file_close(&file);
	assert_int_equal(file.fd, -1);
	pmem_file_close(&file);

	assert_int_equal(pmem_file_open(&file, f->path, true, NULL), 0);
	assert_int_equal(file.hva[0], 1);
	assert_int_equal(file.hva[FILE_SIZE - 1], 2);
	assert_int_equal(file.hva[MIB(4) - 1], 0);
	pmem_file_close(&file);
}

static void test_open_of_whole_huge_pages_has_nothing_behind(void **state)
{
	struct fixture *f = *state;
	struct pmem_file file;

	assert_int_equal(truncate(f->path, (off_t)MIB(6)), 0);
	assert_int_equal(pmem_file_open(&file, f->path, false, NULL), 0);
	assert_int_equal(file.len, MIB(6));
	pmem_file_close(&file);
}

static void test_open_refuses_what_is_no_file(void **state)
{
	struct fixture *f = *state;
	const struct {
		const char *path, *text;
		int ret;
	} cases[] = {
		{"/tmp",
		 "Error manipulating the backing file: /tmp is a directory",
		 -EINVAL},
		{"/dev/null",
		 "Error manipulating the backing file: /dev/null is not a "
		 "regular file, which it has to be",
		 -EINVAL},
		{"/nonexistent",
		 "Error manipulating the backing file: /nonexistent: No such "
		 "file or directory (os error 2)",
		 -ENOENT},
		{f->path, "Error backing file size is 0", -EINVAL},
	};

	assert_int_equal(truncate(f->path, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct pmem_file file = {.fd = -7};
		struct error err = {0};

		assert_int_equal(
			pmem_file_open(&file, cases[i].path, true, &err),
			cases[i].ret);
		assert_string_equal(err.text, cases[i].text);
		assert_int_equal(file.fd, -7);
	}
}

/* Neither waits for a writer nor for a reader. */
static void test_open_does_not_wait_for_a_fifo(void **state)
{
	struct fixture *f = *state;
	struct pmem_file file;

	unlink(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(pmem_file_open(&file, f->path, true, NULL), -EINVAL);
	assert_int_equal(pmem_file_open(&file, f->path, false, NULL), -EINVAL);
}

static void test_open_of_more_than_there_are_addresses_is_refused(void **state)
{
	AUTO_CLOSE int fd = memfd_create("huge", MFD_CLOEXEC);
	struct pmem_file file;
	struct error err = {0};
	char path[32];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(ftruncate(fd, INT64_MAX), 0);
	assert_int_equal(pmem_file_open(&file, path, false, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "Out of memory (os error 12)"));
}

/* -------------------------------------------------------------- the device */

static void test_config_has_start_and_size(void **state)
{
	struct fixture *f = *state;
	le64 config[2];

	start(f);
	virtio_device_read_config(f->slot.dev, 0, (uint8_t *)config,
				  sizeof(config));
	assert_int_equal(le64_get(config[0]), START);
	assert_int_equal(le64_get(config[1]), MIB(4));
	assert_int_equal(f->slot.dev->features, BIT(VIRTIO_F_VERSION_1));
}

static void test_flush_syncs_the_file(void **state)
{
	struct fixture *f = *state;

	start(f);
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(answer_to(&f->ring, 0), 0);
	assert_int_equal(disk.syncs, 1);
	assert_int_equal(slot_edges(&f->slot), 1);
	assert_int_equal(f->metrics.queue_event_count.value, 1);
	assert_int_equal(f->metrics.event_fails.value, 0);
}

static void test_flushes_that_wait_share_a_sync(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (uint16_t i = 0; i < RING_SIZE / 2; i++)
		post(&f->ring, i, 0);
	slot_kick(&f->slot, 0);
	for (uint16_t i = 0; i < RING_SIZE / 2; i++)
		assert_int_equal(answer_to(&f->ring, i), 0);
	assert_int_equal(disk.syncs, 1);
}

/* What it covers may have been written after the sync had passed by. */
static void test_flush_that_comes_during_a_sync_gets_another(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	start(f);
	post(&f->ring, 0, 0);
	prepare(&f->ring, 1, 0);
	disk.publishes = &f->ring;
	pthread_mutex_lock(&f->slot.dev->lock);
	assert_true(virtio_device_queue_event(f->slot.dev, 0)); /* more to do */
	assert_int_equal(disk.syncs, 1);
	assert_int_equal(answer_to(&f->ring, 0), 0);
	assert_false(ring_take(&f->ring, &id, &len));
	assert_false(virtio_device_queue_event(f->slot.dev, 0));
	pthread_mutex_unlock(&f->slot.dev->lock);
	assert_int_equal(disk.syncs, 2);
	assert_int_equal(answer_to(&f->ring, 1), 0);
}

static void test_sync_that_fails_fails_all_that_waited(void **state)
{
	struct fixture *f = *state;

	start(f);
	disk.error = EIO;
	post(&f->ring, 0, 0);
	post(&f->ring, 1, 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(answer_to(&f->ring, 0), UINT32_MAX);
	assert_int_equal(answer_to(&f->ring, 1), UINT32_MAX);
	assert_int_equal(f->metrics.event_fails.value, 1);
	disk.error = 0;
	post(&f->ring, 2, 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(answer_to(&f->ring, 2), 0);
}

static void test_read_only_file_needs_no_sync(void **state)
{
	struct fixture *f = *state;

	f->read_only = true;
	start(f);
	disk.error = EIO;
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(answer_to(&f->ring, 0), 0);
	assert_int_equal(disk.syncs, 0);
}

static void test_other_requests_fail(void **state)
{
	static const uint32_t types[] = {1, 0x01000000, UINT32_MAX};
	struct fixture *f = *state;

	start(f);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		post(&f->ring, 0, types[i]);
		slot_kick(&f->slot, 0);
		assert_int_equal(answer_to(&f->ring, 0), UINT32_MAX);
	}
	assert_int_equal(f->metrics.event_fails.value, ARRAY_SIZE(types));
}

static void test_malformed_requests_are_given_back(void **state)
{
	static const struct {
		uint64_t request;
		uint32_t request_len;
		uint64_t result;
		uint32_t result_len;
		uint16_t flags;
		uint32_t used;
	} cases[] = {
		{REQUEST(0), 3, RESULT(0), 4, RING_WRITE, 4},
		{REQUEST(0), 0, RESULT(0), 4, RING_WRITE, 4},
		{RING_MEMORY - 2, 4, RESULT(0), 4, RING_WRITE, 4},
		{START, 4, RESULT(0), 4, RING_WRITE, 4},
		{REQUEST(0), 4, RESULT(0), 3, RING_WRITE, 0},
		{REQUEST(0), 4, RESULT(0), 0, RING_WRITE, 0},
		{REQUEST(0), 4, RESULT(0), 4, 0, 0},
		{REQUEST(0), 4, RING_MEMORY - 2, 4, RING_WRITE, 0},
		{REQUEST(0), 4, START, 4, RING_WRITE, 0},
		{REQUEST(0), 4, UINT64_MAX - 1, 4, RING_WRITE, 0},
	};
	struct fixture *f = *state;

	start(f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t id, len;

		prepare(&f->ring, 0, 0);
		ring_set_desc(&f->ring, 0, cases[i].request,
			      cases[i].request_len, RING_NEXT, 1);
		ring_set_desc(&f->ring, 1, cases[i].result, cases[i].result_len,
			      cases[i].flags, 0);
		ring_publish(&f->ring, 0);
		slot_kick(&f->slot, 0);
		assert_true(ring_take(&f->ring, &id, &len));
		assert_int_equal(id, 0);
		assert_int_equal(len, cases[i].used);
		assert_int_equal(f->metrics.event_fails.value, i + 1);
	}
	assert_true(f->slot.dev->active);
}

static void test_any_cut_of_the_buffers_is_served(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;
	le32 result;

	start(f);
	prepare(&f->ring, 0, 0);
	ring_set_desc(&f->ring, 0, REQUEST(0), 1, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, REQUEST(0) + 1, 3, RING_NEXT, 2);
	ring_set_desc(&f->ring, 2, RESULT(0), 3, RING_NEXT | RING_WRITE, 3);
	ring_set_desc(&f->ring, 3, RESULT(0) + 3, 9, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	slot_kick(&f->slot, 0);
	assert_true(ring_take(&f->ring, &id, &len));
	assert_int_equal(len, 4);
	assert_int_equal(gmem_read(f->ring.mem, RESULT(0), &result, 4), 0);
	assert_int_equal(le32_get(result), 0);
}

static void test_broken_ring_needs_reset_and_no_sync(void **state)
{
	struct fixture *f = *state;

	start(f);
	ring_set_driver_idx(&f->ring, RING_SIZE + 1);
	slot_kick(&f->slot, 0);
	assert_false(f->slot.dev->active);
	assert_true(f->slot.dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(disk.syncs, 0);
}

static void test_kick_without_a_request_does_nothing(void **state)
{
	struct fixture *f = *state;

	start(f);
	slot_kick(&f->slot, 0);
	assert_int_equal(disk.syncs, 0);
	assert_int_equal(slot_edges(&f->slot), 0);
}

/* ---------------------------------------------------------------- limits */

static bool one_came_back(void *arg)
{
	uint32_t id, len;

	return ring_take(arg, &id, &len);
}

static void test_limit_makes_flushes_wait(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	f->limits.ops =
		(struct token_bucket_config){.size = 1, .refill_time_ms = 50};
	start(f);
	post(&f->ring, 0, 0);
	post(&f->ring, 1, 0);
	slot_kick(&f->slot, 0); /* two of one operation */
	assert_int_equal(answer_to(&f->ring, 0), 0);
	assert_int_equal(answer_to(&f->ring, 1), 0);
	post(&f->ring, 2, 0);
	slot_kick(&f->slot, 0);
	assert_false(ring_take(&f->ring, &id, &len));
	assert_int_equal(f->metrics.rate_limiter_throttled_events.value, 1);
	assert_true(turn_until(f->loop, one_came_back, &f->ring));
	assert_int_equal(disk.syncs, 2);
	assert_int_equal(f->metrics.rate_limiter_event_count.value, 1);
}

static void test_other_limit_lets_go_what_waits(void **state)
{
	const struct rate_limiter_update none = {.has_ops = true};
	struct fixture *f = *state;
	uint32_t id, len;

	f->limits.ops = (struct token_bucket_config){.size = 1,
						     .refill_time_ms = 100000};
	start(f);
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(answer_to(&f->ring, 0), 0);
	post(&f->ring, 1, 0);
	slot_kick(&f->slot, 0);
	assert_false(ring_take(&f->ring, &id, &len));
	pmem_update_limiter(f->pmem, &none);
	assert_true(turn_until(f->loop, one_came_back, &f->ring));
}

static void test_reset_forgets_what_waits(void **state)
{
	struct fixture *f = *state;

	f->limits.ops = (struct token_bucket_config){.size = 1,
						     .refill_time_ms = 100000};
	start(f);
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	post(&f->ring, 1, 0);
	slot_kick(&f->slot, 0);
	pthread_mutex_lock(&f->slot.dev->lock);
	virtio_device_reset(f->slot.dev);
	virtio_device_settle(f->slot.dev);
	pthread_mutex_unlock(&f->slot.dev->lock);
	turn_briefly(f->loop);
	assert_int_equal(disk.syncs, 1);
}

/* ------------------------------------------------------------- snapshots */

/* A second microVM, on a copy of what the first has in memory. */
struct clone {
	struct ring ring;
	struct slot slot;
};

static int clone_load(struct fixture *f, struct clone *clone,
		      const struct state_file *file, struct error *err)
{
	clone->ring = f->ring;
	clone->ring.mem = memory_copy(f->ring.mem);
	slot_create(&clone->slot, pmem_virtio(create(f)), f->loop,
		    clone->ring.mem);
	loop_enable_devices(f->loop, true);
	return slot_load(&clone->slot, file, err);
}

static void clone_destroy(struct clone *clone)
{
	slot_destroy(&clone->slot);
	ring_destroy(&clone->ring);
}

static void test_save_syncs_and_a_clone_goes_on(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_file file;
	struct clone clone;

	start(f);
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	assert_int_equal(answer_to(&f->ring, 0), 0);
	post(&f->ring, 1, 0); /* its kick is lost */
	slot_save(&f->slot, &file);
	assert_int_equal(disk.syncs, 2);
	assert_int_equal(clone_load(f, &clone, &file, &err), 0);
	turn_briefly(f->loop);
	assert_int_equal(answer_to(&clone.ring, 1), 0);
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_clone_keeps_to_the_limit(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	struct state_file file;
	struct clone clone;
	uint32_t id, len;

	f->limits.ops = (struct token_bucket_config){.size = 1,
						     .refill_time_ms = 100000};
	start(f);
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	post(&f->ring, 1, 0);
	slot_save(&f->slot, &file);
	f->ring.device_idx = 1;
	assert_int_equal(clone_load(f, &clone, &file, &err), 0);
	turn_briefly(f->loop);
	assert_false(ring_take(&clone.ring, &id, &len));
	clone_destroy(&clone);
	state_file_release(&file);
}

static void test_other_file_is_refused(void **state)
{
	static const struct {
		off_t size;
		const char *text;
	} cases[] = {
		{FILE_SIZE - 1, "the pmem file has 2097251 bytes, the snapshot "
				"was taken with 2097252"},
		{FILE_SIZE + 1, "the pmem file has 2097253 bytes, the snapshot "
				"was taken with 2097252"},
		{1, "the sizes of pmem files, in whole 2 MiB must be the same "
		    "as in the snapshot"},
	};
	struct fixture *f = *state;
	struct state_file file;

	start(f);
	slot_save(&f->slot, &file);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};
		struct clone clone;

		assert_int_equal(truncate(f->path, cases[i].size), 0);
		assert_int_equal(clone_load(f, &clone, &file, &err), -EINVAL);
		if (!strstr(err.text, cases[i].text))
			fail_msg("%s", err.text);
		assert_false(clone.slot.dev->active);
		clone_destroy(&clone);
	}
	state_file_release(&file);
}

/* Whatever the byte: a sentence, or a device that works. */
static void test_damaged_bytes_do_no_harm(void **state)
{
	static const uint8_t flips[] = {0x01, 0x80, 0xff};
	struct fixture *f = *state;
	struct state_file file;
	size_t refused = 0;

	start(f);
	post(&f->ring, 0, 0);
	slot_kick(&f->slot, 0);
	post(&f->ring, 1, 0);
	slot_save(&f->slot, &file);
	for (size_t i = 0; i < file.len * ARRAY_SIZE(flips); i++) {
		size_t off = i / ARRAY_SIZE(flips);
		struct error err = {0};
		struct state_file bad;
		struct clone clone;

		if (!file_damage(&file, off,
				 file.bytes[off] ^ flips[i % ARRAY_SIZE(flips)],
				 &bad))
			continue;
		if (clone_load(f, &clone, &bad, &err)) {
			assert_true(err.text[0] != '\0');
			assert_false(clone.slot.dev->active);
			refused++;
		} else {
			turn_once(f->loop);
			slot_kick(&clone.slot, 0);
		}
		clone_destroy(&clone);
		state_file_release(&bad);
	}
	assert_true(refused > 100);
	state_file_release(&file);
}

static int quiet(void **state)
{
	const struct log_config config = {.level = LOG_LEVEL_OFF};

	(void)state;
	return log_configure(&config, NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_open_maps_the_file_and_what_is_behind),
		CASE(test_open_of_whole_huge_pages_has_nothing_behind),
		CASE(test_open_refuses_what_is_no_file),
		CASE(test_open_does_not_wait_for_a_fifo),
		CASE(test_open_of_more_than_there_are_addresses_is_refused),
		CASE(test_config_has_start_and_size),
		CASE(test_flush_syncs_the_file),
		CASE(test_flushes_that_wait_share_a_sync),
		CASE(test_flush_that_comes_during_a_sync_gets_another),
		CASE(test_sync_that_fails_fails_all_that_waited),
		CASE(test_read_only_file_needs_no_sync),
		CASE(test_other_requests_fail),
		CASE(test_malformed_requests_are_given_back),
		CASE(test_any_cut_of_the_buffers_is_served),
		CASE(test_broken_ring_needs_reset_and_no_sync),
		CASE(test_kick_without_a_request_does_nothing),
		CASE(test_limit_makes_flushes_wait),
		CASE(test_other_limit_lets_go_what_waits),
		CASE(test_reset_forgets_what_waits),
		CASE(test_save_syncs_and_a_clone_goes_on),
		CASE(test_clone_keeps_to_the_limit),
		CASE(test_other_file_is_refused),
		CASE(test_damaged_bytes_do_no_harm),
	};
#undef CASE

	return cmocka_run_group_tests(tests, quiet, NULL);
}
