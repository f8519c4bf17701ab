/* SPDX-License-Identifier: Apache-2.0 */
/* Block devices on the kernel's io_uring, and what else that ring can do:
 * nothing. Skipped where the kernel has none for us. */
#include "tests/fake/slot.h"
#include "tests/fake/turn.h"
#include "virtio/block.h"
#include "virtio/block_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#define RING_SIZE 64
#define REQUESTS 16
#define LENGTH 0x8000u
#define HEADER(i) (RING_DATA + 0x8000 + (i)*UINT64_C(0x1000))
#define STATUS(i) (HEADER(i) + 0x100)
#define DATA(i) (RING_DATA + 0x20000 + (i) * (uint64_t)LENGTH)
#define SECTORS (REQUESTS * LENGTH / 512)
#define IN 0
#define OUT 1
#define FLUSH 4
#define ROUNDS 30

struct fixture {
	struct ring ring;
	struct loop *loop;
	struct block_ring *block_ring;
	struct block_metrics metrics;
	struct block *block;
	struct slot slot;
	int disk;
	char path[32];
	unsigned back; /* requests that came back */
};

static void activate(struct fixture *f)
{
	struct ring *rings[1] = {&f->ring};

	f->ring.driver_idx = f->ring.device_idx = 0;
	ring_set_driver_idx(&f->ring, 0);
	assert_int_equal(gmem_zero(f->ring.mem, RING_DEVICE, 4), 0);
	slot_activate(&f->slot, rings, ~BIT(VIRTIO_F_EVENT_IDX));
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct drive_config config = {.cache_type = CACHE_WRITEBACK};

	assert_non_null(f);
	*state = f;
	if (block_ring_create(&f->block_ring, NULL))
		return 0;
	strcpy(f->path, "/tmp/ember-ring-XXXXXX");
	f->disk = mkstemp(f->path);
	assert_int_equal(ftruncate(f->disk, SECTORS * 512), 0);
	assert_int_equal(loop_create(&f->loop), 0);
	assert_int_equal(ring_create(&f->ring, RING_SIZE), 0);
	config.drive_id = config.path_on_host = f->path;
	assert_int_equal(block_create(&f->block, &config, &f->metrics, NULL),
			 0);
	assert_int_equal(block_use_ring(f->block, f->block_ring, NULL), 0);
	slot_create(&f->slot, block_virtio(f->block), f->loop, f->ring.mem);
	activate(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->block_ring) {
		slot_destroy(&f->slot);
		block_ring_destroy(f->block_ring);
		ring_destroy(&f->ring);
		loop_destroy(f->loop);
		close_fd(&f->disk);
		unlink(f->path);
	}
	free(f);
	return 0;
}

static struct fixture *need_ring(void **state)
{
	struct fixture *f = *state;

	if (!f->block_ring)
		skip();
	return f;
}

/* Of all of the @i-th part of the disk. */
static void post_to(struct ring *ring, uint16_t i, uint32_t type)
{
	const struct {
		le32 type, reserved;
		le64 sector;
	} header = {le32_make(type), {0}, le64_make(i * (LENGTH / 512))};
	uint16_t first = (uint16_t)(4 * i), out = type == IN ? RING_WRITE : 0;

	assert_int_equal(
		gmem_write(ring->mem, HEADER(i), &header, sizeof(header)), 0);
	assert_int_equal(gmem_write(ring->mem, STATUS(i), "\xee", 1), 0);
	ring_set_desc(ring, first, HEADER(i), 16, RING_NEXT,
		      (uint16_t)(first + 1));
	ring_set_desc(ring, (uint16_t)(first + 1), DATA(i),
		      type == FLUSH ? 0 : LENGTH, out | RING_NEXT,
		      (uint16_t)(first + 2));
	ring_set_desc(ring, (uint16_t)(first + 2), STATUS(i), 1, RING_WRITE, 0);
	ring_publish(ring, first);
}

static void post(struct fixture *f, uint16_t i, uint32_t type)
{
	post_to(&f->ring, i, type);
}

static void fill(struct fixture *f, uint16_t i, uint8_t value)
{
	static uint8_t data[LENGTH];

	memset(data, value, sizeof(data));
	assert_int_equal(gmem_write(f->ring.mem, DATA(i), data, sizeof(data)),
			 0);
}

