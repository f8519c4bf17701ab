/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ring.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct ring ring;
	struct queue queue;
	struct chain chain;
};

static void activate(struct fixture *f, bool event_idx)
{
	struct error err = {0};

	queue_init(&f->queue, QUEUE_SIZE_MAX);
	ring_describe(&f->ring, &f->queue);
	assert_int_equal(
		queue_activate(&f->queue, f->ring.mem, event_idx, &err), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(ring_create(&f->ring, 8), 0);
	activate(f, false);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ring_destroy(&f->ring);
	free(f);
	return 0;
}

static void test_activate_bad_layout_is_refused(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint16_t size;
		uint64_t desc, driver, device;
		int ret;
	} cases[] = {
		{0, 0x1000, 0x2000, 0x3000, -EINVAL},
		{3, 0x1000, 0x2000, 0x3000, -EINVAL},
		{512, 0x1000, 0x2000, 0x3000, -EINVAL},
		{8, 0x1008, 0x2000, 0x3000, -EINVAL},
		{8, 0x1000, 0x2001, 0x3000, -EINVAL},
		{8, 0x1000, 0x2000, 0x3002, -EINVAL},
		{8, RING_MEMORY, 0x2000, 0x3000, -EFAULT},
		{8, 0x1000, RING_MEMORY - 2, 0x3000, -EFAULT},
		{8, 0x1000, 0x2000, RING_MEMORY - 8, -EFAULT},
		{8, UINT64_MAX - 15, 0x2000, 0x3000, -EFAULT},
		{8, 0x1000, UINT64_MAX - 1, 0x3000, -EFAULT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = {0};

		queue_reset(&f->queue);
		f->queue.size = cases[i].size;
		f->queue.desc_gpa = cases[i].desc;
		f->queue.driver_gpa = cases[i].driver;
		f->queue.device_gpa = cases[i].device;
		assert_int_equal(
			queue_activate(&f->queue, f->ring.mem, false, &err),
			cases[i].ret);
		assert_true(strlen(err.text) > 0);
		assert_false(f->queue.active);
	}
}

static void test_pop_empty_ring_gives_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
}

static void test_pop_splits_readable_and_writable(void **state)
{
	struct fixture *f = *state;

	ring_set_desc(&f->ring, 2, RING_DATA, 10, RING_NEXT, 5);
	ring_set_desc(&f->ring, 5, RING_DATA + 64, 0, RING_NEXT, 1);
	ring_set_desc(&f->ring, 1, RING_DATA + 128, 20, RING_NEXT | RING_WRITE,
		      0);
	ring_set_desc(&f->ring, 0, RING_DATA + 256, 1, RING_WRITE, 7);
	ring_publish(&f->ring, 2);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, 2);
	assert_int_equal(f->chain.count, 3); /* the empty one is left out */
	assert_int_equal(f->chain.readable.left, 10);
	assert_int_equal(f->chain.writable.left, 21);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 0);
}

static void test_unpop_pops_the_same_again(void **state)
{
	struct fixture *f = *state;

	ring_set_desc(&f->ring, 3, RING_DATA, 10, 0, 0);
	ring_publish(&f->ring, 3);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	queue_unpop(&f->queue, 1);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, 3);
}

static void break_head(struct ring *ring)
{
	ring_publish(ring, 8);
}

static void break_next(struct ring *ring)
{
	ring_set_desc(ring, 0, RING_DATA, 1, RING_NEXT, 8);
	ring_publish(ring, 0);
}

static void break_cycle(struct ring *ring)
{
	ring_set_desc(ring, 0, RING_DATA, 1, RING_NEXT, 1);
	ring_set_desc(ring, 1, RING_DATA, 1, RING_NEXT, 0);
	ring_publish(ring, 0);
}

static void break_self(struct ring *ring)
{
	ring_set_desc(ring, 4, RING_DATA, 1, RING_NEXT, 4);
	ring_publish(ring, 4);
}

static void break_order(struct ring *ring)
{
	ring_set_desc(ring, 0, RING_DATA, 1, RING_NEXT | RING_WRITE, 1);
	ring_set_desc(ring, 1, RING_DATA, 1, 0, 0);
	ring_publish(ring, 0);
}

static void break_indirect(struct ring *ring)
{
	ring_set_desc(ring, 0, RING_DATA, 16, RING_INDIRECT, 0);
	ring_publish(ring, 0);
}

static void break_total(struct ring *ring)
{
	ring_set_desc(ring, 0, RING_DATA, UINT32_MAX, RING_NEXT, 1);
	ring_set_desc(ring, 1, RING_DATA, UINT32_MAX, 0, 0);
	ring_publish(ring, 0);
}

static void break_index(struct ring *ring)
{
	ring_set_driver_idx(ring, 9);
}

