/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"
#include "virtio/rx_window.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LEAST 12
/* Far enough apart for the longest. */
#define BUFFER(i) (RING_DATA + (i)*UINT64_C(0x3000))

static uint8_t behind[16];
static const struct iovec tail = {behind, sizeof(behind)};

struct fixture {
	struct ring ring;
	struct queue queue;
	struct rx_window window;
};

static void start(struct fixture *f, uint16_t size)
{
	assert_int_equal(ring_create(&f->ring, size), 0);
	queue_init(&f->queue, QUEUE_SIZE_MAX);
	ring_describe(&f->ring, &f->queue);
	assert_int_equal(queue_activate(&f->queue, f->ring.mem, false, NULL),
			 0);
	rx_window_init(&f->window, &f->queue, LEAST);
}

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct fixture));
	assert_non_null(*state);
	start(*state, 8);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ring_destroy(&f->ring);
	free(f);
	return 0;
}

static void post(struct fixture *f, uint16_t i, uint32_t len)
{
	ring_set_desc(&f->ring, i, BUFFER(i), len, RING_WRITE, 0);
	ring_publish(&f->ring, i);
}

static void test_fill_takes_no_more_than_needed(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < 4; i++)
		post(f, i, 100);
	assert_int_equal(rx_window_fill(&f->window, 150), 0);
	assert_int_equal(f->window.count, 2);
	assert_int_equal(f->window.bytes, 200);
	assert_false(rx_window_full(&f->window));
	assert_int_equal(rx_window_fill(&f->window, 1000), 0);
	assert_int_equal(f->window.bytes, 400);
	assert_false(rx_window_publish(&f->window));
}

static void test_write_and_return_in_order(void **state)
{
	struct fixture *f = *state;
	uint8_t text[150], back[150];
	uint32_t id, len;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)i;
	for (uint16_t i = 0; i < 3; i++)
		post(f, i, 60);
	assert_int_equal(rx_window_fill(&f->window, 180), 0);
	rx_window_write(&f->window, 5, text, sizeof(text));
	assert_int_equal(gmem_read(f->ring.mem, BUFFER(0) + 5, back, 55), 0);
	assert_int_equal(gmem_read(f->ring.mem, BUFFER(1), back + 55, 60), 0);
	assert_int_equal(gmem_read(f->ring.mem, BUFFER(2), back + 115, 35), 0);
	assert_memory_equal(text, back, sizeof(text));
	rx_window_return(&f->window, 60);
	rx_window_return(&f->window, 17);
	assert_false(ring_take(&f->ring, &id, &len)); /* not yet published */
	assert_true(rx_window_publish(&f->window));
	assert_true(ring_take(&f->ring, &id, &len));
	assert_int_equal(id, 0);
	assert_int_equal(len, 60);
	assert_true(ring_take(&f->ring, &id, &len));
	assert_int_equal(id, 1);
	assert_int_equal(len, 17);
	assert_int_equal(f->window.count, 1);
	assert_false(rx_window_publish(&f->window));
}