static bool all_back(void *arg)
{
	struct fixture *f = arg;
	uint32_t id, len;

	while (ring_take(&f->ring, &id, &len))
		f->back++;
	return f->back >= REQUESTS;
}

static void wait_for_all(struct fixture *f)
{
	f->back = 0;
	assert_true(turn_until(f->loop, all_back, f));
	for (uint16_t i = 0; i < REQUESTS; i++) {
		uint8_t status;

		assert_int_equal(gmem_read(f->ring.mem, STATUS(i), &status, 1),
				 0);
		assert_int_equal(status, 0);
	}
}

static void test_what_is_written_is_read_back(void **state)
{
	struct fixture *f = need_ring(state);
	uint8_t byte;

	for (uint16_t i = 0; i < REQUESTS; i++) {
		fill(f, i, (uint8_t)(i + 1));
		post(f, i, OUT);
	}
	slot_kick(&f->slot, 0);
	wait_for_all(f);
	assert_int_equal(fdatasync(f->disk), 0);
	assert_int_equal(posix_fadvise(f->disk, 0, 0, POSIX_FADV_DONTNEED), 0);
	for (uint16_t i = 0; i < REQUESTS; i++) {
		fill(f, i, 0);
		post(f, i, IN);
	}
	slot_kick(&f->slot, 0);
	wait_for_all(f);
	for (uint16_t i = 0; i < REQUESTS; i++) {
		assert_int_equal(
			gmem_read(f->ring.mem, DATA(i) + LENGTH - 1, &byte, 1),
			0);
		assert_int_equal(byte, i + 1);
	}
	assert_int_equal(f->metrics.read_bytes.value, REQUESTS * LENGTH);
}

/* Writes, with a flush at the end that takes a disk's time. */
static void keep_busy(struct fixture *f)
{
	for (uint16_t i = 0; i < REQUESTS - 1; i++)
		post(f, i, OUT);
	post(f, REQUESTS - 1, FLUSH);
	slot_kick(&f->slot, 0);
}

struct pair {
	struct fixture *f;
	struct ring *other;
	unsigned back[2];
};

static bool both_back(void *arg)
{
	struct pair *pair = arg;
	uint32_t id, len;

	while (ring_take(&pair->f->ring, &id, &len))
		pair->back[0]++;
	while (ring_take(pair->other, &id, &len))
		pair->back[1]++;
	return pair->back[0] == REQUESTS / 2 && pair->back[1] == REQUESTS / 2;
}

/* Whoever looks at the ring finds what is the other's as well. */
static void test_two_devices_share_the_ring(void **state)
{
	struct fixture *f = need_ring(state);
	const struct drive_config config = {
		.drive_id = f->path,
		.path_on_host = f->path,
		.cache_type = CACHE_WRITEBACK,
	};
	struct block_metrics metrics = {0};
	struct block *block = NULL;
	struct ring other;
	struct ring *rings[1] = {&other};
	struct slot slot;

	assert_int_equal(block_create(&block, &config, &metrics, NULL), 0);
	assert_int_equal(block_use_ring(block, f->block_ring, NULL), 0);
	ring_share(&other, &f->ring, 2, RING_SIZE);
	slot_create(&slot, block_virtio(block), f->loop, f->ring.mem);
	slot_activate(&slot, rings, ~BIT(VIRTIO_F_EVENT_IDX));
	for (int round = 0; round < ROUNDS; round++) {
		struct pair pair = {.f = f, .other = &other};

		for (uint16_t i = 0; i < REQUESTS / 2; i++) {
			post(f, i, i % 4 ? OUT : FLUSH);
			post_to(&other, (uint16_t)(i + REQUESTS / 2),
				i % 4 ? IN : FLUSH);
			slot_kick(&f->slot, 0);
			slot_kick(&slot, 0);
		}
		assert_true(turn_until(f->loop, both_back, &pair));
	}
	slot_destroy(&slot);
}