static void test_pop_broken_ring_needs_reset(void **state)
{
	struct fixture *f = *state;
	static void (*const breakers[])(struct ring *) = {
		break_head,  break_next,     break_cycle, break_self,
		break_order, break_indirect, break_total, break_index,
	};

	for (size_t i = 0; i < ARRAY_SIZE(breakers); i++) {
		activate(f, false);
		ring_set_driver_idx(&f->ring, 0);
		breakers[i](&f->ring);
		assert_int_equal(queue_pop(&f->queue, &f->chain), -EPROTO);
		/* It stays broken, whatever the driver mends. */
		ring_set_driver_idx(&f->ring, 0);
		assert_int_equal(queue_pop(&f->queue, &f->chain), -EPROTO);
	}
}

static void test_push_fills_the_used_ring(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	ring_set_desc(&f->ring, 6, RING_DATA, 4, RING_WRITE, 0);
	for (int i = 0; i < 20; i++) { /* more often than the ring is long */
		ring_publish(&f->ring, 6);
		assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
		assert_int_equal(chain_write(&f->chain, "abc", 3), 0);
		queue_push(&f->queue, &f->chain);
		assert_true(ring_take(&f->ring, &id, &len));
		assert_int_equal(id, 6);
		assert_int_equal(len, 3);
	}
	assert_false(ring_take(&f->ring, &id, &len));
}

static void test_interrupt_follows_the_driver_flag(void **state)
{
	struct fixture *f = *state;

	assert_true(queue_interrupt_wanted(&f->queue));
	ring_set_driver_flags(&f->ring, 1);
	assert_false(queue_interrupt_wanted(&f->queue));
}

static void push_one(struct fixture *f)
{
	ring_set_desc(&f->ring, 0, RING_DATA, 4, RING_WRITE, 0);
	ring_publish(&f->ring, 0);
	assert_int_equal(queue_pop(&f->queue, &f->chain), 1);
	queue_push(&f->queue, &f->chain);
}

static void test_interrupt_follows_used_event(void **state)
{
	struct fixture *f = *state;

	activate(f, true);
	push_one(f);
	assert_true(queue_interrupt_wanted(&f->queue)); /* the first always */
	ring_set_used_event(&f->ring, 3);
	push_one(f);
	assert_false(queue_interrupt_wanted(&f->queue)); /* 2 */
	push_one(f);
	assert_false(queue_interrupt_wanted(&f->queue)); /* 3 */
	push_one(f);
	assert_true(queue_interrupt_wanted(&f->queue)); /* passes 3 */
	push_one(f);
	assert_false(queue_interrupt_wanted(&f->queue));
}

static void test_kicks_are_turned_off_and_on(void **state)
{
	struct fixture *f = *state;

	queue_kicks_disable(&f->queue);
	assert_int_equal(ring_device_flags(&f->ring), 1);
	assert_false(queue_kicks_enable(&f->queue));
	assert_int_equal(ring_device_flags(&f->ring), 0);
	ring_publish(&f->ring, 0);
	assert_true(queue_kicks_enable(&f->queue));
}

static void test_kicks_with_event_idx_name_the_next_request(void **state)
{
	struct fixture *f = *state;

	activate(f, true);
	push_one(f);
	assert_false(queue_kicks_enable(&f->queue));
	assert_int_equal(ring_avail_event(&f->ring), 1);
	assert_int_equal(ring_device_flags(&f->ring), 0);
}

/* The driver kicks when it passes avail_event: that must not be behind. */
static void test_kick_at_next_is_past_what_waits(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < 5; i++)
		ring_publish(&f->ring, 0);
	queue_kicks_disable(&f->queue);
	assert_int_equal(queue_kick_at_next(&f->queue), 5);
	assert_int_equal(ring_device_flags(&f->ring), 0);
	activate(f, true);
	assert_int_equal(queue_kick_at_next(&f->queue), 5);
	assert_int_equal(ring_avail_event(&f->ring), 5);
	assert_int_equal(queue_driver_index(&f->queue), 5);
}

static void test_adopt_used_goes_on_where_the_ring_ends(void **state)
{
	struct fixture *f = *state;

	push_one(f);
	f->queue.next_used = 77; /* somebody else kept count */
	queue_adopt_used(&f->queue);
	assert_int_equal(f->queue.next_used, 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_activate_bad_layout_is_refused),
		CASE(test_pop_empty_ring_gives_nothing),
		CASE(test_pop_splits_readable_and_writable),
		CASE(test_unpop_pops_the_same_again),
		CASE(test_pop_broken_ring_needs_reset),
		CASE(test_push_fills_the_used_ring),
		CASE(test_interrupt_follows_the_driver_flag),
		CASE(test_interrupt_follows_used_event),
		CASE(test_kicks_are_turned_off_and_on),
		CASE(test_kicks_with_event_idx_name_the_next_request),
		CASE(test_kick_at_next_is_past_what_waits),
		CASE(test_adopt_used_goes_on_where_the_ring_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