/* A buffer of three descriptors, seen from some byte in it. */
static void test_iov_of_a_chain(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[4];
	const struct iovec *all;
	struct iovec front[4];

	ring_set_desc(&f->ring, 0, BUFFER(0), 10, RING_WRITE | RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, BUFFER(1), 20, RING_WRITE | RING_NEXT, 2);
	ring_set_desc(&f->ring, 2, BUFFER(2), 30, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	post(f, 3, 40);
	assert_int_equal(rx_window_fill(&f->window, 100), 0);
	assert_int_equal(rx_window_all(&f->window, &tail, &all), 5);
	assert_int_equal(all[3].iov_len, 40);
	assert_int_equal(rx_window_iov(&f->window, 0, 0, 60, front, 4), 3);
	assert_int_equal(front[2].iov_len, 30);
	assert_int_equal(rx_window_iov(&f->window, 0, 12, 33, iov, 4), 2);
	assert_ptr_equal(iov[0].iov_base, (uint8_t *)front[1].iov_base + 2);
	assert_int_equal(iov[0].iov_len, 18);
	assert_ptr_equal(iov[1].iov_base, front[2].iov_base);
	assert_int_equal(iov[1].iov_len, 15);
	assert_int_equal(rx_window_iov(&f->window, 0, 0, 60, iov, 2), 2);
	assert_int_equal(rx_window_iov(&f->window, 1, 39, 1, iov, 4), 1);
	assert_int_equal(iov[0].iov_len, 1);
}

/* Buffers that lie one behind the other are one piece for the kernel, and stay
 * so as they go. */
static void test_neighbours_are_joined(void **state)
{
	struct fixture *f = *state;
	const struct iovec *all;
	uint8_t *start;

	for (uint16_t i = 0; i < 4; i++) {
		ring_set_desc(&f->ring, i, BUFFER(0) + i * UINT64_C(100), 100,
			      RING_WRITE, 0);
		ring_publish(&f->ring, i);
	}
	post(f, 5, 50);
	assert_int_equal(rx_window_fill(&f->window, 450), 0);
	assert_int_equal(f->window.count, 5);
	assert_int_equal(rx_window_all(&f->window, &tail, &all), 3);
	assert_int_equal(all[0].iov_len, 400);
	assert_ptr_equal(all[2].iov_base, tail.iov_base);
	start = all[0].iov_base;
	rx_window_return(&f->window, 7);
	assert_int_equal(rx_window_all(&f->window, &tail, &all), 3);
	assert_int_equal(all[0].iov_len, 300);
	assert_ptr_equal(all[0].iov_base, start + 100);
	for (int i = 0; i < 3; i++)
		rx_window_return(&f->window, 0);
	assert_int_equal(rx_window_all(&f->window, &tail, &all), 2);
	assert_int_equal(all[0].iov_len, 50);
	rx_window_return(&f->window, 0);
	assert_int_equal(rx_window_all(&f->window, &tail, &all), 1);
}

static void test_unusable_buffers_break_the_queue(void **state)
{
	static const struct {
		uint64_t at;
		uint32_t len;
		uint16_t flags;
	} cases[] = {
		{BUFFER(0), LEAST - 1, RING_WRITE},
		{BUFFER(0), 0, RING_WRITE},
		{BUFFER(0), 100, 0},
		{RING_MEMORY - 4, 100, RING_WRITE},
		{UINT64_MAX - 4, 100, RING_WRITE},
		{BUFFER(0), UINT32_MAX, RING_WRITE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture f;

		start(&f, 8);
		ring_set_desc(&f.ring, 0, cases[i].at, cases[i].len,
			      cases[i].flags, 0);
		ring_publish(&f.ring, 0);
		assert_int_equal(rx_window_fill(&f.window, 1), -EPROTO);
		assert_int_equal(f.window.count, 0);
		ring_destroy(&f.ring);
	}
}

/* Many more buffers than the arrays hold, always a few in the window. */
static void test_arrays_wrap_around(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	for (uint16_t i = 0; i < 8; i++)
		post(f, i, 100);
	for (uint16_t round = 0; round < 2000; round++) {
		uint8_t expected = (uint8_t)round, byte;

		assert_int_equal(rx_window_fill(&f->window, 800), 0);
		assert_int_equal(f->window.count, 8);
		rx_window_write(&f->window, 0, &expected, 1);
		rx_window_return(&f->window, 1);
		assert_true(rx_window_publish(&f->window));
		assert_true(ring_take(&f->ring, &id, &len));
		assert_int_equal(id, round % 8);
		assert_int_equal(gmem_read(f->ring.mem, BUFFER(id), &byte, 1),
				 0);
		assert_int_equal(byte, expected);
		post(f, (uint16_t)id, 100);
	}
}

static void test_full_when_all_is_popped(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < 8; i++)
		post(f, i, LEAST);
	assert_int_equal(rx_window_fill(&f->window, 65536), 0);
	assert_int_equal(f->window.count, 8);
	assert_true(rx_window_full(&f->window));
}

static void test_broken_ring_is_reported(void **state)
{
	struct fixture *f = *state;

	post(f, 0, 100);
	ring_publish(&f->ring, 9); /* no such descriptor */
	assert_int_equal(rx_window_fill(&f->window, 100), 0);
	assert_int_equal(rx_window_fill(&f->window, 101), -EPROTO);
	assert_int_equal(f->window.count, 1);
}

static void test_written_pages_are_marked_dirty(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(gmem_track_dirty(f->ring.mem), 0);
	for (uint16_t i = 0; i < 2; i++)
		post(f, i, 0x3000);
	assert_int_equal(rx_window_fill(&f->window, 0x6000), 0);
	rx_window_return(&f->window, 0x1001);
	rx_window_return(&f->window, 0);
	assert_int_equal(f->window.bytes, 0);
	assert_true(gmem_page_dirty(f->ring.mem, BUFFER(0)));
	assert_true(gmem_page_dirty(f->ring.mem, BUFFER(0) + 0x1000));
	assert_false(gmem_page_dirty(f->ring.mem, BUFFER(0) + 0x2000));
	assert_false(gmem_page_dirty(f->ring.mem, BUFFER(1) + 0x2000));
}

static void test_unpop_takes_in_the_same_again(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	for (uint16_t i = 0; i < 4; i++)
		post(f, i, 100);
	assert_int_equal(rx_window_fill(&f->window, 350), 0);
	assert_int_equal(f->window.count, 4);
	rx_window_return(&f->window, 100);
	assert_true(rx_window_publish(&f->window));
	rx_window_unpop(&f->window);
	assert_int_equal(queue_pending(&f->queue), 3);
	assert_int_equal(f->window.bytes, 0);
	assert_int_equal(rx_window_fill(&f->window, 150), 0);
	rx_window_return(&f->window, 100);
	assert_true(rx_window_publish(&f->window));
	for (uint16_t i = 0; i < 2; i++) {
		assert_true(ring_take(&f->ring, &id, &len));
		assert_int_equal(id, i);
	}
	assert_false(ring_take(&f->ring, &id, &len));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_fill_takes_no_more_than_needed),
		CASE(test_write_and_return_in_order),
		CASE(test_iov_of_a_chain),
		CASE(test_neighbours_are_joined),
		CASE(test_unusable_buffers_break_the_queue),
		CASE(test_arrays_wrap_around),
		CASE(test_full_when_all_is_popped),
		CASE(test_broken_ring_is_reported),
		CASE(test_written_pages_are_marked_dirty),
		CASE(test_unpop_takes_in_the_same_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