static int open_impatient(const struct fixture *f)
{
	int fd = open(f->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Else the kernel takes them for files that nobody ever has to wait for. */
static void test_files_of_the_ring_may_be_waited_for(void **state)
{
	struct fixture *f = need_ring(state);
	int first = open_impatient(f), second = open_impatient(f);
	struct block_ring_user user = {0};

	assert_int_equal(block_ring_join(f->block_ring, &user, first), 0);
	assert_false(fcntl(first, F_GETFL) & O_NONBLOCK);
	assert_int_equal(block_ring_set_file(&user, second), 0);
	assert_false(fcntl(second, F_GETFL) & O_NONBLOCK);
	block_ring_leave(&user);
	close_fd(&first);
	close_fd(&second);
}

static void *reset(void *arg)
{
	struct virtio_device *dev = arg;

	pthread_mutex_lock(&dev->lock);
	virtio_device_reset(dev);
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

/* By another thread, while the loop's may be waiting for the device's lock. */
static void test_reset_by_another_thread_ends_all(void **state)
{
	struct fixture *f = need_ring(state);

	for (int round = 0; round < ROUNDS; round++) {
		uint32_t id, len;
		pthread_t thread;

		keep_busy(f);
		assert_int_equal(
			pthread_create(&thread, NULL, reset, f->slot.dev), 0);
		slot_kick(&f->slot, 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		while (ring_take(&f->ring, &id, &len))
			;
		turn_briefly(f->loop);
		assert_false(ring_take(&f->ring, &id, &len));
		activate(f);
	}
	for (uint16_t i = 0; i < REQUESTS; i++)
		post(f, i, IN);
	slot_kick(&f->slot, 0);
	wait_for_all(f);
}

static void test_pause_waits_for_the_disk(void **state)
{
	struct fixture *f = need_ring(state);

	keep_busy(f);
	virtio_device_hold(f->slot.dev, true);
	f->back = 0;
	assert_true(all_back(f));
	assert_int_equal(f->metrics.flush_count.value, 1);
}

/* The teardown takes everything away under them. */
static void test_destroy_with_requests_in_flight(void **state)
{
	keep_busy(need_ring(state));
}

static int find_ring(void)
{
	char path[64], target[64];

	for (int fd = 3; fd < 100; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (strstr(target, "io_uring"))
			return fd;
	}
	return -1;
}

/* Maps the same ring once more, as whoever stole it would. */
static int steal(struct io_uring *stolen)
{
	struct io_uring_params params = {0};
	struct io_uring model;
	int fd = find_ring();

	assert_true(fd >= 0);
	assert_int_equal(
		io_uring_queue_init_params(BLOCK_RING_DEPTH, &model, &params),
		0);
	io_uring_queue_exit(&model);
	assert_int_equal(io_uring_queue_mmap(fd, &params, stolen), 0);
	return fd;
}

static struct io_uring_sqe *entry(struct io_uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(uring);

	if (!sqe)
		abort();
	return sqe;
}

static int result(struct io_uring *uring)
{
	struct io_uring_cqe *cqe;
	int ret;

	assert_true(io_uring_submit(uring) >= 0);
	assert_int_equal(io_uring_wait_cqe(uring, &cqe), 0);
	ret = cqe->res;
	io_uring_cqe_seen(uring, cqe);
	return ret;
}

static void test_stolen_ring_does_nothing_else(void **state)
{
	struct fixture *f = need_ring(state);
	struct io_uring uring;
	char byte;
	struct iovec iov = {&byte, 1};
	int fd = steal(&uring);

	io_uring_prep_openat(entry(&uring), AT_FDCWD, "/dev/null", O_RDONLY, 0);
	assert_int_equal(result(&uring), -EACCES);
	io_uring_prep_nop(entry(&uring));
	assert_int_equal(result(&uring), -EACCES);
	/* by a number of a descriptor, not of the table */
	io_uring_prep_readv(entry(&uring), f->disk, &iov, 1, 0);
	assert_int_equal(result(&uring), -EACCES);
	assert_int_equal(syscall(SYS_io_uring_register, fd,
				 IORING_REGISTER_BUFFERS, &iov, 1),
			 -1);
	assert_int_equal(errno, EACCES);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_what_is_written_is_read_back),
		CASE(test_two_devices_share_the_ring),
		CASE(test_files_of_the_ring_may_be_waited_for),
		CASE(test_reset_by_another_thread_ends_all),
		CASE(test_pause_waits_for_the_disk),
		CASE(test_destroy_with_requests_in_flight),
		CASE(test_stolen_ring_does_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
